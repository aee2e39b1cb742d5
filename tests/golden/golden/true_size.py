"""Names and shapes of the tensors of published models: the state of the reference class at the published configuration,
made on PyTorch's meta device, so that nothing is downloaded or allocated. Each folder of `true_size/` holds a `config.json`
and gets a `tensors.txt`; a new model is a new folder."""

import json
from itertools import groupby

import torch

from .common import ROOT


# Classes that neither library has, written again from their papers.
OWN = {"TAEHV": ("taehv", "Taehv"), "DiT": ("dit_transformer", "Dit"), "UViT": ("uvit", "Uvit"), "MDTv2": ("mdt", "Mdt"),
       "DiffiT": ("mdt", "Diffit")}


def generate() -> None:
    for config in sorted((ROOT / "true_size").glob("*/config.json")):
        values = json.loads(config.read_text())
        state = _model(values).state_dict()
        lines = compact({name: list(tensor.shape) for name, tensor in state.items()})
        (config.parent / "tensors.txt").write_text("\n".join(lines) + "\n")
        print(f"  {config.parent.name}: {len(state)} tensors in {len(lines)} lines")


def _model(config: dict) -> torch.nn.Module:
    with torch.device("meta"):
        if "_class_name" in config:
            import diffusers

            if config["_class_name"] in OWN:
                from importlib import import_module

                module, name = OWN[config["_class_name"]]
                cls = getattr(import_module(f".{module}", __package__), name)
                return cls(**{name: value for name, value in config.items() if name != "_class_name"})
            return getattr(diffusers, config["_class_name"]).from_config(config)
        import transformers

        cls = getattr(transformers, config["architectures"][0])
        return cls(cls.config_class(**config))


def compact(shapes: dict[str, list[int]]) -> list[str]:
    """`name [shape]` by line; names that differ in their first number alone, and not in shape, are one line:
    `blocks.{0..29}.norm.weight [64]`."""

    def split(name: str) -> tuple[str, int, str]:
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is None:
            return name, -1, ""
        return ".".join(parts[:at]), int(parts[at]), ".".join(parts[at + 1 :])

    def key(item: tuple[str, list[int]]) -> tuple:
        head, number, tail = split(item[0])
        return head, tail, item[1], number

    lines = []
    for (head, tail, shape), group in groupby(sorted(shapes.items(), key=key), key=lambda item: key(item)[:3]):
        numbers = [split(name)[1] for name, _ in group]
        while numbers:
            last = next(i for i in range(len(numbers)) if i + 1 == len(numbers) or numbers[i + 1] != numbers[i] + 1)
            first, end = numbers[0], numbers[last]
            number = str(first) if first == end else f"{{{first}..{end}}}"
            name = head if first < 0 else ".".join(part for part in (head, number, tail) if part)
            lines.append(f"{name} {shape}")
            numbers = numbers[last + 1 :]
    return lines

"""Shared helpers: seeded parameters, float64 evaluation, safetensors files."""

import copy
import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(gen: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard normal float32 values."""
    return torch.randn(*shape, generator=gen, dtype=torch.float32)


def seed_parameters(model: torch.nn.Module, seed: int, storage: torch.dtype) -> None:
    """Gives every parameter a value that matters and is exactly representable in `storage`.

    Default initialisation leaves biases and tables at zero and norm gains at one, so a runtime
    that forgets them would pass. Parameters end up float64 and hold values rounded to `storage`.
    """
    gen = generator(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.endswith("timestep_scale_multiplier"):
                continue
            value = normal(gen, *parameter.shape)
            if name.endswith("gamma"):
                value = 1.0 + 0.2 * value
            elif parameter.dim() >= 2 and not re.search(r"table|per_channel_scale|pos_embed", name):
                value = value / max(parameter[0].numel(), 1) ** 0.5
            elif re.search(r"norm.*weight$", name, re.IGNORECASE):
                value = 1.0 + 0.2 * value
            else:
                value = 0.2 * value
            parameter.copy_(value.to(storage))
    model.to(torch.float64).eval()


def save_model(model, folder: Path, storage: torch.dtype, **kwargs) -> None:
    """Writes config.json and the weights in `storage`, laid out as the library does it."""
    # A copy, because tables that are no weights (rotary ones) would be rounded too.
    copy.deepcopy(model).to(storage).save_pretrained(folder, safe_serialization=True, **kwargs)
    clean_config(folder / "config.json")


def clean_config(path: Path) -> None:
    """Drops what depends on the machine, so that regenerating gives the same bytes."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_case(folder: Path, case: str, inputs: dict, expected: dict) -> None:
    """Writes inputs_<case>.safetensors and expected_<case>.safetensors; integers become [1] int64."""
    as_tensor = {
        name: torch.tensor([value]) if isinstance(value, int) else value.contiguous()
        for name, value in inputs.items()
    }
    save_file(as_tensor, folder / f"inputs_{case}.safetensors")
    rounded = {name: value.to(torch.float32).contiguous() for name, value in expected.items()}
    for name, value in rounded.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{folder.name}/{case}: {name} is not finite")
    save_file(rounded, folder / f"expected_{case}.safetensors")


def fresh(*parts: str) -> Path:
    """An empty output folder under tests/golden."""
    folder = ROOT.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()
    return folder


def quiet() -> None:
    """Keeps the libraries' advice and progress bars out of the output."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

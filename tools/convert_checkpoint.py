"""Converts a PyTorch checkpoint (.pt, .pth, .ckpt, .bin) to safetensors, which can be read without running a program.

    python tools/convert_checkpoint.py model.pt [model.safetensors] [--key generator_ema] [--dtype f16]

Needs torch and safetensors. Only weights are unpickled (`weights_only=True`): what would run code is refused.
"""

import argparse
import sys
from pathlib import Path

# Where training scripts keep the weights, the averaged ones first.
KEYS = ["generator_ema", "ema", "generator", "state_dict", "model", "module"]
# What wrappers put before names.
WRAPPERS = ["_fsdp_wrapped_module.", "_orig_mod.", "_checkpoint_wrapped_module.", "module."]


def weights(loaded, key: str | None) -> dict:
    """The tensors of a checkpoint, wherever it keeps them."""
    import torch

    while True:
        if not isinstance(loaded, dict):
            sys.exit(f"expected a dictionary of tensors, found {type(loaded).__name__}")
        if key is not None:
            if key not in loaded:
                sys.exit(f"no `{key}` in the file; it has {', '.join(map(str, list(loaded)[:20]))}")
            loaded, key = loaded[key], None
            continue
        if any(isinstance(value, torch.Tensor) for value in loaded.values()):
            return loaded
        key = next((name for name in KEYS if name in loaded), None)
        if key is None:
            sys.exit(f"no weights found; the file has {', '.join(map(str, list(loaded)[:20]))}; name one by --key")
        print(f"taking `{key}`")


def plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("model.") if name.startswith("model.") and not name.startswith("model.diffusion_model.") else name


def convert(source: Path, target: Path, key: str | None, dtype: str | None) -> int:
    import torch
    from safetensors.torch import save_file

    types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    loaded = weights(torch.load(source, map_location="cpu", weights_only=True, mmap=True), key)
    tensors = {}
    for name, value in loaded.items():
        if not isinstance(value, torch.Tensor):
            print(f"left out `{name}`, which is no tensor")
            continue
        if dtype is not None and value.is_floating_point():
            value = value.to(types[dtype])
        # A copy of its own: tensors of a pickle may share memory, those of safetensors may not.
        if plain(name) in tensors:
            sys.exit(f"two tensors are called `{plain(name)}`")
        tensors[plain(name)] = value.clone().contiguous()
    part = target.with_name(f".{target.name}.part")
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(target)
    return len(tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", help="default: the source with the ending .safetensors")
    parser.add_argument("--key", help="which weights of several, like generator_ema")
    parser.add_argument("--dtype", choices=["f32", "f16", "bf16"], help="default: as they are")
    args = parser.parse_args()
    target = args.target or args.source.with_suffix(".safetensors")
    if target.exists():
        sys.exit(f"{target} exists already")
    print(f"{convert(args.source, target, args.key, args.dtype)} tensors written to {target}")


if __name__ == "__main__":
    main()

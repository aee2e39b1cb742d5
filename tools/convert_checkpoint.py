"""Converts a PyTorch checkpoint (.pt, .pth, .ckpt, .bin) to safetensors, which can be read without running a program.

    python tools/convert_checkpoint.py model.pt [model.safetensors] [--key generator_ema] [--dtype f16]
    python tools/convert_checkpoint.py framewise-2step.pt model/transformer/weights.safetensors --causal 1 --steps 2 --first-steps 4

Needs torch and safetensors. Only weights are unpickled (`weights_only=True`): what would run code is refused. With `--causal` the
checkpoint is a Wan that goes through a clip block by block, which its file does not say: `kinora.causal` is written into the
`config.json` beside the weights, which is made from their shapes if there is none.
"""

import argparse
import json
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


def configuration(tensors: dict) -> dict:
    """The `config.json` of a Wan transformer with the names of its authors or of diffusers, from shapes alone."""

    def shape(*names: str):
        found = next((tensors[name].shape for name in names if name in tensors), None)
        return found or sys.exit(f"no `{names[0]}` in the file, so it is no Wan transformer; put the config.json beside the target")

    width, channels, *patch = shape("patch_embedding.weight")
    text = shape("text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight")
    time = shape("time_embedding.0.weight", "condition_embedder.time_embedder.linear_1.weight")
    inner = shape("blocks.0.ffn.0.weight", "blocks.0.ffn.net.0.proj.weight")
    out = shape("head.head.weight", "proj_out.weight")
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    # Every published one has heads of 128 channels.
    return dict(_class_name="WanTransformer3DModel", num_attention_heads=width // 128, attention_head_dim=128, in_channels=channels,
                out_channels=out[0] // (patch[0] * patch[1] * patch[2]), patch_size=patch, text_dim=text[1], freq_dim=time[1],
                ffn_dim=inner[0], num_layers=layers)


def causal(args: argparse.Namespace) -> dict:
    """`kinora.causal`, in latent frames."""
    said = dict(block_frames=args.causal, window=args.window, sink=args.sink, context_noise=args.context_noise, steps=args.steps)
    return said | (dict(first_steps=args.first_steps) if args.first_steps else {})


def write_causal(target: Path, said: dict) -> Path:
    """Adds `kinora.causal` to the `config.json` beside the weights."""
    from safetensors.torch import load_file

    path = target.with_name("config.json")
    config = json.loads(path.read_text()) if path.exists() else configuration(load_file(target))
    config["kinora"] = config.get("kinora", {}) | dict(causal=said)
    path.write_text(json.dumps(config, indent=2) + "\n")
    return path


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
    parser.add_argument("--causal", type=int, metavar="FRAMES", help="it goes block by block, of so many latent frames: 3 or 1")
    parser.add_argument("--window", type=int, default=21, help="latent frames that a block attends to, with its own (default: 21)")
    parser.add_argument("--sink", type=int, default=0, help="of these, the first of the clip, which always stay (default: 0)")
    parser.add_argument("--context-noise", type=float, default=0.0, help="timestep of finished blocks (default: 0)")
    parser.add_argument("--steps", type=int, default=4, help="steps of a block (default: 4)")
    parser.add_argument("--first-steps", type=int, help="steps of the first block, if more")
    args = parser.parse_args()
    target = args.target or args.source.with_suffix(".safetensors")
    if target.exists():
        sys.exit(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"{convert(args.source, target, args.key, args.dtype)} tensors written to {target}")
    if args.causal:
        print(f"`kinora.causal` written to {write_causal(target, causal(args))}")


if __name__ == "__main__":
    main()

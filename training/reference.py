"""The oracle for Kinora's own pipeline: samples the exported model with PyTorch in f32.

    python -m training.reference --model models/flipbook --prompt "..." \
        --latents noise.safetensors --out reference.safetensors [--given first.safetensors]

`noise.safetensors` holds `latents` [1, C, F, H, W]: the starting noise. `--given` holds `given`
(normalised latents of the same shape) and `keep` [F], 1 for frames that are given. Written are the
text (`text` [1, L, 384], `mask` [1, L]), the latents after each step (`step_0`, ...), `latents`
(the last of them, normalised) and `frames` [F, H, W, 3] in 0..1.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from safetensors.torch import load_file, save_file

from .latents import decode
from .sampler import initial_noise, sample
from .text import TextEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/flipbook"))
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--latents", type=Path, help="starting noise; otherwise from --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--given", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    defaults = json.loads((args.model / "model_index.json").read_text())["kinora"]
    steps = args.steps or defaults["default_steps"]
    guidance = defaults["default_guidance"] if args.guidance is None else args.guidance
    model = LTXVideoTransformer3DModel.from_pretrained(args.model / "transformer").float().eval()
    vae = AutoencoderKLLTXVideo.from_pretrained(args.model / "vae").float().eval()
    encoder = TextEncoder(args.model)

    noise = load_file(args.latents)["latents"].float() if args.latents else initial_noise(args.seed)
    given = keep = None
    if args.given:
        file = load_file(args.given)
        given, keep = file["given"].float(), file["keep"].bool()
    text, mask = encoder([args.prompt])
    states = sample(
        model, noise, text, mask, encoder([""]), steps, guidance, given, keep, bf16=False
    )
    frames = decode(vae, states[-1], vae.latents_mean, vae.latents_std, bf16=False)[0]
    frames = ((frames.clamp(-1, 1) + 1) / 2).permute(1, 2, 3, 0).contiguous()
    steps_taken = {f"step_{k}": x.contiguous() for k, x in enumerate(states)}
    out = dict(noise=noise, text=text, mask=mask, latents=states[-1].clone(), frames=frames)
    save_file(out | steps_taken, args.out)
    print(f"{steps} steps, guidance {guidance}: {args.out}")


if __name__ == "__main__":
    main()

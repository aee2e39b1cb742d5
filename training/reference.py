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
from .quantise import load_model
from .sampler import initial_noise, sample
from .text import TextEncoder


class Reference:
    """The exported model of a folder, in f32."""

    def __init__(self, folder: Path):
        self.defaults = json.loads((folder / "model_index.json").read_text())["kinora"]
        self.transformer = load_model(LTXVideoTransformer3DModel, folder / "transformer")
        self.vae = load_model(AutoencoderKLLTXVideo, folder / "vae")
        self.encoder = TextEncoder(folder)

    def __call__(self, prompt, noise, given=None, keep=None, steps=None, guidance=None) -> dict:
        """Everything the module writes, by name."""
        steps = steps or self.defaults["default_steps"]
        guidance = self.defaults["default_guidance"] if guidance is None else guidance
        text, mask = self.encoder([prompt])
        empty = self.encoder([""])
        states = sample(
            self.transformer, noise, text, mask, empty, steps, guidance, given, keep, bf16=False
        )
        vae = self.vae
        frames = decode(vae, states[-1], vae.latents_mean, vae.latents_std, bf16=False)[0]
        frames = ((frames.clamp(-1, 1) + 1) / 2).permute(1, 2, 3, 0).contiguous()
        out = dict(noise=noise, text=text, mask=mask, latents=states[-1].clone(), frames=frames)
        return out | {f"step_{k}": x.contiguous() for k, x in enumerate(states)}


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

    noise = load_file(args.latents)["latents"].float() if args.latents else initial_noise(args.seed)
    given = keep = None
    if args.given:
        file = load_file(args.given)
        given, keep = file["given"].float(), file["keep"].bool()
    reference = Reference(args.model)
    save_file(reference(args.prompt, noise, given, keep, args.steps, args.guidance), args.out)
    print(args.out)


if __name__ == "__main__":
    main()

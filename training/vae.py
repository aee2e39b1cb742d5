"""Trains the video autoencoder (`AutoencoderKLLTXVideo`): 128x128x17 to 32x5x8x8.

It is trained as a plain autoencoder with a light pull of the latents to the origin and a little
noise on them; there is no sampling, so the encoder's variance channel stays unused.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo

from . import convolution
from .config import COLORS, FRAMES, SEED, SIZE, VAE
from .data import Clips, contact_sheet, psnr, random_color
from .optim import Optimizer
from .runner import Run

CROP, CROP_FRAMES = 64, 9
FULL_SIZE_FROM = 0.6  # of the run: until then crops, which are cheaper but whose borders mislead
LATENT_NOISE = 0.04
STEADINESS = 0.5
# Refining trades steadiness for motion. Start, half way and end of it, 20 and 16 clips through the
# autoencoder: 0.57, 0.81, 1.27 of the real motion energy, flicker 1.3, 1.7, 2.3 of 255.
REFINED = 0.5


def build() -> AutoencoderKLLTXVideo:
    torch.manual_seed(SEED)
    return AutoencoderKLLTXVideo(**VAE).to(memory_format=torch.channels_last_3d)


def encode(vae, video: torch.Tensor) -> torch.Tensor:
    """Latent means [B, 32, f, h, w], not yet normalised."""
    return vae.encoder(video)[:, : VAE["latent_channels"]]


def batch(clips: Clips, step: int, progress: float) -> torch.Tensor:
    """Crops of clips, sometimes single frames, at the end whole clips; fixed by the step."""
    rng = np.random.default_rng((SEED, step))
    if progress > FULL_SIZE_FROM:
        count, frames, size = (4, 1, SIZE) if step % 5 == 0 else (1, FRAMES, SIZE)
    else:
        count, frames, size = (24, 1, CROP) if step % 4 == 0 else (5, CROP_FRAMES, CROP)
    out = []
    for _ in range(count):
        clip = clips.train[rng.integers(len(clips.train))]
        top, left = rng.integers(0, SIZE - size + 1, 2)
        window = clips.window(
            clip, rng.integers(clip["frames"]), frames, random_color(rng), (top, left, size)
        )
        out.append(window.flip(-1) if rng.random() < 0.5 else window)
    return torch.stack(out).contiguous(memory_format=torch.channels_last_3d)


def loss(output, video, latent, steadiness: float = STEADINESS) -> torch.Tensor:
    """Pixels, edges, changes from frame to frame, and the same colours at two coarser scales."""
    error = output - video
    total = error.abs().mean() + 2 * error.square().mean()
    for axis in (-1, -2):
        total = total + 0.25 * error.diff(dim=axis).abs().mean()
    if video.shape[2] > 1:  # without it a still background flickers
        total = total + steadiness * error.diff(dim=2).abs().mean()
    flat = error.transpose(1, 2).flatten(0, 1)
    for scale in (4, 16):
        total = total + 1.5 * F.avg_pool2d(flat, scale).abs().mean()
    return total + 3e-4 * latent.square().mean()


@torch.no_grad()
def evaluate(vae, clips: Clips, count: int = 60):
    """PSNR and flicker (mean change between frames of still background, /255) on held-out names,
    and rows for a contact sheet."""
    colors, values, flicker, rows = list(COLORS.values()), [], [], []
    for k, clip in enumerate(clips.test[:count]):
        video = clips.window(clip, 0, FRAMES, colors[k % len(colors)])
        with torch.autocast("cpu", torch.bfloat16):
            output = vae.decoder(encode(vae, video[None]))[0].float()
        values.append(psnr(output, video))
        still = (video.diff(dim=1) == 0).all(0)
        moved = (output.clamp(-1, 1).diff(dim=1).abs().mean(0) * 127.5)[still]
        flicker.append(float(moved.mean()))
        if k < 8:
            rows += [(f"{clip['name']} {values[-1]:.1f} dB", video), ("", output)]
    return float(np.mean(values)), float(np.mean(flicker)), rows


def load(work: Path) -> AutoencoderKLLTXVideo:
    """The trained autoencoder; if its decoder was refined, half way to the refined weights."""
    vae, refined = build(), work / "refine/state.pt"
    state = torch.load(work / "vae/state.pt", map_location="cpu", weights_only=False)["vae"]
    if refined.exists():
        end = torch.load(refined, map_location="cpu", weights_only=False)["vae"]
        state = {name: value.lerp(end[name], REFINED) for name, value in state.items()}
    vae.load_state_dict(state)
    return vae.eval().requires_grad_(False)


def main(work: Path, minutes: float, start: Path | None = None) -> None:
    clips, vae, run = Clips(work), build(), Run(work, "vae", minutes)
    if start:
        vae.load_state_dict(torch.load(start, map_location="cpu", weights_only=False)["vae"])
    convolution.install(vae)
    params = list(vae.parameters())
    optimizer = Optimizer(
        [p for p in params if p.ndim > 1],
        [p for p in params if p.ndim == 1],
        muon_lr=5e-3 if start is None else 3e-3,
        adam_lr=2e-3 if start is None else 1e-3,
        decay=0.7,
    )
    objects = dict(vae=vae, optimizer=optimizer)
    run.resume(objects)

    def step_loss():
        video = batch(clips, run.step, run.progress)
        with torch.autocast("cpu", torch.bfloat16):
            latent = encode(vae, video)
            noise = LATENT_NOISE * latent.detach().std() * torch.randn_like(latent)
            output = vae.decoder(latent + noise)
        return loss(output.float(), video, latent.float())

    look = lambda last: report(vae, clips, run, count=60 if last else 12)  # noqa: E731
    run.train(objects, step_loss, look=look, look_every=300)


def report(vae, clips, run, count) -> None:
    value, flicker, rows = evaluate(vae, clips, count)
    run.log(psnr=value, flicker=flicker, held_out=count)
    contact_sheet(rows).save(run.folder / "sheet.png")

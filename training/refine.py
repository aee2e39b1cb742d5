"""Polishes the decoder alone on whole clips. The encoder stays, so encoded latents and a trained
transformer stay valid; half of the clips are objects of the vocabulary."""

from pathlib import Path

import numpy as np
import torch

from . import convolution
from .captions import OBJECTS
from .config import FRAMES, SEED, SIZE
from .data import Clips, random_color
from .optim import Optimizer
from .runner import Run
from .vae import LATENT_NOISE, encode, load, loss, report

STEADINESS = 2.0  # weight of changes from frame to frame; flat backgrounds flicker most visibly
MOVING = 0.02  # change of a pixel's values from which on it counts as moving
LIVELINESS = 0.1


def batch(clips: Clips, step: int) -> torch.Tensor:
    """One whole clip, or every fifth time four single frames."""
    rng = np.random.default_rng((SEED, 1, step))
    count, frames = (4, 1) if step % 5 == 0 else (1, FRAMES)
    known, out = list(OBJECTS), []
    for _ in range(count):
        clip = clips.train[rng.integers(len(clips.train))]
        if rng.random() < 0.5:
            clip = clips.by_code[known[rng.integers(len(known))]]
        box = (0, 0, SIZE)
        out.append(
            clips.window(clip, rng.integers(clip["frames"]), frames, random_color(rng), box)
        )
    return torch.stack(out).contiguous(memory_format=torch.channels_last_3d)


def liveliness(output, video) -> torch.Tensor:
    """How far the energy of motion is off where something moves, as |ln(ratio)|. Absolute errors
    alone favour the median of what might be there, which moves less than anything real."""
    change = video.diff(dim=2)
    moving = (change.abs().amax(1, keepdim=True) > MOVING).float()
    energy = [(step.abs() * moving).mean() + 1e-4 for step in (output.diff(dim=2), change)]
    return (energy[0] / energy[1]).log().abs()


def main(work: Path, minutes: float) -> None:
    clips, run = Clips(work), Run(work, "refine", minutes)
    vae = load(work)
    vae.decoder.requires_grad_(True)
    convolution.install(vae)
    params = list(vae.decoder.parameters())
    optimizer = Optimizer(
        [p for p in params if p.ndim > 1],
        [p for p in params if p.ndim == 1],
        muon_lr=2e-3,
        adam_lr=1e-3,
        warmup=20,
        decay=1.0,
    )
    objects = dict(vae=vae, optimizer=optimizer)
    run.resume(objects)

    def step_loss():
        video = batch(clips, run.step)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latent = encode(vae, video)
                latent = latent + LATENT_NOISE * latent.std() * torch.randn_like(latent)
            output = vae.decoder(latent)
        total = loss(output.float(), video, latent.float(), STEADINESS)
        if video.shape[2] > 1:
            total = total + LIVELINESS * liveliness(output.float(), video)
        return total

    run.train(objects, step_loss, log_every=25, look=lambda last: report(vae, clips, run, count=60))

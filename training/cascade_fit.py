"""What the two stages of the cascade share in training: batches, the loss, and the figures on held-out clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .cascade import CascadeStage, catmull_rom
from .pairs import HIGH_FRAMES, Pairs, half
from .config import SEED, SIZE
from .data import psnr
from .optim import Optimizer, follow
from .runner import Run

NOISE = 0.02  # standard deviation at most, of 2, beside the autoencoder's error
LIVELY = 0.03


@dataclass
class Sample:
    clean: torch.Tensor  # [3, F, H, W]
    made: torch.Tensor | None  # the same after the autoencoder
    wanted: torch.Tensor
    guess: list[torch.Tensor | None]  # what lies between, by the clean and by the decoded frames


def batch(pairs: Pairs, sample, step: int, crop: int, last_first: int, count: int):
    """Inputs, levels, guesses and targets, fixed by the step and the clips that are ready."""
    rng, ready = np.random.default_rng((SEED, 11, step)), sample.ready(pairs)
    inputs, levels, guesses, wanted = [], [], [], []
    for _ in range(count):
        place = int(ready[rng.integers(len(ready))])
        box = (*rng.integers(0, SIZE - crop + 1, 2), crop)
        one = sample(pairs, place, int(rng.integers(last_first + 1)), box)
        level, given, guess = 0.0, one.clean, one.guess[0]
        if rng.random() < sample.decoded:
            level = 1.0 if rng.random() < 0.75 or guess is not None else float(rng.random())
            given = one.clean.lerp(one.made, level)
            given = given + float(rng.random()) * NOISE * level * torch.randn(given.shape) * (rng.random() < 0.5)
            guess = one.guess[1]
        colors = torch.from_numpy(rng.permutation(3))
        mirrored = rng.random() < 0.5
        for value, values in ((given, inputs), (guess, guesses), (one.wanted, wanted)):
            if value is not None:
                value = value[colors]
                values.append(value.flip(-1) if mirrored else value)
        levels.append(level)
    return torch.stack(inputs), torch.tensor(levels), torch.stack(guesses) if guesses else None, torch.stack(wanted)


def gradients(video: torch.Tensor) -> torch.Tensor:
    """Mean absolute differences of neighbouring pixels for each clip."""
    return sum(video.diff(dim=axis).abs().flatten(1).mean(1) for axis in (-1, -2))


def loss(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The logarithm of the squared error, which is what PSNR averages, and edges as strong as they should be."""
    error = (output - wanted).square().flatten(1).mean(1)
    edges = ((gradients(output) + 1e-3) / (gradients(wanted) + 1e-3)).log().abs()
    return (error + 3e-5).log().mean() + LIVELY * edges.mean()


def baseline(frames: torch.Tensor, between: bool) -> torch.Tensor:
    """What no network is needed for: [3, F, H, W] -> means of neighbours, or Catmull-Rom."""
    if between:
        return (frames[:, 1:] + frames[:, :-1]) / 2
    return catmull_rom(frames.transpose(0, 1)).transpose(0, 1)


@torch.no_grad()
def measure(stage: CascadeStage, pairs: Pairs, count: int | None = None) -> dict:
    """Means over held-out clips, clean and through the autoencoder."""
    decoded, out = pairs.decoded(), {}
    for kind, level in (("clean", 0.0), ("decoded", 1.0)):
        rows = []
        for place, k in enumerate(pairs.held_out[:count]):
            if level and place >= len(decoded):
                break
            color = pairs.color(k)
            real = pairs.real(k, np.arange(HIGH_FRAMES), color)
            wanted = half(real)[:, 1::2] if stage.between else real[:, ::2]
            given = half(real[:, ::2])
            if level:
                pixels = decoded[place].astype(np.float32) / 127.5 - 1
                given = torch.from_numpy(pixels).permute(3, 0, 1, 2)
            plain = baseline(given, stage.between)
            guess = pairs.guess(place, int(level))[None] if stage.between else None
            made = stage(given[None], torch.tensor([level]), guess)[0].clamp(-1, 1)
            rows.append(
                (
                    psnr(made, wanted),
                    psnr(plain, wanted),
                    float(gradients(made[None]) / gradients(wanted[None])),
                    float(gradients(plain.clamp(-1, 1)[None]) / gradients(wanted[None])),
                    psnr(guess[0], wanted) if stage.between else 0.0,
                )
            )
        if rows:
            made, plain, edges, before, guessed = np.mean(rows, 0).tolist()
            out[kind] = dict(
                count=len(rows),
                psnr=round(made, 2),
                baseline=round(plain, 2),
                gain=round(made - plain, 2),
                gradients=round(edges, 3),
                baseline_gradients=round(before, 3),
            )
            if stage.between:
                out[kind]["matching"] = round(guessed, 2)
    return out


def fit(work: Path, name: str, config: dict, sample, minutes: float, crop: int, last_first: int, batch: int) -> None:
    pairs, run = Pairs(work), Run(work, name, minutes)
    torch.manual_seed(SEED)
    stage, slow = CascadeStage(**config), CascadeStage(**config).requires_grad_(False)
    slow.load_state_dict(stage.state_dict())
    params = list(stage.parameters())
    optimizer = Optimizer(
        [p for p in params if p.ndim > 2],
        [p for p in params if p.ndim <= 2],
        muon_lr=1e-2,
        adam_lr=2e-3,
        decay=0.8,
    )
    objects = dict(stage=stage, slow=slow, optimizer=optimizer)
    run.resume(objects)
    make = globals()["batch"]

    def step_loss():
        given, level, guess, wanted = make(pairs, sample, run.step, crop, last_first, batch)
        with torch.autocast("cpu", torch.bfloat16):
            output = stage(given, level, guess)
        return loss(output.float(), wanted)

    def look(last: bool) -> None:
        run.log(**measure(slow, pairs, None if last else 12))

    run.train(objects, step_loss, after=lambda: follow(slow, stage, 0.99), look=look, look_every=240)

"""Trains the cascade's temporal stage, 17 to 33 frames, on clean and on decoded frames."""

from pathlib import Path

import numpy as np
import torch

from . import cascade
from .pairs import Pairs, half
from .cascade_fit import Sample, fit
from .config import FRAMES

CROP, WINDOW, BATCH = 96, 5, 4


def sample(pairs: Pairs, place: int, first: int, box) -> Sample:
    """`WINDOW` frames at 12 fps from `first` on, and those between them."""
    k, times, (top, left, size) = pairs.order[place], first + np.arange(WINDOW), box
    both = half(pairs.real(k, 2 * first + np.arange(2 * WINDOW - 1), pairs.color(k), box))
    pixels = pairs.decoded()[place, times, top : top + size, left : left + size].astype(np.float32)
    made = torch.from_numpy(pixels / 127.5 - 1).permute(3, 0, 1, 2)
    guesses = [pairs.guess(place, i, first, WINDOW - 1, box) for i in range(2)]
    return Sample(both[:, ::2], made, both[:, 1::2], guesses)


sample.decoded = 0.4
sample.ready = lambda pairs: [place for place in pairs.guesses() if place >= len(pairs.held_out)]


def main(work: Path, minutes: float) -> None:
    fit(work, "interpolate", cascade.INTERPOLATE, sample, minutes, crop=CROP, last_first=FRAMES - WINDOW, batch=BATCH)

"""Trains the cascade's spatial stage, 128x128 to 256x256, on clean and on decoded frames."""

from pathlib import Path

import numpy as np
import torch

from . import cascade
from .cascade_fit import Sample, fit
from .config import FRAMES
from .pairs import Pairs, half

CROP, WINDOW, BATCH = 64, 5, 8


def sample(pairs: Pairs, place: int, first: int, box) -> Sample:
    """`WINDOW` frames from `first` on."""
    k, times, (top, left, size) = pairs.order[place], first + np.arange(WINDOW), box
    real = pairs.real(k, 2 * times, pairs.color(k), box)
    pixels = pairs.decoded()[place, times, top : top + size, left : left + size].astype(np.float32)
    made = torch.from_numpy(pixels / 127.5 - 1).permute(3, 0, 1, 2)
    return Sample(half(real), made, real, [None, None])


sample.decoded = 0.65
sample.ready = lambda pairs: range(len(pairs.held_out), len(pairs.decoded()))


def main(work: Path, minutes: float) -> None:
    fit(work, "upscale", cascade.UPSCALE, sample, minutes, crop=CROP, last_first=FRAMES - WINDOW, batch=BATCH)

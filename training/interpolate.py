"""Trains the cascade's temporal stage, 17 to 33 frames, on clean and on decoded frames."""

from pathlib import Path

import numpy as np
import torch

from . import cascade
from .cascade_data import Pairs, half
from .cascade_train import Sample, fit
from .config import FRAMES

CROP, WINDOW, BATCH = 96, 5, 4


def sample(pairs: Pairs, decoded: np.ndarray, k: int, place: int | None, first: int, box, color) -> Sample:
    """`WINDOW` frames at 12 fps from `first` on, and those between them."""
    both = half(pairs.real(k, 2 * first + np.arange(2 * WINDOW - 1), color, box))
    made, (top, left, size) = None, box
    if place is not None:
        times = first + np.arange(WINDOW)
        pixels = decoded[place, times, top : top + size, left : left + size].astype(np.float32)
        made = torch.from_numpy(pixels / 127.5 - 1).permute(3, 0, 1, 2)
    return Sample(both[:, ::2], made, both[:, 1::2])


def main(work: Path, minutes: float) -> None:
    fit(work, "interpolate", cascade.INTERPOLATE, sample, minutes, crop=CROP, last_first=FRAMES - WINDOW, batch=BATCH)

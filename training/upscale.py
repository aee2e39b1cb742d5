"""Trains the cascade's spatial stage, 128x128 to 256x256, on clean and on decoded frames."""

from pathlib import Path

import numpy as np
import torch

from . import cascade
from .cascade_data import HIGH_FRAMES, Pairs, half
from .cascade_train import Sample, fit
from .config import FRAMES

CROP, WINDOW, BATCH = 64, 5, 8


def sample(pairs: Pairs, decoded: np.ndarray, k: int, place: int | None, first: int, box, color) -> Sample:
    """`WINDOW` frames from `first` on; `place` is that of the clip in `decoded`, if it is there."""
    times = first + np.arange(WINDOW)
    real = pairs.real(k, 2 * times, color, box)
    clean, (top, left, size) = half(real), box
    made = None
    if place is not None:
        pixels = decoded[place, times, top : top + size, left : left + size].astype(np.float32)
        made = torch.from_numpy(pixels / 127.5 - 1).permute(3, 0, 1, 2)
    return Sample(clean, made, real)


def main(work: Path, minutes: float) -> None:
    fit(work, "upscale", cascade.UPSCALE, sample, minutes, crop=CROP, last_first=FRAMES - WINDOW, batch=BATCH)


assert HIGH_FRAMES == 2 * FRAMES - 1

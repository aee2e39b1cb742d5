"""What `evaluate` measures on a clip."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from . import classifier
from .config import COLORS, FRAMES
from .data import Clips


@dataclass
class Measured:
    rank: int  # of the asked object, 0 is the likeliest
    color: bool  # the background is the asked one
    motion: float  # energy as a multiple of the real clip's


@dataclass
class Judge:
    clips: Clips
    net: nn.Module

    def cases(self, cases: list[tuple[str, str]], videos) -> list[Measured]:
        """For each (object, colour) asked for and its video [3, F, H, W]."""
        out = []
        for (code, color), video in zip(cases, videos):
            real = self.clips.window(self.clips.by_code[code], 0, FRAMES, COLORS[color])
            rank = classifier.ranked(self.net, video).index(code)
            energy = motion(video) / max(motion(real), 1e-4)
            out.append(Measured(rank, background(video) == color, energy))
        return out


def background(video: torch.Tensor) -> str:
    """The named colour nearest to the median of the corners."""
    corner = torch.cat([video[..., :5, :5], video[..., :5, -5:]], -1).flatten(1).median(1).values
    rgb = (corner.clamp(-1, 1) + 1) * 127.5
    return min(COLORS, key=lambda name: (rgb - torch.tensor(COLORS[name])).square().sum().item())


def motion(video: torch.Tensor) -> float:
    """Mean absolute change from frame to frame."""
    return float(video.clamp(-1, 1).diff(dim=1).abs().mean())


def summary(measured: list[Measured], motion: bool = True) -> dict:
    """Shares over all cases."""
    shares = {
        "top1": [m.rank == 0 for m in measured],
        "top5": [m.rank < 5 for m in measured],
        "background": [m.color for m in measured],
    }
    if motion:
        shares["motion_within_0.5_to_2x"] = [0.5 <= m.motion <= 2 for m in measured]
    rounded = {name: round(float(np.mean(values)), 3) for name, values in shares.items()}
    return dict(count=len(measured)) | rounded


def gain_db(made: torch.Tensor, baseline: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """[N]: by how many dB the squared error of `made` is below that of `baseline`."""
    errors = [(x - real).square().flatten(1).mean(1).clamp_min(1e-8) for x in (baseline, made)]
    return 10 * (errors[0] / errors[1]).log10()


def smooth_share(videos: torch.Tensor, keep: torch.Tensor) -> float:
    """Share of the videos [N, 3, F, H, W] whose largest step across a seam between given and
    filled latent frames (`keep`) is at most 1.5 times their median step."""
    given = torch.cat([keep[:1], keep[1:].repeat_interleave(4)])  # by pixel frame
    across = given[1:] != given[:-1]
    steps = videos.clamp(-1, 1).diff(dim=2).abs().mean((1, 3, 4))
    median = steps.median(dim=1).values
    return round(float((steps[:, across].amax(1) <= 1.5 * median).float().mean()), 3)

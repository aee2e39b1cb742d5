"""Clips on flat backgrounds, as tensors in [-1, 1]."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from .config import COLORS, FRAMES, SIZE


class Clips:
    def __init__(self, work: Path):
        self.index = json.loads((work / "clips.json").read_text())
        self.frames = np.memmap(work / "clips.bin", np.uint8, "r").reshape(-1, SIZE, SIZE, 4)
        self.by_code = {clip["code"]: clip for clip in self.index}
        self.train = [clip for clip in self.index if not clip["held_out"]]
        self.test = [clip for clip in self.index if clip["held_out"]]

    def window(self, clip: dict, start: int, frames: int, color, box=None) -> torch.Tensor:
        """[3, frames, height, width]: the looping clip from frame `start` over `color` (0..255),
        cut to `box` = (top, left, size)."""
        rows = clip["start"] + (start + np.arange(frames)) % clip["frames"]
        top, left, size = box or (0, 0, SIZE)
        rgba = self.frames[rows, top : top + size, left : left + size].astype(np.float32)
        alpha = rgba[..., 3:] / 255
        rgb = rgba[..., :3] + (1 - alpha) * np.asarray(color, np.float32)
        return torch.from_numpy(rgb / 127.5 - 1).permute(3, 0, 1, 2)

    def placed(self, clip: dict, start: int, frames: int, color, shape) -> torch.Tensor:
        """[3, frames, height, width]: the clip as large as `shape` allows, centred on `color`."""
        video = self.window(clip, start, frames, color)
        height, width = shape
        side = min(shape)
        if side != SIZE:
            video = F.interpolate(
                video.transpose(0, 1), (side, side), mode="bilinear", antialias=True
            ).transpose(0, 1)
        canvas = torch.tensor(color, dtype=torch.float32).view(3, 1, 1, 1) / 127.5 - 1
        canvas = canvas.repeat(1, frames, height, width)
        top, left = (height - side) // 2, (width - side) // 2
        canvas[:, :, top : top + side, left : left + side] = video
        return canvas


def random_color(rng: np.random.Generator) -> tuple[int, int, int]:
    """One of the named colours, or, half of the time, any colour."""
    if rng.random() < 0.5:
        return tuple(rng.integers(0, 256, 3))
    return list(COLORS.values())[rng.integers(len(COLORS))]


def to_image(frame: torch.Tensor) -> Image.Image:
    """[3, H, W] in [-1, 1] to a picture."""
    pixels = ((frame.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def contact_sheet(rows: list[tuple[str, torch.Tensor]], shown=8, columns=1, size=SIZE):
    """One line of `shown` evenly spaced frames of at most `size` pixels per (title, [3, F, H, W])
    clip."""
    title = 14
    wide, high = shown * size + 8, size + title
    sheet = Image.new("RGB", (columns * wide, -(-len(rows) // columns) * high), (240, 240, 240))
    draw = ImageDraw.Draw(sheet)
    for k, (text, clip) in enumerate(rows):
        x, y = k % columns * wide, k // columns * high
        draw.text((x + 2, y + 1), text, fill=(0, 0, 0))
        picks = np.linspace(0, clip.shape[1] - 1, min(shown, clip.shape[1])).round().astype(int)
        for j, f in enumerate(picks):
            sheet.paste(to_image(clip[:, f]), (x + j * size, y + title))
    return sheet


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two tensors in [-1, 1] (peak to peak 2)."""
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b).square().mean()))

"""Pairs for the cascade: clips at 256x256 and 24 fps, and what the exported autoencoder makes of their halves.

`high.bin` has a window of each animation at the size and rate of its source, `decoded.bin` the same window at 128x128 and
12 fps over one colour after `models/flipbook/vae`.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .cascade import between
from .config import COLORS, FRAMES, ROOT, SEED, SIZE
from .data import random_color

GUESSED = 220  # clips that the temporal stage is trained on
HIGH = 2 * SIZE
HIGH_FRAMES = 2 * FRAMES - 1


def read_window(file: Path, start: int) -> np.ndarray:
    """[HIGH_FRAMES, HIGH, HIGH, 4] uint8 with premultiplied alpha from frame `start` on, looping."""
    with Image.open(file) as image:
        frames = np.empty((image.n_frames, HIGH, HIGH, 4), np.uint8)
        for i in range(image.n_frames):
            image.seek(i)
            frames[i] = np.asarray(image.convert("RGBA"))
    window = frames[(start + np.arange(HIGH_FRAMES)) % len(frames)].astype(np.float32)
    window[..., :3] *= window[..., 3:] / 255
    return (window + 0.5).astype(np.uint8)


def build(work: Path) -> None:
    """Writes `high.bin`, in the order of `clips.json`."""
    clips = json.loads((work / "clips.json").read_text())
    with open(work / "high.bin.part", "wb") as out:
        for k, clip in enumerate(clips):
            rng = np.random.default_rng((SEED, 7, k))
            start = 0 if clip["held_out"] else int(rng.integers(clip["frames"])) * 2
            out.write(read_window(work / "anim" / f"{clip['code']}.webp", start).tobytes())
    (work / "high.bin.part").rename(work / "high.bin")


class Pairs:
    """Windows of `high.bin`, and those of `decoded.bin` that exist yet."""

    def __init__(self, work: Path):
        self.index = json.loads((work / "clips.json").read_text())
        shape = (len(self.index), HIGH_FRAMES, HIGH, HIGH, 4)
        self.high = np.memmap(work / "high.bin", np.uint8, "r").reshape(shape)
        self.work = work
        # Held-out clips first, then the others in a random order: `decoded.bin` may stop anywhere behind the first.
        order = np.random.default_rng((SEED, 8)).permutation(len(self.index))
        self.order = sorted(order, key=lambda k: not self.index[k]["held_out"])
        self.held_out = [k for k in self.order if self.index[k]["held_out"]]
        self.train = [k for k in self.order if not self.index[k]["held_out"]]

    def color(self, k: int) -> tuple[int, int, int]:
        """Of the background that clip `k` has in `decoded.bin`."""
        if self.index[k]["held_out"]:
            colors = list(COLORS.values())
            return colors[self.held_out.index(k) % len(colors)]
        return random_color(np.random.default_rng((SEED, 9, int(k))))

    def real(self, k: int, frames, color, box=(0, 0, SIZE)) -> torch.Tensor:
        """[3, frames, 2 size, 2 size] of the source's frames, over `color`, cut to `box` = (top, left, size) of the half."""
        top, left, size = (2 * v for v in box)
        rgba = self.high[k, frames, top : top + size, left : left + size].astype(np.float32)
        rgb = rgba[..., :3] + (1 - rgba[..., 3:] / 255) * np.asarray(color, np.float32)
        return torch.from_numpy(rgb / 127.5 - 1).permute(3, 0, 1, 2)

    def decoded(self) -> np.ndarray:
        """[clips, FRAMES, SIZE, SIZE, 3] uint8 in the order of `self.order`, as many as are complete."""
        file = self.work / "decoded.bin"
        whole = FRAMES * SIZE * SIZE * 3
        count = file.stat().st_size // whole if file.exists() else 0
        if not count:
            return np.empty((0, FRAMES, SIZE, SIZE, 3), np.uint8)
        return np.memmap(file, np.uint8, "r", shape=(count, FRAMES, SIZE, SIZE, 3))


    def guesses(self) -> list[int]:
        """Places in `self.order` whose frames between are guessed."""
        return sorted(int(file.stem) for file in (self.work / "between").glob("*.npy") if file.stem.isdigit())

    def guess(self, place: int, decoded: int, first=0, count=FRAMES - 1, box=(0, 0, SIZE)) -> torch.Tensor:
        """[3, count, size, size] of the guesses after frame `first` and on, by the clean or the decoded frames."""
        top, left, size = box
        values = np.load(self.work / f"between/{place}.npy", mmap_mode="r")[decoded]
        values = values[first : first + count, top : top + size, left : left + size].astype(np.float32)
        return torch.from_numpy(values / 255 - 1).permute(3, 0, 1, 2)


def half(video: torch.Tensor) -> torch.Tensor:
    """[3, F, 2H, 2W] -> [3, F, H, W], the mean of four pixels."""
    return F.avg_pool2d(video, 2)


@torch.no_grad()
def decode(work: Path, count: int | None = None) -> None:
    """Appends to `decoded.bin`: the autoencoder is used as it is exported."""
    from diffusers import AutoencoderKLLTXVideo

    from .quantise import load_model
    from .vae import encode

    vae = load_model(AutoencoderKLLTXVideo, ROOT / "models/flipbook/vae").to(memory_format=torch.channels_last_3d)
    pairs = Pairs(work)
    with open(work / "decoded.bin", "ab") as out:
        for k in pairs.order[len(pairs.decoded()) : count]:
            video = half(pairs.real(k, np.arange(0, HIGH_FRAMES, 2), pairs.color(k)))
            with torch.autocast("cpu", torch.bfloat16):
                frames = vae.decoder(encode(vae, video[None].contiguous(memory_format=torch.channels_last_3d)))[0].float()
            pixels = ((frames.clamp(-1, 1) + 1) * 127.5).round().byte()
            out.write(pixels.permute(1, 2, 3, 0).contiguous().numpy().tobytes())
            out.flush()


def guess(work: Path, count: int) -> None:
    """Writes what lies between the frames of `count` clips, clean and decoded, those held out last."""
    pairs = Pairs(work)
    folder, held_out = work / "between", len(pairs.held_out)
    folder.mkdir(exist_ok=True)
    for place in [*range(12), *range(held_out, held_out + count), *range(12, held_out)]:
        if (folder / f"{place}.npy").exists():
            continue
        k = pairs.order[place]
        video = half(pairs.real(k, np.arange(0, HIGH_FRAMES, 2), pairs.color(k)))
        clean = ((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
        values = np.stack([between(clean), between(np.asarray(pairs.decoded()[place]))])
        np.save(folder / f"{place}.part.npy", values)
        (folder / f"{place}.part.npy").rename(folder / f"{place}.npy")


def main(work: Path) -> None:
    if not (work / "high.bin").exists():
        build(work)
    decode(work)
    guess(work, GUESSED)

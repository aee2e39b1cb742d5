"""Encodes the transformer's training sets once.

One set per shape holds the vocabulary: `square` every object on every background colour, the others
on one colour each. `later` holds every object twice, beginning somewhere in its clip, and `others`
every further clip the autoencoder trains on: both only serve to learn how given frames go on, the
former for windows of a longer clip, the latter because nobody wrote down their motion.
"""

from pathlib import Path

import numpy as np
import torch

from .captions import OBJECTS, clashes
from .config import COLORS, LENGTHS, SEED, SHAPES
from .data import Clips
from .vae import encode, load

BATCH = 4


def pairs(name: str, clips: Clips) -> list[tuple[str, str]]:
    """(code, colour) of each clip of a set."""
    colors = list(COLORS)
    if name == "others":
        further = [clip for clip in clips.train if clip["code"] not in OBJECTS]
        codes = [clip["code"] for clip in further if not clashes(clip["name"])]
        return [(code, colors[i % len(colors)]) for i, code in enumerate(codes)]
    if name == "square":
        return [(code, color) for code in OBJECTS for color in colors]
    n = list(SHAPES).index(name) if name in SHAPES else 0
    return [
        (code, colors[(3 * i + n + 5 * k) % len(colors)])
        for k in range(2 if name == "later" else 1)
        for i, code in enumerate(OBJECTS)
    ]


@torch.no_grad()
def _encoded(name: str, clips: Clips, vae, rows) -> torch.Tensor:
    """[N, 32, 7, h, w] of 25 frames: the encoder is causal, so shorter clips are its beginnings."""
    shape, rng, out = SHAPES.get(name, SHAPES["square"]), np.random.default_rng(SEED), []
    for at in range(0, len(rows), BATCH):
        batch = []
        for code, color in rows[at : at + BATCH]:
            clip = clips.by_code[code]
            start = rng.integers(clip["frames"]) if name == "later" else 0
            batch.append(clips.placed(clip, start, max(LENGTHS), COLORS[color], shape))
        with torch.autocast("cpu", torch.bfloat16):
            out.append(encode(vae, torch.stack(batch)).float())
        if at % 200 == 0:
            print(f"latents {name} {at}/{len(rows)}", flush=True)
    return torch.cat(out)


def main(work: Path) -> None:
    """Writes `latents.pt`: `sets` by name, each with its `rows` (code, colour) and their `z`
    [N, 32, 7, h, w] bf16, normalised per channel with `mean` and `std` of the square set."""
    target = work / "latents.pt"
    if target.exists():
        return
    clips, vae = Clips(work), load(work)
    sets = {}
    for name in (*SHAPES, "later", "others"):
        rows = pairs(name, clips)
        sets[name] = dict(rows=rows, z=_encoded(name, clips, vae, rows))
    square = sets["square"]["z"]
    mean, std = square.mean((0, 2, 3, 4)), square.std((0, 2, 3, 4))
    for one in sets.values():
        one["z"] = normalised(one["z"], mean, std).bfloat16()
    torch.save(dict(sets=sets, mean=mean, std=std), target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)


def normalised(z: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)


def decode(vae, latents, mean, std, bf16: bool = True) -> torch.Tensor:
    """Normalised latents [B, 32, f, h, w] to frames [B, 3, F, H, W] in about [-1, 1]."""
    z = latents.float() * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return torch.cat([vae.decoder(one[None]) for one in z]).float()

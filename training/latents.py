"""Encodes the transformer's training sets once.

Three sets hold the vocabulary, one per shape: `square` every object on every background colour,
`wide` and `tall` on two colours each. `others` holds every further clip the autoencoder trains on,
once each: without captions of their motion they only serve to learn how given frames go on.
"""

from pathlib import Path

import torch

from .captions import OBJECTS, clashes
from .config import COLORS, LENGTHS, SHAPES
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
    every = 1 if name == "square" else 4
    return [
        (code, color)
        for i, code in enumerate(OBJECTS)
        for k, color in enumerate(colors)
        if (i + k) % every == 0
    ]


@torch.no_grad()
def _encoded(clips: Clips, vae, rows, shape) -> torch.Tensor:
    """[N, 32, 7, h, w] of 25 frames: the encoder is causal, so shorter clips are its beginnings."""
    out = []
    for at in range(0, len(rows), BATCH):
        batch = [
            clips.placed(clips.by_code[code], 0, max(LENGTHS), COLORS[color], shape)
            for code, color in rows[at : at + BATCH]
        ]
        with torch.autocast("cpu", torch.bfloat16):
            out.append(encode(vae, torch.stack(batch)).float())
        if at % 200 == 0:
            print(f"latents {tuple(shape)} {at}/{len(rows)}", flush=True)
    return torch.cat(out)


def main(work: Path) -> None:
    """Writes `latents.pt`: `sets` by name, each with its `rows` (code, colour) and their `z`
    [N, 32, 7, h, w] bf16, normalised per channel with `mean` and `std` of the square set."""
    target = work / "latents.pt"
    if target.exists():
        return
    clips, vae = Clips(work), load(work)
    sets = {}
    for name in (*SHAPES, "others"):
        rows, shape = pairs(name, clips), SHAPES.get(name, SHAPES["square"])
        sets[name] = dict(rows=rows, z=_encoded(clips, vae, rows, shape))
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

"""Encodes the transformer's training set once: every object on every background colour."""

from pathlib import Path

import torch

from .captions import TRAINED, held_out
from .config import COLORS, FRAMES
from .data import Clips
from .vae import encode, load

STARTS = (0.0,)  # where in its loop a clip's window begins; more starts need longer training
BATCH = 4


@torch.no_grad()
def main(work: Path) -> None:
    """Writes `latents.pt`: `z` [N, 32, 5, 8, 8] bf16, normalised per channel, `mean`, `std`, and
    for every row its object's code, colour and start, and whether the pair is held out."""
    target = work / "latents.pt"
    if target.exists():
        return
    clips, vae = Clips(work), load(work)
    rows = [(code, color, start) for start in STARTS for code in TRAINED for color in COLORS]
    encoded = []
    for at in range(0, len(rows), BATCH):
        videos = []
        for code, color, start in rows[at : at + BATCH]:
            clip = clips.by_code[code]
            videos.append(clips.window(clip, int(start * clip["frames"]), FRAMES, COLORS[color]))
        with torch.autocast("cpu", torch.bfloat16):
            encoded.append(encode(vae, torch.stack(videos)).float())
        if at % 200 == 0:
            print(f"latents {at}/{len(rows)}", flush=True)
    z = torch.cat(encoded)
    mean, std = z.mean((0, 2, 3, 4)), z.std((0, 2, 3, 4))
    z = (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    test = torch.tensor([held_out(code, color) for code, color, _ in rows])
    content = dict(z=z.bfloat16(), mean=mean, std=std, rows=rows, held_out=test)
    torch.save(content, target.with_suffix(".part"))
    target.with_suffix(".part").rename(target)


def decode(vae, latents, mean, std, bf16: bool = True) -> torch.Tensor:
    """Normalised latents [B, 32, f, h, w] to frames [B, 3, F, H, W] in about [-1, 1]."""
    z = latents.float() * std.view(1, -1, 1, 1, 1) + mean.view(1, -1, 1, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return torch.cat([vae.decoder(one[None]) for one in z]).float()

"""Distils the guided many-step transformer into four unguided steps.

Piecewise rectified flow: teacher trajectories are sampled once with guidance and their states
kept at sigma 1, 3/4, 1/2, 1/4 and 0. The student, started from the teacher, learns for each of
the four segments the constant velocity that leads from its start to its end.
"""

import copy
from pathlib import Path

import torch

from . import attention
from .config import SEED
from .dit import Data, averaged, optimizer_for, sheet
from .optim import follow
from .packing import velocity
from .runner import Run
from .sampler import sample
from .vae import load as load_vae

TRAJECTORIES, CHUNK = 1536, 64
SEGMENTS, STEPS_PER_SEGMENT, GUIDANCE = 4, 3, 3.0
BATCH, EMA = 32, 0.99


def trajectories(work: Path, teacher, data: Data) -> list[dict]:
    """Chunks of `states` [64, 5, 32, f, h, w] in bf16, the `text` and `mask` of each, and which
    frames were given (`keep`). Each is kept in a file, so that an interrupted run continues."""
    folder = work / "distil/trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    chunks = []
    for n in range(TRAJECTORIES // CHUNK):
        file = folder / f"{n:03}.pt"
        if not file.exists():
            torch.save(_chunk(teacher, data, n), file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
            print(f"trajectories {(n + 1) * CHUNK}/{TRAJECTORIES}", flush=True)
        chunks.append(torch.load(file))
    return chunks


def _chunk(teacher, data: Data, n: int) -> dict:
    """Trajectories of one set, length and choice of given frames."""
    g = torch.Generator().manual_seed(SEED + n)
    batch = data.batch(CHUNK, False, g)
    noise = torch.randn(batch.z.shape, generator=g)
    states = sample(
        teacher,
        noise,
        batch.text,
        batch.mask,
        data.empty,
        SEGMENTS * STEPS_PER_SEGMENT,
        GUIDANCE,
        batch.z,
        batch.keep if batch.keep.any() else None,
    )
    start = torch.where(batch.keep.view(1, 1, -1, 1, 1), batch.z, noise)
    knots = [start, *states[STEPS_PER_SEGMENT - 1 :: STEPS_PER_SEGMENT]]
    return dict(
        states=torch.stack(knots, 1).bfloat16(),
        text=batch.text.bfloat16(),
        mask=batch.mask,
        keep=batch.keep,
    )


def segment_loss(model, chunks: list[dict], step: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(SEED * 7 + step)
    chunk = chunks[torch.randint(len(chunks), (), generator=g)]
    rows = torch.randperm(CHUNK, generator=g)[:BATCH]
    k = torch.randint(SEGMENTS, (BATCH,), generator=g)
    states, each = chunk["states"][rows].float(), torch.arange(BATCH)
    start, end = states[each, k], states[each, k + 1]
    target = (start - end) * SEGMENTS
    free = (~chunk["keep"]).float()
    sigma = (1 - k / SEGMENTS)[:, None] * free
    with torch.autocast("cpu", torch.bfloat16):
        v = velocity(model, start, sigma, chunk["text"][rows].float(), chunk["mask"][rows]).float()
    error = (v - target).square().mean((0, 1, 3, 4))
    return (error * free).sum() / free.sum()


def main(work: Path, minutes: float) -> None:
    data, run = Data(work), Run(work, "distil", minutes)
    teacher = averaged(work).requires_grad_(False)
    attention.install(teacher)
    chunks = trajectories(work, teacher, data)
    model = copy.deepcopy(teacher).requires_grad_(True)
    ema = copy.deepcopy(teacher)
    optimizer = optimizer_for(model, scale=0.3, warmup=30, decay=0.7)
    objects = dict(model=model, ema=ema, optimizer=optimizer)
    run.resume(objects)
    run.train(
        objects,
        lambda: segment_loss(model, chunks, run.step),
        log_every=25,
        after=lambda: follow(ema, model, EMA),
    )
    sheet(ema, load_vae(work), data, SEGMENTS, 1.0).save(run.folder / "sheet.png")

"""Trains the diffusion transformer (`LTXVideoTransformer3DModel`) on the encoded clips.

Rectified flow: x = (1 - sigma) data + sigma noise, target noise - data.
"""

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import LTXVideoTransformer3DModel

from . import attention
from .captions import OBJECTS, held_out, plain_prompt, prompt
from .config import DIT, LENGTHS, SEED, SHAPES
from .data import Clips, contact_sheet
from .given import given_frames
from .latents import decode
from .optim import Optimizer, follow
from .packing import velocity
from .runner import Run
from .sampler import initial_noise, sample
from .text import TextEncoder
from .text import build as build_text
from .vae import load as load_vae

BATCH, STILL_BATCH = 32, 128
EMA = 0.995
NOISIER = 0.3  # shift of the logit-normal: the noisy half decides the shapes
DROP_TEXT, GIVEN_FRAMES, UNIFORM_TIME = 0.1, 0.2, 0.1
PHRASINGS = 8
# How often a batch comes from each set of `latents.pt`; the other shapes share the rest.
SHARES = {"square": 0.44, "later": 0.08, "others": 0.06}
# How often it has each of the lengths.
LENGTH_SHARES = torch.tensor([0, 0.1, 0.8, 0.1])

SHEET = (
    ("1f680", "blue"),
    ("1f42f", "yellow"),
    ("1f427", "green"),
    ("1f695", "white"),
    ("1f47d", "pink"),
    ("1f602", "purple"),
    ("2764-fe0f", "black"),
    ("2615", "red"),
    ("2708-fe0f", "white"),
    ("1f438", "pink"),
    ("1f996", "yellow"),
    ("1f383", "black"),
)


def build() -> LTXVideoTransformer3DModel:
    torch.manual_seed(SEED)
    model = LTXVideoTransformer3DModel(**DIT)
    # Every block starts as the identity and the output as zero.
    zero = [model.proj_out, model.time_embed.linear]
    zero += [block.attn2.to_out[0] for block in model.transformer_blocks]
    for layer in zero:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return model


@dataclass
class Batch:
    """Normalised latents [B, 32, f, h, w], their prompts, and which frames are given [f]."""

    z: torch.Tensor
    text: torch.Tensor
    mask: torch.Tensor
    keep: torch.Tensor


class Data:
    """The sets of `latents.pt` with their encoded prompts, several phrasings for each pair."""

    def __init__(self, work: Path):
        content = torch.load(work / "latents.pt", weights_only=False)
        self.mean, self.std, self.encoder = content["mean"], content["std"], TextEncoder(work)
        self.z, self.pairs, self.train = {}, {}, {}
        for name, one in content["sets"].items():
            self.z[name], self.pairs[name] = one["z"], one["rows"]
            known = [i for i, pair in enumerate(one["rows"]) if not held_out(*pair)]
            self.train[name] = torch.tensor(known)
        self.test = [i for i, pair in enumerate(self.pairs["square"]) if held_out(*pair)]
        self.names = {clip["code"]: clip["name"] for clip in Clips(work).index}
        self.row, texts, rng = {}, [], random.Random(SEED)
        for pair in self.pairs["square"] + self.pairs["others"]:
            self.row[pair] = len(texts)
            texts += self._phrasings(*pair, rng)
        encoded = [self.encoder(texts[i : i + 256]) for i in range(0, len(texts), 256)]
        self.text = torch.cat([t.bfloat16() for t, _ in encoded])
        self.mask = torch.cat([m for _, m in encoded])
        self.empty = self.encoder([""])

    def _phrasings(self, code: str, color: str, rng) -> list[str]:
        """The canonical prompt first."""
        if code not in OBJECTS:
            return [plain_prompt(self.names[code], color)]
        return [prompt(code, color, rng if k else None) for k in range(PHRASINGS)]

    def captions(self, name: str, rows: list[int], generator=None):
        """Text and mask of rows of a set: random phrasings, or without `generator` the first."""
        at = []
        for pair in (self.pairs[name][i] for i in rows):
            count = PHRASINGS if generator and pair[0] in OBJECTS else 1
            at.append(self.row[pair] + int(torch.randint(count, (), generator=generator)))
        return self.text[at].float(), self.mask[at]

    def batch(self, count: int, still: bool, generator) -> Batch:
        """Clips of one set and length that are trained on, or stills, which are the first latent
        frame because the encoder is causal."""
        rest = (1 - sum(SHARES.values())) / (len(SHAPES) - 1)
        share = torch.tensor([SHARES.get(name, rest) for name in self.z])
        if still:
            share = share * torch.tensor([name in SHAPES for name in self.z])
        name = list(self.z)[torch.multinomial(share, 1, generator=generator)]
        area = self.z[name].shape[3] * self.z[name].shape[4]
        count = count * self.z["square"].shape[3] ** 2 // area  # the same number of tokens
        length = LENGTHS[torch.multinomial(LENGTH_SHARES, 1, generator=generator)]
        frames = 1 if still else 1 + (length - 1) // 4
        known = self.train[name]
        rows = known[torch.randint(len(known), (count,), generator=generator)].tolist()
        text, mask = self.captions(name, rows, generator)
        drop = torch.rand(count, generator=generator) < DROP_TEXT
        text[drop], mask[drop] = self.empty[0], self.empty[1]
        keep = torch.zeros(frames, dtype=torch.bool)
        given = name not in SHAPES or torch.rand((), generator=generator) < GIVEN_FRAMES
        if frames > 1 and given:
            keep = given_frames(frames, generator)
        return Batch(self.z[name][rows, :, :frames].float(), text, mask, keep)


def times(count: int, generator) -> torch.Tensor:
    """Logit-normal noise levels, with some uniform ones."""
    sigma = (torch.randn(count, generator=generator) + NOISIER).sigmoid()
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < UNIFORM_TIME, flat, sigma)


def training_loss(model, data: Data, step: int, progress: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    still = bool(torch.rand((), generator=g) < (0.5 if progress < 0.35 else 0.05))
    batch = data.batch(STILL_BATCH if still else BATCH, still, g)
    count, free = len(batch.z), (~batch.keep).float()
    sigma = times(count, g)
    if batch.keep.any():
        sigma = sigma[:, None] * free
    noise = torch.randn(batch.z.shape, generator=g)
    level = sigma.view(count, 1, -1, 1, 1)
    x = (1 - level) * batch.z + level * noise
    with torch.autocast("cpu", torch.bfloat16):
        v = velocity(model, x, sigma, batch.text, batch.mask)
    error = (v.float() - (noise - batch.z)).square().mean((0, 1, 3, 4))
    return (error * free).sum() / free.sum()


@torch.no_grad()
def validation(model, data: Data) -> list[float]:
    """Loss on object x colour pairs never trained, at sigma 1/8, 3/8, 5/8, 7/8; fixed noise."""
    rows = data.test[:64]
    z, (text, mask) = data.z["square"][rows, :, :5].float(), data.captions("square", rows)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(SEED))
    losses = []
    for level in (0.125, 0.375, 0.625, 0.875):
        x = (1 - level) * z + level * noise
        with torch.autocast("cpu", torch.bfloat16):
            v = velocity(model, x, torch.full((len(z),), level), text, mask).float()
        losses.append((v - (noise - z)).square().mean().item())
    return losses


def sheet(model, vae, data: Data, steps: int, guidance: float, first_seed: int = 0):
    """Contact sheet of the fixed prompts, one seed after the other, none left out."""
    prompts = [prompt(*pair) for pair in SHEET]
    text, mask = data.encoder(prompts)
    noise = torch.cat([initial_noise(first_seed + k) for k in range(len(prompts))])
    z = sample(model, noise, text, mask, data.empty, steps, guidance)[-1]
    return contact_sheet(list(zip(prompts, decode(vae, z, data.mean, data.std))))


def averaged(work: Path, stage: str = "dit") -> LTXVideoTransformer3DModel:
    """The moving average of the transformer that `stage` (dit or distil) trained."""
    model = build()
    state = torch.load(work / stage / "state.pt", map_location="cpu", weights_only=False)
    model.load_state_dict(state["ema"])
    return model


def optimizer_for(model, scale: float = 1.0, **schedule) -> Optimizer:
    matrices = [p for b in model.transformer_blocks for p in b.parameters() if p.ndim == 2]
    matrices = [p for p in matrices if p.shape[0] > 6]  # not the adaLN tables
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Optimizer(matrices, others, 3e-3 * scale, 1.5e-3 * scale, **schedule)


def main(work: Path, minutes: float, start: Path | None = None) -> None:
    if not (work / "tokenizer/tokenizer.json").exists():
        build_text(work)
    data, model, run = Data(work), build(), Run(work, "dit", minutes)
    if start:
        model.load_state_dict(torch.load(start, map_location="cpu", weights_only=False)["ema"])
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = optimizer_for(model, warmup=60, decay=0.5)
    attention.install(model)
    attention.install(ema)
    objects = dict(model=model, ema=ema, optimizer=optimizer)
    run.resume(objects)
    vae = load_vae(work)
    if start and run.step == 0:
        run.log(validation_of_start=sum(validation(model, data)) / 4)
        run.pause()
    run.train(
        objects,
        lambda: training_loss(model, data, run.step, run.progress),
        after=lambda: follow(ema, model, min(EMA, (1 + run.step) / (10 + run.step))),
        look=lambda last: report(ema, vae, data, run),
        look_every=900,
    )


def report(ema, vae, data, run) -> None:
    losses = validation(ema, data)
    run.log(validation=sum(losses) / 4, by_level=[round(x, 4) for x in losses])
    sheet(ema, vae, data, steps=8, guidance=1.0).save(run.folder / f"sheet-{run.step}.png")

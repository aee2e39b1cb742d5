"""Trains the diffusion transformer (`LTXVideoTransformer3DModel`) on the encoded clips.

Rectified flow: x = (1 - sigma) data + sigma noise, target noise - data.
"""

import copy
import random
from pathlib import Path

import torch
from diffusers import LTXVideoTransformer3DModel

from . import attention
from .captions import TRAINED, prompt
from .config import COLORS, DIT, SEED
from .data import contact_sheet
from .latents import decode
from .optim import Optimizer
from .packing import velocity
from .runner import Run
from .sampler import initial_noise, sample
from .text import TextEncoder
from .text import build as build_text
from .vae import load as load_vae

BATCH, IMAGE_BATCH = 32, 128
EMA = 0.995
NOISIER = 0.3  # shift of the logit-normal: the noisy half decides the shapes
DROP_TEXT, GIVEN_FRAMES, UNIFORM_TIME = 0.1, 0.2, 0.1
PROMPTS_PER_PAIR = 6

# Which latent frames may be given: first, first two, last, last two, both ends, single ones.
GIVEN = ((0,), (0,), (0,), (0, 1), (0, 1, 2), (4,), (3, 4), (0, 4), (0, 1, 3, 4), (2,))

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


class Data:
    """Latents with their encoded prompts, several phrasings for each object x colour pair."""

    phrasings = PROMPTS_PER_PAIR

    def __init__(self, work: Path):
        content = torch.load(work / "latents.pt", weights_only=False)
        self.z, self.mean, self.std = content["z"], content["mean"], content["std"]
        self.rows, test = content["rows"], content["held_out"]
        known = torch.tensor([code in TRAINED for code, *_ in self.rows])
        self.train, self.test = (known & ~test).nonzero()[:, 0], (known & test).nonzero()[:, 0]
        self.encoder, rng = TextEncoder(work), random.Random(SEED)
        pairs = [(code, color) for code in TRAINED for color in COLORS]
        self.pair = {p: i for i, p in enumerate(pairs)}
        prompts = [
            prompt(*p, None if k == 0 else rng) for p in pairs for k in range(PROMPTS_PER_PAIR)
        ]
        texts = [self.encoder(prompts[i : i + 256]) for i in range(0, len(prompts), 256)]
        self.text = torch.cat([t.bfloat16() for t, _ in texts])
        self.mask = torch.cat([m for _, m in texts])
        self.empty = self.encoder([""])

    def captions(self, picks, which):
        """Text and mask of phrasing `which` (a tensor) of the rows `picks`."""
        pair = [self.pair[tuple(self.rows[i][:2])] for i in picks.tolist()]
        at = torch.tensor(pair) * PROMPTS_PER_PAIR + which
        return self.text[at].float(), self.mask[at]


def times(count: int, generator) -> torch.Tensor:
    """Logit-normal noise levels, with some uniform ones."""
    sigma = (torch.randn(count, generator=generator) + NOISIER).sigmoid()
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < UNIFORM_TIME, flat, sigma)


def training_loss(model, data: Data, step: int, progress: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    image = torch.rand((), generator=g) < (0.6 if progress < 0.45 else 0.05)
    count = IMAGE_BATCH if image else BATCH
    picks = data.train[torch.randint(len(data.train), (count,), generator=g)]
    z = data.z[picks].float()
    z = z[:, :, :1] if image else z  # the encoder is causal: the first latent is a still image
    text, mask = data.captions(picks, torch.randint(PROMPTS_PER_PAIR, (count,), generator=g))
    drop = torch.rand(count, generator=g) < DROP_TEXT
    text[drop], mask[drop] = data.empty[0], data.empty[1]
    sigma = times(count, g)
    weight = torch.ones(z.shape[2])
    if not image and torch.rand((), generator=g) < GIVEN_FRAMES:
        weight[list(GIVEN[torch.randint(len(GIVEN), (), generator=g)])] = 0
        sigma = sigma[:, None] * weight
    noise = torch.randn(z.shape, generator=g)
    level = sigma.view(count, 1, -1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        v = velocity(model, (1 - level) * z + level * noise, sigma, text, mask)
    error = (v.float() - (noise - z)).square().mean((0, 1, 3, 4))
    return (error * weight).sum() / weight.sum()


@torch.no_grad()
def validation(model, data: Data) -> list[float]:
    """Loss on object x colour pairs never trained, at sigma 1/8, 3/8, 5/8, 7/8; fixed noise."""
    picks = data.test[:128]
    z, (text, mask) = data.z[picks].float(), data.captions(picks, torch.zeros(len(picks)).long())
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


def main(work: Path, minutes: float) -> None:
    if not (work / "tokenizer/tokenizer.json").exists():
        build_text(work)
    data, model, run = Data(work), build(), Run(work, "dit", minutes)
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = optimizer_for(model, warmup=60, decay=0.5)
    attention.install(model)
    attention.install(ema)
    objects = dict(model=model, ema=ema, optimizer=optimizer)
    run.resume(objects)
    vae, average, last_look = load_vae(work), None, run.seconds
    while run.progress < 1:
        loss = training_loss(model, data, run.step, run.progress)
        loss.backward()
        optimizer.step(run.step, run.progress)
        decay = min(EMA, (1 + run.step) / (10 + run.step))
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - decay)
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        run.advance(objects)
        if run.step % 50 == 0:
            run.log(loss=average)
        if run.seconds - last_look > 480:
            last_look = run.seconds
            report(ema, vae, data, run)
    run.save(objects)
    report(ema, vae, data, run)


def report(ema, vae, data, run) -> None:
    losses = validation(ema, data)
    run.log(validation=sum(losses) / 4, by_level=[round(x, 4) for x in losses])
    sheet(ema, vae, data, steps=12, guidance=3.0).save(run.folder / f"sheet-{run.step}.png")
    run.pause()

"""The denoising loop of the LTX pipelines in plain PyTorch: guided Euler steps to final latents.

Each token has a noise level of its own to start from, in thousandths of sigma: 1000 is noise alone, 0 is
given and kept, anything between is a source under so much noise (SDEdit). It waits at its level until the
schedule falls below it.
"""

import json
import math

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx import rescale_noise_cfg

from . import ltx_transformer
from .common import fresh, generator, normal, save_case
from .schedulers import LTX, ramp

MODEL = "head32"
GRID = (3, 2, 3)
TEXT = 6
ROPE = (8 / 25, 32.0, 32.0)
CONSTANT = dict(curve="constant", interval=[0.0, 1.0], channels=None)
# Noise of each latent frame, or of each token where there are 18.
RUNS = {
    "text_to_video": dict(steps=4, guidance=3.0, mu=1.05, noise=[1000, 1000, 1000], **CONSTANT),
    "unguided": dict(steps=3, guidance=1.0, mu=0.95, noise=[1000, 1000, 1000], **CONSTANT),
    "image_to_video": dict(steps=4, guidance=2.5, mu=1.4, noise=[0, 1000, 1000], **CONSTANT),
    "first_and_last": dict(steps=3, guidance=1.0, mu=1.0, noise=[0, 1000, 0], **CONSTANT),
    "extension": dict(steps=4, guidance=2.0, mu=1.0, noise=[0, 0, 1000], **CONSTANT),
    "partly_noised": dict(steps=4, guidance=2.5, mu=1.1, noise=[80, 450, 1000], **CONSTANT),
    "edited": dict(steps=5, guidance=1.0, mu=1.2, noise=[600, 600, 600], **CONSTANT),
    "repainted": dict(steps=4, guidance=2.0, mu=1.0, noise=[0, 800, 1000] * 6, **CONSTANT),
    "guided_late": dict(steps=5, guidance=4.0, mu=1.0, noise=[1000] * 3, curve="power-cosine", interval=[0.3, 0.95],
                        channels=None),
    "guided_in_part": dict(steps=4, guidance=3.0, mu=1.0, noise=[1000] * 3, curve="linear", interval=[0.0, 1.0],
                           channels=3),
    "rescaled": dict(steps=4, guidance=5.0, mu=1.0, noise=[0, 1000, 1000], rescale=0.7, **CONSTANT),
}


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, F, H, W] to tokens [B, F·H·W, C]."""
    return latents.flatten(2).transpose(1, 2)


def scale(run: dict, sigma: float) -> float:
    """Guidance at a noise level; the power of the cosine is 4."""
    low, high = run["interval"]
    if not low <= sigma <= high:
        return 1.0
    share = {
        "constant": 1.0,
        "linear": 1 - sigma,
        "power-cosine": (1 - math.cos(math.pi * (1 - sigma) ** 4)) / 2,
    }[run["curve"]]
    return 1 + (run["guidance"] - 1) * share


def denoise(model, given: dict, run: dict) -> torch.Tensor:
    """Final latents [B, C, F, H, W]; everything but the scheduler's float32 tables in float64."""
    scheduler = FlowMatchEulerDiscreteScheduler(**LTX)
    scheduler.set_timesteps(sigmas=ramp(run["steps"]), mu=run["mu"])
    x = pack(given["latents"]).double()
    batch, tokens, channels = x.shape
    start = torch.tensor(run["noise"]).double() / 1000
    start = start.repeat_interleave(tokens // len(start))
    if "image_latents" in given:
        source = pack(given["image_latents"]).double()
        x = (1 - start)[None, :, None] * source + start[None, :, None] * x
    for t, sigma, after in zip(scheduler.timesteps, scheduler.sigmas, scheduler.sigmas[1:]):
        waits = start < sigma.double()
        timestep = torch.where(waits, 1000 * start, t.double()).expand(batch, tokens)
        velocity = {}
        for side in ("negative", "prompt"):
            with torch.no_grad():
                velocity[side] = model(
                    hidden_states=x, encoder_hidden_states=given[f"{side}_embeds"].double(),
                    encoder_attention_mask=given[f"{side}_attention_mask"], timestep=timestep,
                    num_frames=GRID[0], height=GRID[1], width=GRID[2], rope_interpolation_scale=ROPE).sample
        w = torch.full((channels,), scale(run, sigma.item()), dtype=torch.float64)
        w[run["channels"] or channels:] = 1
        guided = velocity["negative"] + w * (velocity["prompt"] - velocity["negative"])
        if run.get("rescale"):
            guided = rescale_noise_cfg(guided, velocity["prompt"], run["rescale"])
        move = torch.minimum(start, after.double()) - torch.minimum(start, sigma.double())
        x = x + move[None, :, None] * guided
    return x.transpose(1, 2).unflatten(2, GRID)


def generate() -> None:
    folder = fresh("sampler")
    (folder / "runs.json").write_text(json.dumps(
        dict(model=f"ltx_transformer/{MODEL}", scheduler=LTX, rope_interpolation_scale=ROPE,
             runs={name: run | dict(sigmas=ramp(run["steps"])) for name, run in RUNS.items()}), indent=2) + "\n")
    model = ltx_transformer.build(MODEL)
    config = ltx_transformer.MODELS[MODEL]["config"]
    for number, (name, run) in enumerate(RUNS.items()):
        gen = generator(700 + number)
        given = dict(latents=normal(gen, 2, config["in_channels"], *GRID))
        for side, kept in (("prompt", (6, 4)), ("negative", (1, 2))):
            given[f"{side}_embeds"] = normal(gen, 2, TEXT, config["caption_channels"])
            given[f"{side}_attention_mask"] = (torch.arange(TEXT)[None] < torch.tensor(kept)[:, None]).long()
        if min(run["noise"]) < 1000:
            given["image_latents"] = normal(gen, 2, config["in_channels"], *GRID)
        save_case(folder, name, given, dict(latents=denoise(model, given, run)))

"""The denoising loop of the LTX pipelines in plain PyTorch: guided Euler steps to final latents."""

import json

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from . import ltx_transformer
from .common import fresh, generator, normal, save_case
from .schedulers import LTX, ramp

MODEL = "head32"
GRID = (3, 2, 3)
TEXT = 6
ROPE = (8 / 25, 32.0, 32.0)
RUNS = {
    "text_to_video": dict(steps=4, guidance=3.0, mu=1.05, first_frame=False),
    "unguided": dict(steps=3, guidance=1.0, mu=0.95, first_frame=False),
    "image_to_video": dict(steps=4, guidance=2.5, mu=1.4, first_frame=True),
}


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, F, H, W] to tokens [B, F·H·W, C]."""
    return latents.flatten(2).transpose(1, 2)


def denoise(model, given: dict, run: dict) -> torch.Tensor:
    """Final latents [B, C, F, H, W]; everything but the scheduler's float32 tables in float64."""
    scheduler = FlowMatchEulerDiscreteScheduler(**LTX)
    scheduler.set_timesteps(sigmas=ramp(run["steps"]), mu=run["mu"])
    x = pack(given["latents"]).double()
    batch, tokens, _ = x.shape
    clean = torch.zeros(tokens, dtype=torch.bool)
    if run["first_frame"]:
        clean[: GRID[1] * GRID[2]] = True
        x = torch.where(clean[None, :, None], pack(given["image_latents"]).double(), x)
    for t, sigma, after in zip(scheduler.timesteps, scheduler.sigmas, scheduler.sigmas[1:]):
        timestep = torch.where(clean, 0.0, t).expand(batch, tokens)
        velocity = {}
        for side in ("negative", "prompt"):
            with torch.no_grad():
                velocity[side] = model(
                    hidden_states=x, encoder_hidden_states=given[f"{side}_embeds"].double(),
                    encoder_attention_mask=given[f"{side}_attention_mask"], timestep=timestep,
                    num_frames=GRID[0], height=GRID[1], width=GRID[2], rope_interpolation_scale=ROPE).sample
        guided = velocity["negative"] + run["guidance"] * (velocity["prompt"] - velocity["negative"])
        moved = x + (after - sigma).double() * guided
        x = torch.where(clean[None, :, None], x, moved)
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
        if run["first_frame"]:
            given["image_latents"] = normal(gen, 2, config["in_channels"], *GRID)
        save_case(folder, name, given, dict(latents=denoise(model, given, run)))

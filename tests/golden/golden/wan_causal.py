"""Block-causal Wan (Self-Forcing, arXiv 2506.08009), by recomputation: no cache, a mask over all frames so far; and AnyFlow.

For each step of a block the model of diffusers is given every frame from the first on, finished ones at the timestep of the
context, and a mask: a frame sees its own block, the first `sink` frames, and as many of the latest before its block as the window
leaves."""

import json

import torch
from diffusers import AnyFlowTransformer3DModel, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

SMALL = dict(num_attention_heads=2, attention_head_dim=16, freq_dim=64, ffn_dim=56, text_dim=20, in_channels=3, out_channels=3,
             num_layers=2)
MODELS = {
    # Four steps for every block, finished ones a little noisy to the model, the first frame always in view.
    "chunks": dict(block_frames=2, window=5, sink=1, context_noise=12.5),
    # More steps for the first block than for the others, as in Causal-Forcing++.
    "frames": dict(block_frames=1, window=3),
    # As much before a block as there is.
    "whole": dict(block_frames=3, window=21),
}
FOUR = [1000.0, 937.5, 2500 / 3, 625.0]
TWO = [1000.0, 2500 / 3]


class Masked(WanAttnProcessor):
    mask = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        return super().__call__(attn, hidden_states, encoder_hidden_states, self.mask, rotary_emb)


def seen(causal: dict, frame: int) -> set[int]:
    """The frames that one attends to."""
    block, sink = causal["block_frames"], causal.get("sink", 0)
    start = frame // block * block
    before = list(range(start))
    room = causal["window"] - block
    if len(before) > room:
        before = before[:sink] + before[len(before) - (room - sink):]
    return set(before) | set(range(start, start + block))


def rollout(model, causal: dict, latents, text, timesteps, first_timesteps, noise, negative=None, scale=1.0):
    block, context = causal["block_frames"], causal.get("context_noise", 0.0)
    batch, _, frames, height, width = latents.shape
    area = height * width // 4
    processor = Masked()
    for layer in model.blocks:
        layer.attn1.set_processor(processor)
    clean = torch.empty_like(latents)
    for start in range(0, frames, block):
        end = start + block
        sees = torch.tensor([[b in seen(causal, a) for b in range(end)] for a in range(end)])
        processor.mask = sees.repeat_interleave(area, 0).repeat_interleave(area, 1)[None, None]
        x = latents[:, :, start:end]
        steps = first_timesteps if start == 0 else timesteps
        for index, t in enumerate(steps):
            levels = torch.full((batch, end * area), context, dtype=latents.dtype)
            levels[:, start * area:] = t
            given = torch.cat([clean[:, :, :start], x], dim=2)
            with torch.no_grad():
                velocity = model(given, levels, text, return_dict=False)[0][:, :, start:]
                if negative is not None:
                    away = model(given, levels, negative, return_dict=False)[0][:, :, start:]
                    velocity = away + scale * (velocity - away)
            x = x - t / 1000 * velocity
            if index + 1 < len(steps):
                share = steps[index + 1] / 1000
                x = (1 - share) * x + share * noise[index][:, :, start:end]
        clean[:, :, start:end] = x
    return clean


def cases(name: str, gen):
    if name == "chunks":
        batch, frames, lists = 1, 10, dict(timesteps=FOUR)
    elif name == "frames":
        batch, frames, lists = 2, 6, dict(timesteps=TWO, first_timesteps=FOUR)
    else:
        batch, frames, lists = 1, 6, dict(timesteps=[1000.0, 500.0])
    shape = (batch, 3, frames, 4, 6)
    given = dict(latents=normal(gen, *shape), encoder_hidden_states=normal(gen, batch, 7, SMALL["text_dim"]))
    given |= {key: torch.tensor(values) for key, values in lists.items()}
    yield "rollout", given | dict(noise=normal(gen, max(map(len, lists.values())) - 1, *shape))
    if name == "frames":
        negative = normal(gen, batch, 5, SMALL["text_dim"])
        guided = {key: given[key] for key in ("latents", "encoder_hidden_states", "timesteps")}
        yield "rollout_guided", guided | dict(negative_encoder_hidden_states=negative, guidance_scale=torch.tensor([3.5]))
    if name == "whole":
        # The noise of a block once more after each step.
        yield "rollout_same_noise", given


def evaluate(model, causal: dict, given: dict):
    double = {key: value.double() for key, value in given.items()}
    timesteps = double["timesteps"].tolist()
    first = double["first_timesteps"].tolist() if "first_timesteps" in double else timesteps
    noise = double.get("noise", double["latents"].expand(len(first), *double["latents"].shape))
    negative, scale = double.get("negative_encoder_hidden_states"), double.get("guidance_scale", torch.ones(1)).item()
    return rollout(model, causal, double["latents"], double["encoder_hidden_states"], timesteps, first, noise, negative, scale)


def any_flow() -> None:
    """The two ways to be told where a step ends."""
    for number, kind in enumerate(("r", "t-r")):
        folder = fresh("wan_any_flow", kind.replace("-", "_minus_"))
        model = AnyFlowTransformer3DModel(**SMALL, deltatime_type=kind, gate_value=0.25 if kind == "r" else 0.4)
        seed_parameters(model, 690 + number, torch.float16)
        save_model(model, folder, torch.float16)
        gen = generator(695 + number)
        starts = torch.tensor([[1000.0, 1000.0, 1000.0], [937.5, 500.0, 0.0]])
        given = dict(hidden_states=normal(gen, 2, 3, 3, 4, 6), timestep=starts, r_timestep=starts * 0.75,
                     encoder_hidden_states=normal(gen, 2, 7, SMALL["text_dim"]))
        with torch.no_grad():
            sample = model(**{key: value.double() for key, value in given.items()}, return_dict=False)[0]
        save_case(folder, "frames", given, dict(sample=sample))


def generate() -> None:
    for number, (name, causal) in enumerate(MODELS.items()):
        folder = fresh("wan_causal", name)
        model = WanTransformer3DModel(**SMALL)
        seed_parameters(model, 680 + number, torch.float16)
        save_model(model, folder, torch.float16)
        path = folder / "config.json"
        config = json.loads(path.read_text()) | dict(kinora=dict(causal=causal))
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        for case, given in cases(name, generator(685 + number)):
            save_case(folder, case, given, dict(sample=evaluate(model, causal, given)))
    any_flow()

"""FlowMatchEulerDiscreteScheduler: sigma and timestep tables for every option, and its steps."""

import json

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from .common import fresh, generator, normal, save_case

# base_shift .. shift_terminal as published with LTX-Video.
LTX = dict(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024,
           max_image_seq_len=4096, shift_terminal=0.1)


def ramp(steps: int) -> list[float]:
    """What LTXPipeline passes as sigmas: 1 down to 1/steps."""
    return np.linspace(1.0, 1 / steps, steps).tolist()


DISTILLED = [1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725]

CASES = {
    "plain": ({}, dict(num_inference_steps=10)),
    "one_step": ({}, dict(num_inference_steps=1)),
    "shift3": (dict(shift=3.0), dict(num_inference_steps=20)),
    "shift_below_one": (dict(shift=0.3), dict(num_inference_steps=7)),
    "train_500": (dict(num_train_timesteps=500, shift=2.0), dict(num_inference_steps=9)),
    "custom_sigmas": (dict(shift=5.0), dict(sigmas=[1.0, 0.8, 0.35, 0.2])),
    "custom_timesteps": (dict(shift=2.0), dict(timesteps=[1000.0, 750.0, 500.0, 250.0])),
    "sigmas_and_timesteps": ({}, dict(sigmas=[0.9, 0.5, 0.1], timesteps=[901.0, 502.0, 99.0])),
    "distilled": ({}, dict(sigmas=DISTILLED)),
    "dynamic_exponential": (dict(use_dynamic_shifting=True), dict(num_inference_steps=12, mu=0.83)),
    "dynamic_linear": (dict(use_dynamic_shifting=True, time_shift_type="linear"),
                       dict(num_inference_steps=12, mu=1.7)),
    "dynamic_ignores_shift": (dict(use_dynamic_shifting=True, shift=4.0), dict(num_inference_steps=5, mu=0.5)),
    "ltx": (LTX, dict(sigmas=ramp(20), mu=1.05)),
    "ltx_50": (LTX, dict(sigmas=ramp(50), mu=2.05)),
    "ltx_linear": (LTX | dict(time_shift_type="linear"), dict(sigmas=ramp(8), mu=1.5)),
    "terminal": (dict(shift=3.0, shift_terminal=0.05), dict(num_inference_steps=6)),
    "karras": (dict(use_karras_sigmas=True, shift=2.0), dict(num_inference_steps=11)),
    "exponential": (dict(use_exponential_sigmas=True), dict(num_inference_steps=11)),
    "exponential_custom": (dict(use_exponential_sigmas=True, shift=3.0), dict(sigmas=ramp(6))),
    "beta": (dict(use_beta_sigmas=True), dict(num_inference_steps=13)),
    "beta_dynamic": (LTX | dict(use_beta_sigmas=True), dict(sigmas=ramp(10), mu=1.2)),
    "inverted": (dict(invert_sigmas=True), dict(num_inference_steps=8)),
    "inverted_shift": (dict(invert_sigmas=True, shift=3.0), dict(sigmas=ramp(5))),
}


def short(values) -> list[float]:
    """float32 values in the fewest digits that read back as the same float32."""
    return [float(str(np.float32(v))) for v in values.tolist()]


def tables() -> list[dict]:
    rows = []
    for name, (config, arguments) in CASES.items():
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        scheduler.set_timesteps(**arguments)
        stored = {k: v for k, v in scheduler.config.items() if not k.startswith("_") or k == "_class_name"}
        rows.append(dict(name=name, config={"_class_name": "FlowMatchEulerDiscreteScheduler"} | stored,
                         arguments=arguments, sigmas=short(scheduler.sigmas),
                         timesteps=short(scheduler.timesteps)))
    return rows


def integrate(folder, case: str, per_token: bool) -> None:
    """Three Euler steps with given model outputs; latents [B, L, C]."""
    gen = generator(600 + per_token)
    scheduler = FlowMatchEulerDiscreteScheduler(**LTX)
    scheduler.set_timesteps(sigmas=ramp(3), mu=1.3)
    sample = normal(gen, 2, 6, 4)
    outputs = normal(gen, 3, 2, 6, 4)
    given = dict(sample=sample, model_outputs=outputs)
    clean = torch.tensor([[True] * 2 + [False] * 4, [False] * 6])
    expected = {}
    for index, t in enumerate(scheduler.timesteps):
        extra = {}
        if per_token:
            extra = dict(per_token_timesteps=torch.where(clean, 0.0, t))
            given[f"per_token_timesteps_{index}"] = extra["per_token_timesteps"]
        sample = scheduler.step(outputs[index], t, sample, return_dict=False, **extra)[0]
        expected[f"sample_{index + 1}"] = sample
    save_case(folder, case, given, expected)


def generate() -> None:
    folder = fresh("scheduler")
    rows = ",\n".join(json.dumps(row) for row in tables())
    (folder / "tables.json").write_text(f"[\n{rows}\n]\n")
    (folder / "steps.json").write_text(json.dumps(
        dict(config=LTX, arguments=dict(sigmas=ramp(3), mu=1.3)), indent=2) + "\n")
    integrate(folder, "euler", per_token=False)
    integrate(folder, "per_token", per_token=True)

"""LTXConditionPipeline, LTXLatentUpsamplePipeline and LTXConditionPipeline again: small latents, larger ones, refined ones, frames.

The components are those of `ltx_pipeline`, the upsampler one of `ltx_upsampler`. The noise of all passes is Kinora's, whose passes have
seeds of their own; the reference is handed it in place of what it draws."""

import json
import math

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline, LTXLatentUpsamplePipeline
from diffusers.pipelines.ltx import pipeline_ltx_condition
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

from PIL import Image

from .common import ROOT, fresh, save_case
from .ltx_pipeline import SIZE, components, states

SCHEDULER = dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=1.0)
NEXT_PASS = 0x9E3779B97F4A7C15
CASES = {
    # 0.9.8 distilled: no guidance, levels of its own.
    "distilled": dict(seed=11, guidance=1.0, prompt="a sleeping cat", negative="", upsampler="space",
                      sigmas=[1.0, 0.9937, 0.9875, 0.9094, 0.725],
                      second_pass=dict(sigmas=[0.9094, 0.725, 0.4219], adain_factor=1.0, tone_map_compression_ratio=0.6)),
    # The levels of the class, and guidance.
    "guided": dict(seed=12, guidance=3.0, prompt="a rocket at sunset", negative="blurred", upsampler="space", steps=4,
                   second_pass=dict(sigmas=[0.6, 0.3], adain_factor=0.0)),
    # Frames between frames.
    "time": dict(seed=13, guidance=1.0, prompt="a sleeping cat", negative="", upsampler="time", steps=3,
                 second_pass=dict(sigmas=[0.5, 0.25], adain_factor=0.5)),
    # The first frame in its place and another beside the clip, in the size of each pass.
    "given": dict(seed=14, guidance=1.0, prompt="a sleeping cat", negative="", upsampler="space", steps=3, images=[0, 6], strength=1.0,
                  second_pass=dict(sigmas=[0.6, 0.3], adain_factor=0.0)),
}
# Of the noise on what stands beside a clip.
BESIDE = 2**64 - 2


def philox(seed: int, stream: int, count: int) -> torch.Tensor:
    """Kinora's noise: Philox4x32-10 and Box-Muller, as `sampling/noise.rs` says."""
    values, word, block = [], 0xFFFFFFFF, 0
    while len(values) < count:
        counter = [block & word, block >> 32, stream & word, stream >> 32]
        key = [seed & word, seed >> 32]
        for _ in range(10):
            a, b = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
            counter = [(b >> 32) ^ counter[1] ^ key[0], b & word, (a >> 32) ^ counter[3] ^ key[1], a & word]
            key = [(key[0] + 0x9E3779B9) & word, (key[1] + 0xBB67AE85) & word]
        for radius, angle in (counter[:2], counter[2:]):
            length = math.sqrt(-2 * math.log((radius + 0.5) / 2**32))
            turn = 2 * math.pi * (angle / 2**32)
            values += [length * math.cos(turn), length * math.sin(turn)]
        block += 1
    return torch.tensor(values[:count], dtype=torch.float32)


def picture(number: int, scale: int) -> Image.Image:
    """Stripes that the test in Rust draws, too; at twice the size others."""
    sides = (torch.arange(scale * SIZE["height"]), torch.arange(scale * SIZE["width"]), torch.arange(3))
    y, x, channel = torch.meshgrid(*sides, indexing="ij")
    return Image.fromarray(((37 * number + 5 * y + 3 * x + 50 * channel) % 256).to(torch.uint8).numpy())


def generate() -> None:
    folder = fresh("ltx_two_pass")
    (folder / "cases.json").write_text(json.dumps(dict(scheduler=SCHEDULER, cases=CASES), indent=2) + "\n")
    parts = components()
    drawn, retrieved = pipeline_ltx_condition.randn_tensor, pipeline_ltx_condition.retrieve_latents
    pipeline_ltx_condition.retrieve_latents = lambda encoded, generator=None: encoded.latent_dist.mode()
    for name, case in CASES.items():
        scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
        pipeline = LTXConditionPipeline(scheduler=scheduler, **parts)
        pipeline.set_progress_bar_config(disable=True)
        upsampler = LTXLatentUpsamplerModel.from_pretrained(ROOT / "ltx_upsampler" / case["upsampler"]).float()
        upsample = LTXLatentUpsamplePipeline(vae=parts["vae"], latent_upsampler=upsampler)
        seed, (prompt, mask) = case["seed"], states(parts, case["prompt"])
        text = dict(prompt_embeds=prompt, prompt_attention_mask=mask)
        text["negative_prompt_embeds"], text["negative_prompt_attention_mask"] = states(parts, case["negative"])
        images = case.get("images", [])
        beside = sum(at > 0 for at in images)
        streams = iter([(own, stream) for own in (seed, seed ^ NEXT_PASS) for stream in (0, *(BESIDE - at for at in range(beside)))])

        def draw(shape, **_):
            return philox(*next(streams), math.prod(shape)).reshape(shape)

        def given(scale):
            return dict(conditions=[LTXVideoCondition(image=picture(number, scale), frame_index=at, strength=case["strength"])
                                    for number, at in enumerate(images)], image_cond_noise_scale=0.0) if images else {}

        pipeline_ltx_condition.randn_tensor = draw
        timing = dict(timesteps=[1000 * sigma for sigma in case["sigmas"]]) if "sigmas" in case else dict(num_inference_steps=case["steps"])
        common = dict(guidance_scale=case["guidance"], output_type="latent", **text)
        small = pipeline(**SIZE, **timing, **given(1), **common).frames
        height, width, frames, rate = SIZE["height"], SIZE["width"], SIZE["num_frames"], 25
        if case["upsampler"] == "time":
            frames, rate = 2 * frames - 1, 2 * rate
        else:
            height, width = 2 * height, 2 * width
        second = case["second_pass"]
        larger = upsample(latents=small, height=height, width=width, output_type="latent", adain_factor=second["adain_factor"],
                          tone_map_compression_ratio=second.get("tone_map_compression_ratio", 0.0)).frames
        # A pass that begins below the first level: the one that is left out decides only where it begins.
        levels = [1000.0] + [1000 * sigma for sigma in second["sigmas"]]
        refined = pipeline(height=height, width=width, num_frames=frames, frame_rate=rate, timesteps=levels, latents=larger,
                           denoise_strength=0.9999, **given(2), **common).frames
        save_case(folder, name, {"seed": seed}, dict(latents=refined))
        print(name, tuple(small.shape), tuple(refined.shape))
    pipeline_ltx_condition.randn_tensor, pipeline_ltx_condition.retrieve_latents = drawn, retrieved

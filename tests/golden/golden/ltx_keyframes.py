"""LTXConditionPipeline with images and clips that begin later than the clip: tokens of their own beside those of the clip.

The components are those of `ltx_pipeline`. The reference is handed Kinora's noise in place of what it draws, and the mean of encoded
latents in place of a draw from their distribution; it adds no further noise to what is given."""

import json
import math

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline
from diffusers.pipelines.ltx import pipeline_ltx_condition
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from .common import fresh, save_case
from .ltx_pipeline import SIZE, components, states
from .ltx_two_pass import SCHEDULER, philox

BESIDE = 2**64 - 2
TEXT = dict(prompt="a rocket at sunset", negative="blurred")
CASES = {
    # The first frame in its place, another between two latent frames.
    "images": dict(seed=21, guidance=3.0, steps=4, frames=13, images=[0, 6], strength=1.0, **TEXT),
    # Under some noise, so that the tokens move at the end.
    "strength": dict(seed=22, guidance=1.0, steps=5, frames=9, images=[8], strength=0.8, **TEXT),
    # What led to a clip: its first two latent frames stand beside, the others in their places.
    "backward": dict(seed=23, guidance=2.0, steps=3, frames=17, images=[], overlap=3, strength=1.0, **TEXT),
}


def picture(number: int) -> Image.Image:
    """Stripes that the test in Rust draws, too."""
    y, x, channel = torch.meshgrid(torch.arange(SIZE["height"]), torch.arange(SIZE["width"]), torch.arange(3), indexing="ij")
    return Image.fromarray(((37 * number + 5 * y + 3 * x + 50 * channel) % 256).to(torch.uint8).numpy())


def generate() -> None:
    folder = fresh("ltx_keyframes")
    (folder / "cases.json").write_text(json.dumps(dict(scheduler=SCHEDULER, cases=CASES), indent=2) + "\n")
    parts = components()
    drawn, retrieved = pipeline_ltx_condition.randn_tensor, pipeline_ltx_condition.retrieve_latents
    pipeline_ltx_condition.retrieve_latents = lambda encoded, generator=None: encoded.latent_dist.mode()
    for name, case in CASES.items():
        pipeline = LTXConditionPipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **parts)
        pipeline.set_progress_bar_config(disable=True)
        count = len(case["images"]) or 4 * case["overlap"]
        pictures = [picture(at) for at in range(count)]
        if case["images"]:
            given = [LTXVideoCondition(image=image, frame_index=at, strength=case["strength"])
                     for image, at in zip(pictures, case["images"])]
        else:
            # A latent frame stands for four frames; the frame before is the first one once more.
            start = 4 * ((case["frames"] - 1) // 4 - case["overlap"])
            given = [LTXVideoCondition(video=[pictures[0], *pictures], frame_index=start, strength=case["strength"])]
        streams = iter([0, *(BESIDE - at for at in range(count))])

        def draw(shape, **_):
            return philox(case["seed"], next(streams), math.prod(shape)).reshape(shape)

        pipeline_ltx_condition.randn_tensor = draw
        text = {}
        for sign in ("", "negative_"):
            text[f"{sign}prompt_embeds"], text[f"{sign}prompt_attention_mask"] = states(parts, case[sign[:-1] or "prompt"])
        made = pipeline(conditions=given, height=SIZE["height"], width=SIZE["width"], num_frames=case["frames"], output_type="latent",
                        num_inference_steps=case["steps"], guidance_scale=case["guidance"], image_cond_noise_scale=0.0, **text).frames
        save_case(folder, name, dict(seed=case["seed"]), dict(latents=made))
        print(name, tuple(made.shape))
    pipeline_ltx_condition.randn_tensor, pipeline_ltx_condition.retrieve_latents = drawn, retrieved

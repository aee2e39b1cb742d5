"""LTXLatentUpsamplerModel: height and width, time, and each frame by itself."""

import torch
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

MODELS = {
    "space": dict(),
    "time": dict(spatial_upsample=False, temporal_upsample=True),
    "frames": dict(dims=2),
}


def generate() -> None:
    for number, (name, config) in enumerate(MODELS.items()):
        folder = fresh("ltx_upsampler", name)
        model = LTXLatentUpsamplerModel(in_channels=6, mid_channels=32, num_blocks_per_stage=1, **config)
        seed_parameters(model, 130 + number, torch.float16)
        save_model(model, folder, torch.float16)
        given = dict(hidden_states=normal(generator(135 + number), 2, 6, 3, 2, 5))
        with torch.no_grad():
            sample = model(given["hidden_states"].double())
        save_case(folder, "clips", given, dict(sample=sample))

"""AutoencoderKLWan in small: the blocks of Wan 2.1 and the residual ones of Wan 2.2."""

import torch
from diffusers import AutoencoderKLWan

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

STATISTICS = dict(
    latents_mean=[-0.7571, -0.7089, -0.9113, 0.1075, 0.9653, 1.5508],
    latents_std=[2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708],
)

MODELS = {
    "v21": dict(
        config=dict(base_dim=4, z_dim=6, dim_mult=[1, 2, 2, 2], num_res_blocks=1,
                    temperal_downsample=[False, True, True]),
        # Frames that fill no group of four are left out by the class.
        encode=[(1, 9, 16, 24), (2, 1, 8, 16), (1, 7, 8, 8)], decode=[(1, 3, 2, 3), (2, 2, 1, 1), (1, 1, 3, 1)],
    ),
    # One halving of time: a group of four frames gives two latents.
    "v21_two_stages": dict(
        config=dict(base_dim=4, z_dim=6, dim_mult=[1, 1, 2], num_res_blocks=2, temperal_downsample=[True, False],
                    scale_factor_temporal=2, scale_factor_spatial=4),
        encode=[(1, 5, 8, 12)], decode=[(1, 4, 3, 1)],
    ),
    "v22": dict(
        config=dict(base_dim=4, decoder_base_dim=6, z_dim=6, dim_mult=[1, 1, 2, 2], num_res_blocks=1,
                    temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12,
                    patch_size=2, scale_factor_spatial=16),
        encode=[(1, 9, 16, 32), (2, 1, 16, 16), (1, 5, 32, 16)], decode=[(1, 3, 1, 2), (2, 1, 1, 1), (1, 2, 2, 1)],
    ),
}


def build(name: str) -> AutoencoderKLWan:
    model = AutoencoderKLWan(**MODELS[name]["config"], **STATISTICS)
    seed_parameters(model, 700 + list(MODELS).index(name), torch.float16)
    return model


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("wan_vae", name)
        model = build(name)
        save_model(model, folder, torch.float16)
        gen = generator(750 + number)
        with torch.no_grad():
            for batch, frames, height, width in spec["encode"]:
                # Half-precision values keep the file small; a video is 8 bits deep anyway.
                x = normal(gen, batch, 3, frames, height, width).half()
                posterior = model.encode(x.double()).latent_dist
                save_case(folder, f"encode_{batch}x{frames}x{height}x{width}", dict(x=x),
                          dict(mean=posterior.mean, logvar=posterior.logvar))
            for batch, frames, height, width in spec["decode"]:
                z = normal(gen, batch, spec["config"]["z_dim"], frames, height, width)
                sample = model.decode(z.double()).sample
                if sample.abs().lt(1.0).float().mean() < 0.5:
                    raise ValueError(f"{name}: most of the result is clamped and proves little")
                save_case(folder, f"decode_{batch}x{frames}x{height}x{width}", dict(z=z), dict(sample=sample))

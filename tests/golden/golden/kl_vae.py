"""AutoencoderKL in small: the autoencoder of images of latent diffusion."""

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from .common import fresh, generator, normal, save_case, save_model, seed_parameters


def config(widths: list[int], **more) -> dict:
    return dict(block_out_channels=widths, down_block_types=["DownEncoderBlock2D"] * len(widths),
                up_block_types=["UpDecoderBlock2D"] * len(widths), norm_num_groups=3) | more


MODELS = {
    # As Stable Diffusion's in small: groups of three and four channels, no multiple of four.
    "small": dict(config=config([9, 12, 12], layers_per_block=1), encode=[(2, 8, 12), (1, 4, 4)], decode=[(2, 2, 3), (1, 1, 1)]),
    # The same, named as in files of the first versions.
    "first_names": dict(config=config([6, 6], layers_per_block=1), encode=[(1, 4, 6)], decode=[(1, 3, 2)]),
    # What later ones leave out, and a shift.
    "plain": dict(
        config=config([6, 9], layers_per_block=2, latent_channels=5, use_quant_conv=False, use_post_quant_conv=False,
                      mid_block_add_attention=False, shift_factor=0.25, scaling_factor=0.5),
        encode=[(1, 6, 4)], decode=[(1, 2, 3)],
    ),
}

FIRST_NAMES = dict(to_q="query", to_k="key", to_v="value", to_out="proj_attn")


def build(name: str) -> AutoencoderKL:
    model = AutoencoderKL(**MODELS[name]["config"])
    seed_parameters(model, 1200 + list(MODELS).index(name), torch.float16)
    return model


def with_first_names(key: str) -> str:
    for new, first in FIRST_NAMES.items():
        key = key.replace(f"attentions.0.{new}.0.", f"attentions.0.{first}.").replace(f"attentions.0.{new}.", f"attentions.0.{first}.")
    return key


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("kl_vae", name)
        model = build(name)
        save_model(model, folder, torch.float16)
        if name == "first_names":
            file = folder / "diffusion_pytorch_model.safetensors"
            save_file({with_first_names(key): value for key, value in load_file(file).items()}, file)
        gen = generator(1250 + number)
        with torch.no_grad():
            for batch, height, width in spec["encode"]:
                x = normal(gen, batch, 3, height, width).half()
                posterior = model.encode(x.double()).latent_dist
                save_case(folder, f"encode_{batch}x{height}x{width}", dict(x=x), dict(mean=posterior.mean, logvar=posterior.logvar))
            for batch, height, width in spec["decode"]:
                z = normal(gen, batch, model.config.latent_channels, height, width)
                save_case(folder, f"decode_{batch}x{height}x{width}", dict(z=z), dict(sample=model.decode(z.double()).sample))

"""AutoencoderKLCogVideoX in small: group norms over batches of frames, modulated by the latents in the decoder."""

import torch
from diffusers import AutoencoderKLCogVideoX

from .common import fresh, generator, normal, save_case, save_model, seed_parameters


def config(widths: list[int], **more) -> dict:
    return dict(block_out_channels=widths, down_block_types=["CogVideoXDownBlock3D"] * len(widths),
                up_block_types=["CogVideoXUpBlock3D"] * len(widths), latent_channels=5, norm_num_groups=4) | more


MODELS = {
    # Time is halved twice as in the published model. Groups of two and of three channels.
    "small": dict(
        config=config([8, 12, 12], layers_per_block=1),
        # Frames are encoded by eights, what is left over with the first: 9 + 8, 13, 9, 1, 12.
        encode=[(1, 17, 8, 12), (1, 13, 4, 4), (2, 9, 4, 8), (1, 1, 8, 4), (1, 12, 4, 4)],
        # Latents by twos: 3 + 2, 2 + 2, 3, 1.
        decode=[(1, 5, 2, 3), (1, 4, 1, 2), (2, 3, 2, 1), (1, 1, 3, 1)],
    ),
    # Time is halved once, space three times.
    "one_halving": dict(
        config=config([4, 8, 8, 12], layers_per_block=2, temporal_compression_ratio=2, norm_eps=1e-5),
        encode=[(1, 10, 8, 16)], decode=[(1, 3, 1, 2)],
    ),
}


def build(name: str) -> AutoencoderKLCogVideoX:
    model = AutoencoderKLCogVideoX(**MODELS[name]["config"])
    seed_parameters(model, 1000 + list(MODELS).index(name), torch.float16)
    return model


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("cogvideox_vae", name)
        model = build(name)
        save_model(model, folder, torch.float16)
        gen = generator(1050 + number)
        with torch.no_grad():
            for batch, frames, height, width in spec["encode"]:
                # Half-precision values keep the file small; a video is 8 bits deep anyway.
                x = normal(gen, batch, 3, frames, height, width).half()
                posterior = model.encode(x.double()).latent_dist
                save_case(folder, f"encode_{batch}x{frames}x{height}x{width}", dict(x=x),
                          dict(mean=posterior.mean, logvar=posterior.logvar))
            for batch, frames, height, width in spec["decode"]:
                z = normal(gen, batch, spec["config"]["latent_channels"], frames, height, width)
                save_case(folder, f"decode_{batch}x{frames}x{height}x{width}", dict(z=z),
                          dict(sample=model.decode(z.double()).sample))

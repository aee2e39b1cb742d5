"""AutoencoderKLLTXVideo: the 0.9.0 blocks, the 0.9.5 blocks, and the shape of Kinora's default model."""

import torch
from diffusers import AutoencoderKLLTXVideo

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

MODELS = {
    # LTX-Video 0.9.0 in small: strided convolutions, conv shortcuts where the width changes.
    "v090": dict(
        config=dict(
            latent_channels=6, block_out_channels=(6, 8, 12), decoder_block_out_channels=(6, 8, 12),
            down_block_types=("LTXVideoDownBlock3D",) * 3, downsample_type=("conv",) * 3,
            layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False), decoder_spatio_temporal_scaling=(True, True, False),
            decoder_inject_noise=(False,) * 4, upsample_residual=(False,) * 3, upsample_factor=(1, 1, 1),
            timestep_conditioning=False, patch_size=2, encoder_causal=True, decoder_causal=False),
        encode=[(1, 9, 16, 24), (2, 1, 8, 16)], decode=[(1, 3, 2, 3), (2, 1, 1, 2)],
    ),
    # The same blocks with a causal decoder and an encoder that looks both ways.
    "v090_causal_decoder": dict(
        config=dict(
            latent_channels=5, block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            down_block_types=("LTXVideoDownBlock3D",) * 2, downsample_type=("conv",) * 2,
            layers_per_block=(1, 1, 1), decoder_layers_per_block=(2, 1, 1),
            spatio_temporal_scaling=(True, False), decoder_spatio_temporal_scaling=(True, False),
            decoder_inject_noise=(False,) * 3, upsample_residual=(False,) * 2, upsample_factor=(1, 1),
            timestep_conditioning=False, patch_size=4, encoder_causal=False, decoder_causal=True),
        encode=[(1, 9, 16, 8)], decode=[(1, 3, 2, 1)],
    ),
    # LTX-Video 0.9.5+ in small: averaged-group downsampling of every kind, residual upsampling,
    # a decoder that is told the noise level left in the latents.
    "v095": dict(
        config=dict(
            latent_channels=7, block_out_channels=(4, 8, 8, 16), decoder_block_out_channels=(8, 16),
            down_block_types=("LTXVideo095DownBlock3D",) * 3,
            downsample_type=("spatial", "temporal", "spatiotemporal"),
            layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 2),
            spatio_temporal_scaling=(True, True, True), decoder_spatio_temporal_scaling=(True, True),
            decoder_inject_noise=(False,) * 3, upsample_residual=(True, True), upsample_factor=(2, 2),
            timestep_conditioning=True, patch_size=2, encoder_causal=True, decoder_causal=False,
            spatial_compression_ratio=8, temporal_compression_ratio=4),
        encode=[(1, 9, 16, 24), (1, 17, 8, 8)], decode=[(2, 2, 1, 2)],
    ),
    # Kinora's default model in small.
    "default_shape": dict(
        config=dict(
            latent_channels=8, block_out_channels=(4, 8, 16), decoder_block_out_channels=(8, 16),
            down_block_types=("LTXVideo095DownBlock3D",) * 2, downsample_type=("spatiotemporal",) * 2,
            layers_per_block=(0, 1, 2), decoder_layers_per_block=(1, 1, 2),
            spatio_temporal_scaling=(True, True), decoder_spatio_temporal_scaling=(True, True),
            decoder_inject_noise=(False,) * 3, upsample_residual=(True, True), upsample_factor=(1, 2),
            timestep_conditioning=False, patch_size=4, encoder_causal=True, decoder_causal=False),
        encode=[(1, 17, 16, 32), (2, 1, 32, 16)], decode=[(1, 5, 1, 2), (2, 1, 2, 1), (1, 2, 2, 3)],
    ),
}


def build(name: str) -> AutoencoderKLLTXVideo:
    number = list(MODELS).index(name)
    model = AutoencoderKLLTXVideo(**MODELS[name]["config"])
    seed_parameters(model, 300 + number, torch.float16)
    gen = generator(350 + number)
    model.latents_mean.copy_((0.3 * normal(gen, *model.latents_mean.shape)).half())
    model.latents_std.copy_((1.0 + 0.2 * normal(gen, *model.latents_std.shape)).half())
    return model


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("ltx_vae", name)
        model = build(name)
        save_model(model, folder, torch.float16)
        gen = generator(400 + number)
        with torch.no_grad():
            for batch, frames, height, width in spec["encode"]:
                # Half-precision values keep the file small; a video is 8 bits deep anyway.
                x = normal(gen, batch, 3, frames, height, width).half()
                posterior = model.encode(x.double()).latent_dist
                save_case(folder, f"encode_{batch}x{frames}x{height}x{width}", dict(x=x),
                          dict(mean=posterior.mean, logvar=posterior.logvar))
            for batch, frames, height, width in spec["decode"]:
                given = dict(z=normal(gen, batch, spec["config"]["latent_channels"], frames, height, width))
                if spec["config"]["timestep_conditioning"]:
                    given["temb"] = torch.tensor([0.05, 0.3][:batch])
                sample = model.decode(**{k: v.double() for k, v in given.items()}).sample
                save_case(folder, f"decode_{batch}x{frames}x{height}x{width}", given, dict(sample=sample))

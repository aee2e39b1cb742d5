"""TAEHV in small. No library has the class, so it stands here, written from its architecture (github.com/madebyollin/taehv, MIT):
two lists of layers whose positions name the tensors. Widths are arguments, for small files; the published ones are the defaults."""

import json

import torch
from torch import nn
from torch.nn import functional as F

from .common import clean_config, fresh, generator, normal, save_case, seed_parameters

CHOICES = dict(encoder_time_downscale=(True, True, False), decoder_time_upscale=(False, True, True),
               decoder_space_upscale=(True, True, True), patch_size=1, latent_channels=16, arch_variant=None)


def conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class Memory(nn.Module):
    """Sees each frame [B, F, C, H, W] beside the one before it, zeros before the first."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(conv(2 * channels, channels), nn.ReLU(), conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        both = torch.cat([x, before], dim=2)
        return torch.relu(self.conv(both.flatten(0, 1)).unflatten(0, x.shape[:2]) + x)


class Pool(nn.Module):
    """Joins the channels of frames that follow each other, and mixes them."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels * frames, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, channels, height, width = x.shape
        return self.conv(x.reshape(-1, self.frames * channels, height, width)).unflatten(0, (batch, count // self.frames))


class Grow(nn.Module):
    """Makes the channels of several frames, which then part."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels, channels * frames, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, channels, height, width = x.shape
        return self.conv(x.flatten(0, 1)).reshape(batch, count * self.frames, channels, height, width)


class Bend(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


class Taehv(nn.Module):
    def __init__(self, encoder_time_downscale, decoder_time_upscale, decoder_space_upscale, patch_size, latent_channels,
                 arch_variant, widths=(256, 128, 64, 64), encoder_width=64):
        super().__init__()
        if arch_variant is not None:
            raise ValueError("the other decoder is not here")
        self.patch, pixels, width = patch_size, 3 * patch_size**2, encoder_width
        layers = [conv(pixels, width), nn.ReLU()]
        for halves in encoder_time_downscale:
            layers += [Pool(width, 1 + halves), conv(width, width, stride=2, bias=False), *(Memory(width) for _ in range(3))]
        self.encoder = nn.ModuleList([*layers, conv(width, latent_channels)])
        layers = [Bend(), conv(latent_channels, widths[0]), nn.ReLU()]
        for stage, (time, space) in enumerate(zip(decoder_time_upscale, decoder_space_upscale)):
            this, next_width = widths[stage], widths[stage + 1]
            layers += [*(Memory(this) for _ in range(3)), nn.Upsample(scale_factor=1 + space), Grow(this, 1 + time),
                       conv(this, next_width, bias=False)]
        self.decoder = nn.ModuleList([*layers, nn.ReLU(), conv(widths[3], pixels)])
        self.taken = 2 ** sum(encoder_time_downscale)
        self.early = 2 ** sum(decoder_time_upscale) - 1

    @staticmethod
    def _run(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
        for layer in layers:
            in_time = isinstance(layer, (Memory, Pool, Grow))
            x = layer(x) if in_time else layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Frames [B, 3, F, H, W] in 0..1 to latents."""
        x = F.pixel_unshuffle(x.transpose(1, 2), self.patch)
        missing = -x.shape[1] % self.taken
        x = torch.cat([x, x[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
        return self._run(self.encoder, x).transpose(1, 2)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, F, H, W] to frames in 0..1."""
        frames = F.pixel_shuffle(self._run(self.decoder, z.transpose(1, 2)), self.patch).clamp(0, 1)
        return frames[:, self.early:].transpose(1, 2)


MODELS = {
    "taew2_1": dict(latent_channels=6),
    "taew2_2": dict(latent_channels=10, patch_size=2),
}


def generate() -> None:
    from safetensors.torch import save_file

    for number, (name, config) in enumerate(MODELS.items()):
        folder = fresh("taehv", name)
        config = dict(CHOICES, **config)
        model = Taehv(**config, widths=(12, 8, 6, 6), encoder_width=6)
        seed_parameters(model, 800 + number, torch.float16)
        with torch.no_grad():
            # Frames in the middle of 0..1: what is cut off proves nothing.
            model.decoder[-1].weight.mul_(0.25)
            model.decoder[-1].bias.copy_((0.5 + 0.1 * model.decoder[-1].bias).half())
            model.decoder[-1].weight.copy_(model.decoder[-1].weight.half())
            save_file({key: value.half().contiguous() for key, value in model.state_dict().items()},
                      folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(dict(config, _class_name="TAEHV")))
            clean_config(folder / "config.json")
            gen = generator(850 + number)
            unit = 8 * config["patch_size"]
            for batch, frames, height, width in [(1, 9, 2 * unit, unit), (2, 1, unit, unit), (1, 6, unit, 3 * unit)]:
                x = torch.rand(batch, 3, frames, height, width, generator=gen).half()
                save_case(folder, f"encode_{batch}x{frames}x{height}x{width}", dict(x=x), dict(latents=model.encode(x.double())))
            for batch, frames, height, width in [(1, 3, 2, 3), (2, 2, 1, 1), (1, 1, 3, 1)]:
                z = 2 * normal(gen, batch, config["latent_channels"], frames, height, width)
                sample = model.decode(z.double())
                inside = ((sample > 0) & (sample < 1)).float().mean()
                if inside < 0.5:
                    raise ValueError(f"{name}: {inside:.2f} of the result is not cut off, which proves little")
                save_case(folder, f"decode_{batch}x{frames}x{height}x{width}", dict(z=z), dict(sample=sample))

"""How latents become transformer tokens, and the position the transformer is told.

A token is 1 x 2 x 2 latents. Its features are ordered (channel, row, column): feature
`c * 4 + row * 2 + column`. Tokens are ordered (frame, row, column), the last one fastest.
After the 128 latent features come 15 constant coordinate features, the same for every sample.
"""

import math

import torch

from .config import PACKING

# Position per axis as the transformer's rotary embedding sees it: one token is 1/64 of the range
# (the class divides by 20 frames and 2048 pixels).
ROPE_SCALE = (20 / 64, 2048 / 64, 2048 / 64)


def pack_tokens(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, F, H, W] to [B, F * H/2 * W/2, C * 4]."""
    b, c, f, h, w = latents.shape
    _, p, q = PACKING
    x = latents.reshape(b, c, f, h // p, p, w // q, q)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, f * (h // p) * (w // q), c * p * q)


def unpack_tokens(tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
    """The inverse; `frames`, `height`, `width` count latents."""
    b, _, features = tokens.shape
    _, p, q = PACKING
    x = tokens.reshape(b, frames, height // p, width // q, features // (p * q), p, q)
    return x.permute(0, 4, 1, 2, 5, 3, 6).reshape(b, -1, frames, height, width)


def coordinates(frames: int, rows: int, columns: int) -> torch.Tensor:
    """[frames * rows * columns, 15]: for t, y, x in this order the five features 2u - 1,
    sin 2 pi u, cos 2 pi u, sin 4 pi u, cos 4 pi u. Space: u = (i + 1/2) / n. Time: u = f / 8
    whatever the length, so that the first frame of every clip and a still image look alike."""
    axes = (
        torch.arange(frames) / 8,
        (torch.arange(rows) + 0.5) / rows,
        (torch.arange(columns) + 0.5) / columns,
    )
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3, 1)
    angle = 2 * math.pi * grid
    features = (2 * grid - 1, angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos())
    return torch.cat(features, -1).reshape(-1, 15)


def velocity(model, latents, sigma, text, mask) -> torch.Tensor:
    """The transformer's velocity (noise minus data) for `latents` [B, C, F, H, W].

    `sigma` is [B] or, when some frames are given, [B, F]; text [B, L, 384], mask [B, L].
    """
    b, _, f, h, w = latents.shape
    rows, columns = h // PACKING[1], w // PACKING[2]
    tokens = pack_tokens(latents)
    place = coordinates(f, rows, columns).to(tokens.dtype).expand(b, -1, -1)
    sigma = sigma[:, None] if sigma.ndim == 1 else sigma.repeat_interleave(rows * columns, 1)
    out = model(
        hidden_states=torch.cat((tokens, place), -1),
        encoder_hidden_states=text,
        timestep=sigma * 1000,
        encoder_attention_mask=mask,
        num_frames=f,
        height=rows,
        width=columns,
        rope_interpolation_scale=ROPE_SCALE,
        return_dict=False,
    )[0]
    return unpack_tokens(out, f, h, w)

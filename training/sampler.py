"""Euler sampling of the rectified flow, with or without guidance and given frames."""

import torch

from .packing import velocity


def initial_noise(seed: int, shape=(32, 5, 8, 8)) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sample(model, noise, text, mask, empty, steps, guidance=1.0, given=None, keep=None, bf16=True):  # fmt: skip
    """Runs sigma from 1 to 0 in `steps` equal steps.

    noise [B, C, F, H, W]; text, mask as `TextEncoder` returns them; `empty` is the pair for the
    empty prompt (only read when guidance is not 1). `keep` [F] marks given latent frames, which
    hold the values of `given` and are told to be clean (sigma 0).
    Returns the latents after every step, the last entry being the result.
    """
    x, states = noise.clone(), []
    b, _, frames = x.shape[:3]
    if keep is not None:
        x[:, :, keep] = given[:, :, keep]
    if guidance != 1:
        text = torch.cat((text, empty[0].expand(b, -1, -1)))
        mask = torch.cat((mask, empty[1].expand(b, -1)))
    sigmas = torch.linspace(1, 0, steps + 1)
    for now, after in zip(sigmas[:-1], sigmas[1:]):
        sigma = now.expand(b)
        if keep is not None:
            sigma = now * (~keep).float().expand(b, frames)
        both = 2 if guidance != 1 else 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            v = velocity(
                model,
                x.repeat(both, 1, 1, 1, 1),
                sigma.repeat(both, *[1] * (sigma.ndim - 1)),
                text,
                mask,
            ).float()
        if guidance != 1:
            v, free = v.chunk(2)
            v = free + guidance * (v - free)
        x = x + (after - now) * v
        if keep is not None:
            x[:, :, keep] = given[:, :, keep]
        states.append(x)
    return states

"""Which latent frames of a clip are given: the cases of image to video, extension, filling in."""

import torch

# The first frame is listed more often: it is what image to video needs.
CASES = ("first", "first", "first", "prefix", "last", "suffix", "ends", "both", "keyframe")


def given_frames(frames: int, generator: torch.Generator) -> torch.Tensor:
    """[frames] bool, true for given latent frames; at least one is given and one is free."""
    keep = torch.zeros(frames, dtype=torch.bool)
    case = CASES[torch.randint(len(CASES), (), generator=generator)]
    several = 1 + int(torch.randint(frames // 2, (), generator=generator))
    if case == "keyframe":
        keep[torch.randint(frames, (), generator=generator)] = True
    if case in ("first", "ends"):
        keep[0] = True
    if case in ("last", "ends"):
        keep[-1] = True
    if case == "prefix":
        keep[:several] = True
    if case == "suffix":
        keep[-several:] = True
    if case == "both":  # as much on both sides as leaves a frame free
        several = min(several, (frames - 1) // 2)
        keep[:several] = keep[-several:] = True
    return keep

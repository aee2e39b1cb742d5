"""CascadeStage of `training/`: both stages of flipbook's cascade in small, and one of three resolutions."""

import sys

import torch

from .common import ROOT, fresh, generator, normal, save_case, seed_parameters

sys.path.insert(0, str(ROOT.parent.parent))
from training.cascade import CascadeStage, export  # noqa: E402

MODELS = {
    "upscale": dict(
        config=dict(scale=2, between=False, channels=[5, 8], blocks=[1, 2]),
        cases=[(1, 5, 8, 12), (2, 1, 4, 4)],
    ),
    "interpolate": dict(
        config=dict(scale=1, between=True, channels=[8, 6, 9], blocks=[2, 0, 1]),
        cases=[(1, 4, 8, 16), (2, 2, 16, 8)],
    ),
}


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("cascade", name)
        model = CascadeStage(**spec["config"])
        seed_parameters(model, 900 + number, torch.float16)
        export(model, folder, torch.float16)
        gen = generator(950 + number)
        with torch.no_grad():
            for batch, frames, height, width in spec["cases"]:
                given = dict(
                    frames=normal(gen, batch, 3, frames, height, width).half(),
                    level=torch.tensor([0.3, 1.0][:batch]),
                )
                sample = model(*(value.double() for value in given.values()))
                save_case(folder, f"{batch}x{frames}x{height}x{width}", given, dict(sample=sample))

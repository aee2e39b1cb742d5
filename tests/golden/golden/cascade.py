"""CascadeStage of `training/`: both stages of flipbook's cascade in small, and one of three resolutions."""

import sys

import torch
from safetensors.torch import save_file

from .common import ROOT, fresh, generator, normal, save_case, seed_parameters

sys.path.insert(0, str(ROOT.parent.parent))
from training.cascade import CascadeStage, between, export  # noqa: E402

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
                if model.between:
                    given["guess"] = normal(gen, batch, 3, frames - 1, height, width).half()
                sample = model(*(value.double() for value in given.values()))
                save_case(folder, f"{batch}x{frames}x{height}x{width}", given, dict(sample=sample))

        if name == "interpolate":
            # Something that moves, so that displacements other than none are chosen.
            frames = torch.rand(1, 1, 9, 14, generator=gen)
            frames = torch.nn.functional.interpolate(frames, (36, 56), mode="bilinear")[0, 0]
            frames = torch.stack([(255 * frames.roll((t, 3 * t), (0, 1))).int()[..., None].repeat(1, 1, 3) for t in range(2)])
            save_file(dict(frames=frames, between=torch.from_numpy(between(frames.byte().numpy()).astype("int32"))),
                      fresh("matching") / "between.safetensors")

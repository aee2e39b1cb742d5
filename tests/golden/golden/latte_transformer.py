"""LatteTransformer3DModel in small: attention within frames, to the text, and between frames."""

import torch
from diffusers import LatteTransformer3DModel

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

SMALL = dict(num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24, caption_channels=10,
             activation_fn="gelu-approximate", norm_type="ada_norm_single", video_length=3)

MODELS = {
    # Latte-1 in small: it also predicts a variance.
    "small": dict(storage=torch.float16,
                  config=SMALL | dict(in_channels=4, out_channels=8, num_layers=2, attention_bias=True, sample_size=8, patch_size=2,
                                      norm_elementwise_affine=False, norm_eps=1e-6)),
    # What no published model has but the class allows; positions are spread over twice the size.
    "affine": dict(storage=torch.bfloat16,
                   config=SMALL | dict(in_channels=3, out_channels=None, num_layers=1, attention_bias=False, sample_size=128,
                                       patch_size=1, norm_elementwise_affine=True)),
}


def cases(name: str, config: dict, gen):
    def given(batch: int, frames: int, height: int, width: int, text: int, timestep: list[int]) -> dict:
        return dict(hidden_states=normal(gen, batch, config["in_channels"], frames, height, width),
                    encoder_hidden_states=normal(gen, batch, text, config["caption_channels"]), timestep=torch.tensor(timestep))

    if name == "small":
        yield "batch2", given(2, 3, 8, 8, 7, [999, 12])
        yield "one_frame", given(1, 1, 8, 8, 2, [501])
        yield "wide", given(1, 3, 4, 10, 1, [833])
    else:
        yield "batch2", given(2, 3, 3, 5, 4, [954, 31])


def build(name: str) -> LatteTransformer3DModel:
    model = LatteTransformer3DModel(**MODELS[name]["config"])
    seed_parameters(model, 1300 + list(MODELS).index(name), MODELS[name]["storage"])
    return model


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("latte_transformer", name)
        model = build(name)
        save_model(model, folder, spec["storage"])
        for case, given in cases(name, spec["config"], generator(1350 + number)):
            arguments = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
            with torch.no_grad():
                save_case(folder, case, given, dict(sample=model(**arguments, return_dict=False)[0]))

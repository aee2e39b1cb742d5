"""CogVideoXTransformer3DModel: fixed positions (2B), rotary ones (5B) and patches in time (1.5) in small."""

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

SMALL = dict(num_attention_heads=2, attention_head_dim=16, time_embed_dim=12, text_embed_dim=10, max_text_seq_length=7,
             sample_width=12, sample_height=8, sample_frames=9)

MODELS = {
    # CogVideoX 2B in small.
    "sincos": dict(storage=torch.float16, config=SMALL | dict(in_channels=6, out_channels=6, num_layers=2)),
    # CogVideoX 5B in small.
    "rotary": dict(storage=torch.bfloat16, config=SMALL | dict(in_channels=6, out_channels=6, num_layers=2,
                                                               use_rotary_positional_embeddings=True)),
    # Patches in time, as CogVideoX 1.5.
    "patches_in_time": dict(
        storage=torch.float16,
        config=SMALL | dict(in_channels=5, out_channels=3, num_layers=1, patch_size_t=2, patch_bias=False,
                            use_rotary_positional_embeddings=True),
    ),
    # What no published model has but the class allows.
    "plain": dict(
        storage=torch.float32,
        config=SMALL | dict(attention_head_dim=24, in_channels=5, out_channels=3, num_layers=1, patch_size=1,
                            patch_bias=False, attention_bias=False, norm_elementwise_affine=False, norm_eps=1e-6,
                            spatial_interpolation_scale=1.5, temporal_interpolation_scale=2.0),
    ),
}


def rotary(config: dict, frames: int, height: int, width: int):
    """As CogVideoXPipeline makes them for latents of this size."""
    patch, patch_t = config.get("patch_size", 2), config.get("patch_size_t")
    grid = (height // patch, width // patch)
    base_width, base_height = config["sample_width"] // patch, config["sample_height"] // patch
    head = config["attention_head_dim"]
    if patch_t is None:
        crops = get_resize_crop_region_for_grid(grid, base_width, base_height)
        return get_3d_rotary_pos_embed(embed_dim=head, crops_coords=crops, grid_size=grid, temporal_size=frames)
    return get_3d_rotary_pos_embed(embed_dim=head, crops_coords=None, grid_size=grid, temporal_size=frames // patch_t,
                                   grid_type="slice", max_size=(base_height, base_width))


def inputs(config: dict, gen, batch: int, extents: tuple[int, int, int], text: int, timestep) -> dict:
    frames, height, width = extents
    return dict(
        hidden_states=normal(gen, batch, frames, config["in_channels"], height, width),
        encoder_hidden_states=normal(gen, batch, text, config["text_embed_dim"]),
        timestep=timestep,
    )


def cases(name: str, config: dict, gen):
    def given(*arguments):
        return inputs(config, gen, *arguments)

    if name == "sincos":
        yield "batch2", given(2, (3, 8, 12), 7, torch.tensor([999, 12]))
        yield "one_token", given(1, (1, 2, 2), 7, torch.tensor([501]))
        yield "wide", given(1, (2, 6, 14), 7, torch.tensor([833]))
    elif name == "rotary":
        yield "batch2", given(2, (3, 8, 12), 5, torch.tensor([999, 12]))
        yield "one_token", given(1, (1, 2, 2), 1, torch.tensor([501]))
        # Positions are squeezed into the sizes of training, and moved towards the middle.
        yield "wide", given(1, (2, 4, 14), 9, torch.tensor([833]))
        yield "tall", given(1, (4, 14, 4), 3, torch.tensor([2]))
    elif name == "patches_in_time":
        yield "batch2", given(2, (4, 8, 10), 5, torch.tensor([954, 31]))
    else:
        yield "batch2", given(2, (2, 5, 3), 7, torch.tensor([954, 31]))


def build(name: str):
    model = CogVideoXTransformer3DModel(**MODELS[name]["config"])
    seed_parameters(model, 900 + list(MODELS).index(name), MODELS[name]["storage"])
    return model


def evaluate(model, given: dict) -> torch.Tensor:
    arguments = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
    with torch.no_grad():
        return forward(model, arguments)


def forward(model, given: dict) -> torch.Tensor:
    """The class gets its rotary table from the pipeline."""
    _, frames, _, height, width = given["hidden_states"].shape
    table = rotary(model.config, frames, height, width) if model.config.use_rotary_positional_embeddings else None
    return model(**given, image_rotary_emb=table, return_dict=False)[0]


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("cogvideox_transformer", name)
        model = build(name)
        save_model(model, folder, spec["storage"])
        for case, given in cases(name, spec["config"], generator(950 + number)):
            save_case(folder, case, given, dict(sample=evaluate(model, given)))

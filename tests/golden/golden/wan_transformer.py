"""WanTransformer3DModel: text, image, first-and-last-frame and per-token-timestep models in small."""

import torch
from diffusers import WanTransformer3DModel

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

SMALL = dict(num_attention_heads=2, attention_head_dim=16, freq_dim=64, ffn_dim=56, text_dim=20)

MODELS = {
    # Wan 2.1 text-to-video in small.
    "t2v": dict(
        storage=torch.float16,
        config=SMALL | dict(in_channels=3, out_channels=3, num_layers=2),
    ),
    # Wan 2.2 5B in small: a timestep per token. The rest is what no published model has but the class allows: patches
    # in time, no norm before the cross-attention, `qk_norm` absent (queries and keys are normalised all the same).
    "ti2v": dict(
        storage=torch.float32,
        config=SMALL | dict(in_channels=5, out_channels=None, num_layers=1, patch_size=(2, 1, 2), freq_dim=256,
                            cross_attn_norm=False, qk_norm=None, eps=1e-5, rope_max_seq_len=32),
    ),
    # Wan 2.1 image-to-video in small: mask and image in the channels, the image again as context tokens.
    "i2v": dict(
        storage=torch.bfloat16,
        config=SMALL | dict(in_channels=9, out_channels=4, num_layers=1, text_dim=6, image_dim=10,
                            added_kv_proj_dim=32),
    ),
    # First and last frame: two images whose tokens get learned positions.
    "flf2v": dict(
        storage=torch.float16,
        config=SMALL | dict(in_channels=9, out_channels=4, num_layers=1, text_dim=6, image_dim=10,
                            added_kv_proj_dim=32, pos_embed_seq_len=10),
    ),
}

# With images in the context the class takes the last 512 tokens for the text.
TEXT_WITH_IMAGES = 512


def inputs(config: dict, gen, batch: int, extents: tuple[int, int, int], text: int, timestep, images: int = 0) -> dict:
    given = dict(
        hidden_states=normal(gen, batch, config["in_channels"], *extents),
        encoder_hidden_states=normal(gen, batch, text, config["text_dim"]),
        timestep=timestep,
    )
    if images:
        given["encoder_hidden_states_image"] = normal(gen, images, 5, config["image_dim"])
    return given


def per_token(batch: int, extents: tuple[int, int, int], patch: tuple[int, int, int]) -> torch.Tensor:
    """As when the first latent frames are given: those are clean (0), the rest is noisy."""
    frames, height, width = (extent // p for extent, p in zip(extents, patch))
    noisy = (torch.arange(frames * height * width) >= height * width).float()
    return torch.stack([noisy * t for t in (731.25, 250.0)[:batch]])


def cases(name: str, config: dict, gen):
    if name == "t2v":
        yield "batch2", inputs(config, gen, 2, (3, 4, 6), 7, torch.tensor([999, 12]))
        yield "one_token", inputs(config, gen, 1, (1, 2, 2), 1, torch.tensor([500.5]))
        yield "wide", inputs(config, gen, 1, (2, 6, 14), 9, torch.tensor([833.3333]))
    elif name == "ti2v":
        extents = (4, 3, 6)
        yield "per_token", inputs(config, gen, 2, extents, 4, per_token(2, extents, config["patch_size"]))
        yield "batch2", inputs(config, gen, 2, (2, 1, 4), 3, torch.tensor([900.0, 900.0]))
    elif name == "i2v":
        yield "image", inputs(config, gen, 1, (3, 4, 2), TEXT_WITH_IMAGES, torch.tensor([640]), images=1)
    else:
        yield "images", inputs(config, gen, 2, (2, 2, 4), TEXT_WITH_IMAGES, torch.tensor([954, 31]), images=4)


def build(name: str):
    model = WanTransformer3DModel(**MODELS[name]["config"])
    seed_parameters(model, 600 + list(MODELS).index(name), MODELS[name]["storage"])
    return model


def evaluate(model, given: dict) -> torch.Tensor:
    arguments = {k: v.double() if v.is_floating_point() and k != "timestep" else v for k, v in given.items()}
    with torch.no_grad():
        return model(**arguments, return_dict=False)[0]


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("wan_transformer", name)
        model = build(name)
        save_model(model, folder, spec["storage"])
        for case, given in cases(name, spec["config"], generator(650 + number)):
            save_case(folder, case, given, dict(sample=evaluate(model, given)))

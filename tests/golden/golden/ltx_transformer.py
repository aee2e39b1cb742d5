"""LTXVideoTransformer3DModel: four tiny models that differ in every dimension that can go wrong."""

import torch
from diffusers import LTXVideoTransformer3DModel

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

# RoPE covers the width in groups of 6 channels; the widths leave 2, 4, 0 and 2 over.
MODELS = {
    "two_layers": dict(
        storage=torch.float32,
        config=dict(in_channels=11, out_channels=8, num_attention_heads=2, attention_head_dim=16,
                    cross_attention_dim=32, num_layers=2, caption_channels=24),
    ),
    "head32": dict(
        storage=torch.float16,
        config=dict(in_channels=16, out_channels=16, num_attention_heads=2, attention_head_dim=32,
                    cross_attention_dim=64, num_layers=1, caption_channels=20),
    ),
    "affine_sharded": dict(
        storage=torch.bfloat16,
        config=dict(in_channels=8, out_channels=8, num_attention_heads=3, attention_head_dim=16,
                    cross_attention_dim=48, num_layers=1, caption_channels=12, attention_bias=False,
                    norm_elementwise_affine=True, norm_eps=1e-5),
        save=dict(max_shard_size="40KB"),
    ),
    "head64": dict(
        storage=torch.float16,
        config=dict(in_channels=35, out_channels=20, num_attention_heads=2, attention_head_dim=64,
                    cross_attention_dim=128, num_layers=1, caption_channels=32),
    ),
}


def inputs(config: dict, gen, batch: int, grid: tuple[int, int, int], text: int, timestep) -> dict:
    frames, height, width = grid
    tokens = frames * height * width
    if timestep == "per_token":
        # As when the first latent frame is given: it is clean (0), the rest is noisy.
        noisy = (torch.arange(tokens) >= height * width).float()
        timestep = torch.stack([noisy * t for t in (731.25, 250.0)[:batch]])
    return dict(
        hidden_states=normal(gen, batch, tokens, config["in_channels"]),
        encoder_hidden_states=normal(gen, batch, text, config["caption_channels"]),
        timestep=timestep,
        num_frames=frames, height=height, width=width,
    )


def left_mask(batch: int, text: int, dtype) -> torch.Tensor:
    """Row b keeps its first text - 2·b - 1 tokens."""
    kept = torch.tensor([max(text - 2 * b - 1, 1) for b in range(batch)])
    return (torch.arange(text)[None] < kept[:, None]).to(dtype)


def cases(name: str, config: dict, gen):
    f32, i64 = torch.float32, torch.int64
    if name == "two_layers":
        yield "batch2", inputs(config, gen, 2, (3, 3, 5), 7, torch.tensor([999.0, 12.5])) | dict(
            encoder_attention_mask=left_mask(2, 7, i64), rope_interpolation_scale=torch.tensor([8 / 25, 32.0, 32.0]))
        yield "per_token", inputs(config, gen, 2, (5, 1, 3), 4, "per_token") | dict(
            encoder_attention_mask=left_mask(2, 4, f32), rope_interpolation_scale=torch.tensor([4 / 12, 16.0, 16.0]))
        yield "one_token", inputs(config, gen, 1, (1, 1, 1), 1, torch.tensor([500], dtype=i64)) | dict(
            encoder_attention_mask=torch.ones(1, 1, dtype=i64))
    elif name == "head32":
        # Without an interpolation scale the coordinates are the raw indices: huge angles.
        yield "raw_grid", inputs(config, gen, 1, (2, 4, 3), 5, torch.tensor([640.0])) | dict(
            encoder_attention_mask=left_mask(1, 5, f32))
        case = inputs(config, gen, 2, (2, 3, 3), 9, torch.tensor([875.0, 100.0]))
        for axis in ("num_frames", "height", "width"):
            del case[axis]
        index = torch.stack(torch.meshgrid(torch.arange(2.0), torch.arange(3.0), torch.arange(3.0), indexing="ij"))
        coords = index.flatten(1) * torch.tensor([8 / 24, 32.0, 32.0])[:, None]
        coords = torch.stack([coords, coords + torch.tensor([2.5, 64.0, 96.0])[:, None]])
        yield "video_coords", case | dict(
            encoder_attention_mask=left_mask(2, 9, torch.bool), video_coords=coords)
    elif name == "affine_sharded":
        yield "odd", inputs(config, gen, 3, (1, 7, 5), 3, torch.tensor([1.0, 333.0, 1000.0])) | dict(
            encoder_attention_mask=torch.ones(3, 3), rope_interpolation_scale=torch.tensor([0.5, 16.0, 16.0]))
    else:
        yield "batch2", inputs(config, gen, 2, (5, 4, 4), 12, torch.tensor([900.0, 900.0])) | dict(
            encoder_attention_mask=left_mask(2, 12, f32), rope_interpolation_scale=torch.tensor([4 / 12, 32.0, 32.0]))
        yield "per_token", inputs(config, gen, 2, (3, 3, 2), 17, "per_token") | dict(
            encoder_attention_mask=left_mask(2, 17, f32), rope_interpolation_scale=torch.tensor([4 / 12, 32.0, 32.0]))


def evaluate(model, given: dict) -> torch.Tensor:
    """`sample` in float64. RoPE coordinates stay float32: the class computes its tables in float32."""
    keep = {"num_frames", "height", "width", "video_coords", "timestep"}
    arguments = {k: v if k in keep or not v.is_floating_point() else v.double() for k, v in given.items()}
    if "rope_interpolation_scale" in given:
        arguments["rope_interpolation_scale"] = tuple(given["rope_interpolation_scale"].tolist())
    with torch.no_grad():
        return model(**arguments, return_dict=False)[0]


def build(name: str):
    spec = MODELS[name]
    model = LTXVideoTransformer3DModel(**spec["config"])
    seed_parameters(model, 100 + list(MODELS).index(name), spec["storage"])
    return model


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder = fresh("ltx_transformer", name)
        model = build(name)
        save_model(model, folder, spec["storage"], **spec.get("save", {}))
        for case, given in cases(name, spec["config"], generator(200 + number)):
            expected = dict(sample=evaluate(model, given))
            save_case(folder, case, given, expected)
            if name == "two_layers" or case == "raw_grid":
                save_rope(model, folder, case, given)


def save_rope(model, folder, case: str, given: dict) -> None:
    """The rotary tables on their own: [B, L, D] cosines and sines."""
    scale = given.get("rope_interpolation_scale")
    cos, sin = model.rope(given["hidden_states"], given["num_frames"], given["height"], given["width"],
                          None if scale is None else tuple(scale.tolist()))
    save_case(folder, f"{case}_rope", {k: given[k] for k in ("num_frames", "height", "width")}
              | ({} if scale is None else dict(rope_interpolation_scale=scale)), dict(cos=cos[:1], sin=sin[:1]))

"""Diffusion transformers of images that are told a class: DiTTransformer2DModel of diffusers, and the official class from its equations."""

import json
import math

import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from .common import fresh, generator, normal, save_case, save_model, seed_parameters

SMALL = dict(num_attention_heads=2, attention_head_dim=12, activation_fn="gelu-approximate", norm_type="ada_norm_zero")

MODELS = {
    # DiT-XL/2 in small: it also predicts a variance. The pipeline's class of none has number 1000.
    "small": dict(storage=torch.float16,
                  config=SMALL | dict(in_channels=4, out_channels=8, num_layers=2, attention_bias=True, sample_size=8, patch_size=2,
                                      num_embeds_ada_norm=1000, norm_elementwise_affine=False, norm_eps=1e-5)),
    # What no published model has but the class allows.
    "affine": dict(storage=torch.bfloat16,
                   config=SMALL | dict(in_channels=3, out_channels=None, num_layers=1, attention_bias=False, sample_size=5,
                                       patch_size=1, num_embeds_ada_norm=6, norm_elementwise_affine=True)),
}
OFFICIAL = dict(input_size=8, patch_size=2, in_channels=4, hidden_size=24, depth=2, num_heads=2, mlp_ratio=4.0, class_dropout_prob=0.1,
                num_classes=9, learn_sigma=True)


def cases(name: str, config: dict, gen):
    def given(height: int, width: int, timestep: list[int], classes: list[int]) -> dict:
        return dict(hidden_states=normal(gen, len(timestep), config["in_channels"], height, width), timestep=torch.tensor(timestep),
                    class_labels=torch.tensor(classes))

    if name == "affine":
        yield "batch2", given(5, 5, [954, 31], [6, 2])
    else:
        none = config.get("num_classes", config.get("num_embeds_ada_norm"))
        yield "batch3", given(8, 8, [999, 12, 0], [3, none, 0])
        # The official class knows one size, and diffusers squares only.
        yield "larger", given(12, 12, [501], [8]) if name == "small" else given(8, 8, [501], [8])


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def timestep_features(timestep, features: int = 256):
    """Cosines, then sines, of t · 10000^(−i/128), in single precision."""
    half = features // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = timestep[:, None].float() * frequencies[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


def grid_positions(width: int, edge: int):
    """For each place of a square, row by row, sines and cosines of its column, then of its row."""
    frequencies = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(edge, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.cat([line.repeat(edge, 1), line.repeat_interleave(edge, 0)], dim=1).float()


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=2))
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """arXiv 2212.09748, figure 3: adaLN-Zero."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp = Attention(width, heads), Mlp(width, 4 * width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulate(functional.layer_norm(x, x.shape[-1:], eps=1e-6), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(functional.layer_norm(x, x.shape[-1:], eps=1e-6), shift2, scale2))


class Dit(nn.Module):
    """`DiT` of github.com/facebookresearch/DiT from the paper's equations, under the names of its tensors."""

    def __init__(self, input_size, patch_size, in_channels, hidden_size, depth, num_heads, mlp_ratio, class_dropout_prob, num_classes,
                 learn_sigma):
        super().__init__()
        d, self.patch, self.out = hidden_size, patch_size, in_channels * (2 if learn_sigma else 1)
        self.edge = input_size // patch_size
        self.x_embedder = nn.ModuleDict(dict(proj=nn.Conv2d(in_channels, d, patch_size, patch_size)))
        self.t_embedder = nn.ModuleDict(dict(mlp=nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))))
        self.y_embedder = nn.ModuleDict(dict(embedding_table=nn.Embedding(num_classes + 1, d)))
        self.pos_embed = nn.Parameter(grid_positions(d, self.edge)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(d, num_heads) for _ in range(depth))
        self.final_layer = nn.ModuleDict(dict(linear=nn.Linear(d, patch_size**2 * self.out),
                                              adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(d, 2 * d))))

    def forward(self, hidden_states, timestep, class_labels):
        x = self.x_embedder["proj"](hidden_states).flatten(2).transpose(1, 2) + self.pos_embed
        c = self.t_embedder["mlp"](timestep_features(timestep).to(x.dtype)) + self.y_embedder["embedding_table"](class_labels)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.final_layer["adaLN_modulation"](c).chunk(2, dim=1)
        x = self.final_layer["linear"](modulate(functional.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale))
        x = x.unflatten(2, (self.patch, self.patch, self.out)).unflatten(1, (self.edge, self.edge))
        return torch.einsum("nhwpqc->nchpwq", x).flatten(4, 5).flatten(2, 3)


def build(name: str):
    if name == "official":
        model = Dit(**OFFICIAL)
        positions = model.pos_embed.clone()
        seed_parameters(model, 1510, torch.float16)
        with torch.no_grad():
            model.pos_embed.copy_(positions)
        return model
    model = DiTTransformer2DModel(**MODELS[name]["config"])
    seed_parameters(model, 1500 + list(MODELS).index(name), MODELS[name]["storage"])
    return model


def load(folder) -> Dit:
    """The official model of a folder, in single precision."""
    config = {name: value for name, value in json.loads((folder / "config.json").read_text()).items() if name != "_class_name"}
    model = Dit(**config)
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model.float().eval()


def save_plain(model: nn.Module, folder, config: dict, storage: torch.dtype, exact=(), whole=()) -> None:
    """A model of a class that has no `save_pretrained`; `exact` are stored in single precision, `whole` as they are."""
    dtype = lambda name, value: value.dtype if name in whole else torch.float32 if name in exact else storage  # noqa: E731
    state = {name: value.to(dtype(name, value)).contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_cases(model, name: str, folder, config: dict, gen) -> None:
    for case, given in cases(name, config, gen):
        arguments = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
        with torch.no_grad():
            found = model(**arguments)
        save_case(folder, case, given, dict(sample=getattr(found, "sample", found)))


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder, model = fresh("dit_transformer", name), build(name)
        save_model(model, folder, spec["storage"])
        save_cases(model, name, folder, spec["config"], generator(1550 + number))
    folder, model = fresh("dit_transformer", "official"), build("official")
    save_plain(model, folder, OFFICIAL | {"_class_name": "DiT"}, torch.float16, ("pos_embed",))
    save_cases(model, "official", folder, OFFICIAL, generator(1560))

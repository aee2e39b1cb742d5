"""U-ViT from the equations of arXiv 2209.12152, under the official names of its tensors: told a class, or a text."""

import json
import math

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from .common import fresh, generator, normal, save_case, seed_parameters
from .dit_transformer import Attention, save_plain

SMALL = dict(patch_size=2, embed_dim=24, num_heads=2, mlp_ratio=4, qkv_bias=False)

MODELS = {
    # H/2 in small: two pairs of blocks, no convolution at the end.
    "classes": dict(storage=torch.float16,
                    config=SMALL | dict(img_size=8, in_chans=4, depth=4, num_classes=6, mlp_time_embed=False, conv=False)),
    # A class with the convolution, patches of one, biases, an MLP over time, other widths.
    "convolution": dict(storage=torch.float16,
                        config=dict(patch_size=1, embed_dim=20, num_heads=2, mlp_ratio=3, qkv_bias=True, img_size=3, in_chans=3, depth=2,
                                    num_classes=4, mlp_time_embed=True, conv=True)),
    # Of MS-COCO in small: a text, and the convolution.
    "text": dict(storage=torch.bfloat16,
                 config=SMALL | dict(img_size=6, in_chans=4, depth=2, clip_dim=10, num_clip_token=5, mlp_time_embed=False, conv=True)),
}


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, bias: bool, skip: bool = False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width, hidden)
        if not bias:
            self.attn.qkv = nn.Linear(width, 3 * width, bias=False)
        if skip:
            self.skip_linear = nn.Linear(2 * width, width)

    def forward(self, x, skip=None):
        if skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=2))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Uvit(nn.Module):
    def __init__(self, img_size, patch_size, in_chans, embed_dim, depth, num_heads, mlp_ratio, qkv_bias, mlp_time_embed, conv,
                 num_classes=-1, clip_dim=None, num_clip_token=77):
        super().__init__()
        d, self.patch, self.edge, self.text = embed_dim, patch_size, img_size // patch_size, clip_dim is not None
        self.extras = 1 + num_clip_token if self.text else 2
        self.patch_embed = nn.ModuleDict(dict(proj=nn.Conv2d(in_chans, d, patch_size, patch_size)))
        if mlp_time_embed:
            self.time_embed = nn.Sequential(nn.Linear(d, 4 * d), nn.SiLU(), nn.Linear(4 * d, d))
        if self.text:
            self.context_embed = nn.Linear(clip_dim, d)
        else:
            self.label_emb = nn.Embedding(num_classes, d)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extras + self.edge**2, d))
        block = lambda skip: Block(d, num_heads, int(mlp_ratio * d), qkv_bias, skip)  # noqa: E731
        self.in_blocks = nn.ModuleList(block(False) for _ in range(depth // 2))
        self.mid_block = block(False)
        self.out_blocks = nn.ModuleList(block(True) for _ in range(depth // 2))
        self.norm, self.decoder_pred = nn.LayerNorm(d), nn.Linear(d, patch_size**2 * in_chans)
        if conv:
            self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1)

    def forward(self, hidden_states, timestep, class_labels=None, encoder_hidden_states=None):
        x = self.patch_embed["proj"](hidden_states).flatten(2).transpose(1, 2)
        d = x.shape[2]
        frequencies = torch.exp(-math.log(10000) * torch.arange(d // 2, dtype=torch.float32) / (d // 2))
        angles = timestep[:, None].float() * frequencies
        time = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1).to(x.dtype)
        if hasattr(self, "time_embed"):
            time = self.time_embed(time)
        if self.text:
            x = torch.cat([time[:, None], self.context_embed(encoder_hidden_states), x], dim=1)
        else:
            x = torch.cat([self.label_emb(class_labels)[:, None], time[:, None], x], dim=1)
        x, skips = x + self.pos_embed, []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        x = self.decoder_pred(self.norm(x))[:, self.extras :]
        x = x.unflatten(1, (self.edge, self.edge)).unflatten(3, (self.patch, self.patch, -1))
        x = torch.einsum("nhwpqc->nchpwq", x).flatten(4, 5).flatten(2, 3)
        return self.final_layer(x) if hasattr(self, "final_layer") else x


def cases(config: dict, gen):
    edge, channels = config["img_size"], config["in_chans"]

    def given(timestep: list[float]) -> dict:
        batch = len(timestep)
        arguments = dict(hidden_states=normal(gen, batch, channels, edge, edge), timestep=torch.tensor(timestep))
        if "clip_dim" in config:
            return arguments | dict(encoder_hidden_states=normal(gen, batch, config["num_clip_token"], config["clip_dim"]))
        # The last of them stands for none.
        return arguments | dict(class_labels=torch.tensor([config["num_classes"] - 1, 1, 0][:batch]))

    yield "batch3", given([999.0, 12.0, 0.0])
    yield "one", given([500.5])


def build(name: str) -> Uvit:
    model = Uvit(**MODELS[name]["config"])
    seed_parameters(model, 1600 + list(MODELS).index(name), MODELS[name]["storage"])
    return model


def load(folder) -> Uvit:
    """The model of a folder, in single precision."""
    config = {name: value for name, value in json.loads((folder / "config.json").read_text()).items() if name != "_class_name"}
    model = Uvit(**config)
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model.float().eval()


def generate() -> None:
    for number, (name, spec) in enumerate(MODELS.items()):
        folder, model = fresh("uvit", name), build(name)
        save_plain(model, folder, spec["config"] | {"_class_name": "UViT"}, spec["storage"])
        for case, given in cases(spec["config"], generator(1650 + number)):
            arguments = {k: v.double() if v.is_floating_point() and k != "timestep" else v for k, v in given.items()}
            with torch.no_grad():
                save_case(folder, case, given, dict(sample=model(**arguments)))

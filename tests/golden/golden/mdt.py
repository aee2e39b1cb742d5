"""MDTv2 from the equations of arXiv 2303.14389, under the official names of its tensors: whole, and with tokens that its encoder does
not see; and DiffiT from those of arXiv 2312.02139, which has the same bias of attention."""

import json

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from .common import fresh, generator, normal, save_case, seed_parameters
from .dit_transformer import Block, Mlp, grid_positions, modulate, save_plain, timestep_features

DIT = dict(input_size=8, patch_size=2, in_channels=4, hidden_size=24, num_heads=2, mlp_ratio=4.0, class_dropout_prob=0.1, num_classes=5,
           learn_sigma=True)
CONFIGS = {"mdt": DIT | dict(depth=5, decode_layer=1), "diffit": DIT | dict(depth=2, learn_sigma=False)}


def offsets(edge: int):
    """For each two places of a square a row of the table: 2E−1 columns, rows first."""
    y, x = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    y, x = y.flatten(), x.flatten()
    return (y[:, None] - y[None] + edge - 1) * (2 * edge - 1) + x[:, None] - x[None] + edge - 1


class BiasedAttention(nn.Module):
    """Softmax attention with a learned bias by offset; `time` is added to queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def attend(self, x, table, index, kept=None, time=None):
        bias = table[index].permute(2, 0, 1)
        if kept is not None:
            bias = bias[:, kept][:, :, kept]
        qkv = self.qkv(x) if time is None else self.qkv(x) + time[:, None]
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=2))
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5 + bias
        return self.proj((scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2))


class RelativePositions(nn.Module):
    def __init__(self, edge: int, heads: int):
        super().__init__()
        # Three more than there are offsets, which nothing reads.
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * edge - 1) ** 2 + 3, heads))
        self.register_buffer("relative_position_index", offsets(edge))


class MdtAttention(BiasedAttention):
    def __init__(self, width: int, heads: int, edge: int):
        super().__init__(width, heads)
        self.rel_pos_bias, self.kept = RelativePositions(edge, heads), None

    def forward(self, x):
        own = self.rel_pos_bias
        return self.attend(x, own.relative_position_bias_table, own.relative_position_index, self.kept)


class MdtBlock(Block):
    def __init__(self, width: int, heads: int, edge: int, skip: bool):
        super().__init__(width, heads)
        self.attn = MdtAttention(width, heads, edge)
        if skip:
            self.skip_linear = nn.Linear(2 * width, width)

    def forward(self, x, c, skip=None, kept=None):
        if skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=2))
        self.attn.kept = kept
        return super().forward(x, c)


class Embedded(nn.Module):
    """What DiT, MDTv2 and DiffiT have in common."""

    def __init__(self, config: dict):
        super().__init__()
        d, self.patch = config["hidden_size"], config["patch_size"]
        self.out = config["in_channels"] * (2 if config["learn_sigma"] else 1)
        self.edge = config["input_size"] // self.patch
        self.x_embedder = nn.ModuleDict(dict(proj=nn.Conv2d(config["in_channels"], d, self.patch, self.patch)))
        self.t_embedder = nn.ModuleDict(dict(mlp=nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))))
        self.y_embedder = nn.ModuleDict(dict(embedding_table=nn.Embedding(config["num_classes"] + 1, d)))
        self.pos_embed = nn.Parameter(grid_positions(d, self.edge)[None], requires_grad=False)

    def embedded(self, x, timestep, classes):
        x = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        return x, self.t_embedder["mlp"](timestep_features(timestep).to(x.dtype)) + self.y_embedder["embedding_table"](classes)

    def image(self, x):
        x = x.unflatten(2, (self.patch, self.patch, self.out)).unflatten(1, (self.edge, self.edge))
        return torch.einsum("nhwpqc->nchpwq", x).flatten(4, 5).flatten(2, 3)


class Mdt(Embedded):
    def __init__(self, depth, decode_layer, **config):
        super().__init__(config)
        d, heads, half = config["hidden_size"], config["num_heads"], (depth - decode_layer) // 2
        blocks = lambda count, skip: nn.ModuleList(MdtBlock(d, heads, self.edge, skip) for _ in range(count))  # noqa: E731
        self.en_inblocks, self.en_outblocks = blocks(half, False), blocks(half, True)
        self.de_blocks, self.sideblocks = blocks(decode_layer, True), blocks(1, False)
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, self.edge**2, d))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, d))
        self.final_layer = nn.ModuleDict(dict(linear=nn.Linear(d, self.patch**2 * self.out),
                                              adaLN_modulation=nn.Sequential(nn.SiLU(), nn.Linear(d, 2 * d))))

    def forward(self, hidden_states, timestep, class_labels, ids_keep=None):
        start, c = self.embedded(hidden_states, timestep, class_labels)
        x, skips = start if ids_keep is None else start[:, ids_keep], []
        for block in self.en_inblocks:
            x = block(x, c, kept=ids_keep)
            skips.append(x)
        for block in self.en_outblocks:
            x = block(x, c, skips.pop(), ids_keep)
        if ids_keep is None:
            x = x + self.decoder_pos_embed
        else:
            filled = self.mask_token.repeat(len(x), self.edge**2, 1)
            filled[:, ids_keep] = x
            before = filled + self.decoder_pos_embed
            x = self.sideblocks[0](before, c)
            x[:, ids_keep] = before[:, ids_keep]
        for block in self.de_blocks:
            x = block(x, c, start)
        shift, scale = self.final_layer["adaLN_modulation"](c).chunk(2, dim=1)
        return self.image(self.final_layer["linear"](modulate(functional.layer_norm(x, x.shape[-1:], eps=1e-6), shift, scale)))


class DiffitAttention(BiasedAttention):
    def __init__(self, width: int, heads: int, edge: int):
        super().__init__(width, heads)
        self.qkv_temb = nn.Linear(width, 3 * width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * edge - 1) ** 2, heads))
        self.register_buffer("relative_position_index", offsets(edge))

    def forward(self, x, c):
        return self.attend(x, self.relative_position_bias_table, self.relative_position_index, time=self.qkv_temb(c))


class DiffitBlock(nn.Module):
    def __init__(self, width: int, heads: int, edge: int):
        super().__init__()
        self.attn, self.mlp = DiffitAttention(width, heads, edge), Mlp(width, 4 * width)

    def forward(self, x, c):
        x = x + self.attn(functional.layer_norm(x, x.shape[-1:], eps=1e-6), c)
        return x + self.mlp(functional.layer_norm(x, x.shape[-1:], eps=1e-6))


class Diffit(Embedded):
    def __init__(self, depth, **config):
        super().__init__(config)
        self.blocks = nn.ModuleList(DiffitBlock(config["hidden_size"], config["num_heads"], self.edge) for _ in range(depth))
        self.final_layer = nn.ModuleDict(dict(linear=nn.Linear(config["hidden_size"], self.patch**2 * self.out)))

    def forward(self, hidden_states, timestep, class_labels):
        x, c = self.embedded(hidden_states, timestep, class_labels)
        for block in self.blocks:
            x = block(x, c)
        return self.image(self.final_layer["linear"](functional.silu(functional.layer_norm(x, x.shape[-1:], eps=1e-6))))


CLASSES = {"mdt": ("MDTv2", Mdt), "diffit": ("DiffiT", Diffit)}


def made(name: str, config: dict) -> nn.Module:
    return CLASSES[name][1](**{key: value for key, value in config.items() if key != "_class_name"})


def build(name: str) -> nn.Module:
    model = made(name, CONFIGS[name])
    positions = model.pos_embed.clone()
    seed_parameters(model, 1700 + list(CONFIGS).index(name), torch.float16)
    if name == "diffit":
        # Fixed there, learned in MDTv2.
        with torch.no_grad():
            model.pos_embed.copy_(positions)
    return model


def load(folder) -> nn.Module:
    """The model of a folder, in single precision."""
    config = json.loads((folder / "config.json").read_text())
    model = made(next(name for name, (cls, _) in CLASSES.items() if cls == config["_class_name"]), config)
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return model.float().eval()


def cases(name: str, config: dict, gen):
    def given(timestep: list[int], classes: list[int], **more) -> dict:
        edge = config["input_size"]
        return dict(hidden_states=normal(gen, len(timestep), config["in_channels"], edge, edge), timestep=torch.tensor(timestep),
                    class_labels=torch.tensor(classes), **more)

    yield "batch3", given([999, 12, 0], [config["num_classes"], 3, 0])
    if name == "mdt":
        # In the order of a shuffle.
        yield "masked", given([700, 45], [1, 4], ids_keep=torch.tensor([9, 2, 15, 0, 6, 11, 4]))


def generate() -> None:
    for number, (name, config) in enumerate(CONFIGS.items()):
        folder, model = fresh(name), build(name)
        exact = ("pos_embed",) if name == "diffit" else ()
        whole = {key for key in model.state_dict() if key.endswith("relative_position_index")}
        save_plain(model, folder, config | {"_class_name": CLASSES[name][0]}, torch.float16, exact, whole)
        for case, given in cases(name, config, generator(1750 + number)):
            arguments = {k: v.double() if v.is_floating_point() else v for k, v in given.items()}
            with torch.no_grad():
                save_case(folder, case, given, dict(sample=model(**arguments)))

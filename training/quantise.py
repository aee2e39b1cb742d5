"""Eight-bit storage of matrices: GGML's q8_0 arithmetic as two plain safetensors tensors.

A matrix `m` [rows, ...] becomes `m` in I8 with its own shape and `m.scale` [rows, blocks] in F16:
one scale for each run of 32 values of a row, value times scale being the weight. The last block of
a row may be shorter. Vectors stay in f16.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCK = 32


def quantised(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The bytes and the scales; the largest value of a block becomes 127."""
    rows = matrix.float().flatten(1)
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    scale = (padded.abs().amax(-1) / 127).half()
    steps = scale.float().clamp(min=torch.finfo(torch.float16).smallest_normal)
    values = (padded / steps[..., None]).round().clamp(-127, 127).to(torch.int8)
    return values.flatten(1)[:, : rows.shape[1]].reshape(matrix.shape).contiguous(), scale


def save(state: dict[str, torch.Tensor], file: Path) -> None:
    out = {}
    for name, value in state.items():
        if value.ndim > 1:
            out[name], out[f"{name}.scale"] = quantised(value)
        else:
            out[name] = value.half()
    save_file(out, file, metadata={"format": "pt"})


def load(file: Path) -> dict[str, torch.Tensor]:
    """The weights of a file in f32, whether they are quantised or not."""
    state = load_file(file)
    out = {}
    for name, value in state.items():
        if value.dtype == torch.int8:
            scale = state[f"{name}.scale"].float().repeat_interleave(BLOCK, 1)
            rows = value.flatten(1)
            value = (rows * scale[:, : rows.shape[1]]).reshape(value.shape)
        if not name.endswith(".scale"):
            out[name] = value.float()
    return out


def load_model(kind: type, folder: Path) -> torch.nn.Module:
    """A diffusers model of an exported folder, in f32."""
    model = kind.from_config(kind.load_config(folder))
    model.load_state_dict(load(folder / "diffusion_pytorch_model.safetensors"))
    return model.eval()

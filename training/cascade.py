"""The second-stage denoisers of flipbook, as plain PyTorch: one doubles the pixels, one the frames.

Each is a small U-Net that corrects a fixed guess (Catmull-Rom, or the mean of two neighbours) in one step. It is told how
much of the autoencoder's error its input has, `level`: 0 for clean frames, 1 for frames that were decoded.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

# Frames a convolution in time looks back and ahead; more than its kernel gives back is what `interpolate` shortens.
UPSCALE = dict(scale=2, between=False, channels=[32, 64], blocks=[1, 2])
INTERPOLATE = dict(scale=1, between=True, channels=[32, 64, 96], blocks=[1, 1, 2])

# Catmull-Rom at a quarter of a pixel, over the four pixels around it.
TAPS = (-0.0703125, 0.8671875, 0.2265625, -0.0234375)


def catmull_rom(frames: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W], the border repeated."""
    # Even outputs lie a quarter before a pixel, odd ones a quarter behind it.
    odd = torch.tensor([0, *TAPS])
    lines = torch.stack([odd.flip(0), odd])
    weight = torch.einsum("ay,bx->abyx", lines, lines).reshape(4, 1, 5, 5).to(frames)
    n, c, h, w = frames.shape
    padded = F.pad(frames.reshape(n * c, 1, h, w), (2, 2, 2, 2), mode="replicate")
    return F.pixel_shuffle(F.conv2d(padded, weight), 2).view(n, c, 2 * h, 2 * w)


# Search for motion: displacements in pixels each way, half the side of what is compared, and the cost of a pixel of distance.
REACH, HALF, PRICE = 4, 8, 256


def between(frames: np.ndarray) -> np.ndarray:
    """[F, H, W, 3] uint8 -> [F - 1, H, W, 3] uint16, twice the frames between: the mean of the pixel that lies at -d in the
    frame before and of that at d in the frame after, where the displacement d makes the surroundings of the two most alike."""
    count, height, width, _ = frames[1:].shape
    pad = ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0))
    before, after = np.pad(frames[:-1], pad, mode="edge"), np.pad(frames[1:], pad, mode="edge")
    luma = [x.astype(np.int32) @ np.array([1, 2, 1], np.int32) for x in (before, after)]
    steps = range(-REACH, REACH + 1)
    shifts = sorted(((y, x) for y in steps for x in steps), key=lambda d: d[0] ** 2 + d[1] ** 2)
    least, at = None, np.zeros((count, height, width), np.int32)
    for i, (y, x) in enumerate(shifts):
        rows, columns = slice(REACH - y, REACH - y + height), slice(REACH - x, REACH - x + width)
        error = luma[0][:, rows, columns]
        rows, columns = slice(REACH + y, REACH + y + height), slice(REACH + x, REACH + x + width)
        error = box((error - luma[1][:, rows, columns]) ** 2)
        error = error + int(PRICE * (2 * HALF + 1) ** 2 * (y * y + x * x) ** 0.5)
        if least is None:
            least = error
        else:
            at[error < least] = i
            least = np.minimum(least, error)
    shift = np.array(shifts)[at]
    clip, row, column = np.ogrid[:count, REACH : REACH + height, REACH : REACH + width]
    first = before[clip, row - shift[..., 0], column - shift[..., 1]].astype(np.uint16)
    return first + after[clip, row + shift[..., 0], column + shift[..., 1]]


def box(x: np.ndarray) -> np.ndarray:
    """Sums over squares of 2 HALF + 1 pixels, the border repeated."""
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (HALF + 1, HALF)
        total = np.pad(x, pad, mode="edge").cumsum(axis, dtype=np.int64)
        side = 2 * HALF + 1
        x = np.take(total, range(side, total.shape[axis]), axis) - np.take(total, range(total.shape[axis] - side), axis)
    return x


class Conv(nn.Module):
    """A 3-D convolution [out, in, time, size, size] over frames that lie in the batch; space is padded with zeros, time
    with the first and last frame so that `back` frames before and `ahead` after each are seen."""

    def __init__(self, inputs: int, outputs: int, size: int, back: int = 0, ahead: int = 0, time: int = 1):
        super().__init__()
        self.pad, self.time = (back, ahead), time
        self.weight = nn.Parameter(torch.empty(outputs, inputs, time, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, x: torch.Tensor, clips: int) -> torch.Tensor:
        """[clips * frames, in, H, W] -> [clips * frames', out, H, W]."""
        if self.time > 1:
            x = x.unflatten(0, (clips, -1))
            before, after = self.pad
            x = torch.cat([x[:, :1]] * before + [x] + [x[:, -1:]] * after, 1)
            count = x.shape[1] - self.time + 1
            x = torch.cat([x[:, t : t + count] for t in range(self.time)], 2).flatten(0, 1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)  # the channels of one frame after those of the other
        return F.conv2d(x, weight, self.bias, padding=self.weight.shape[-1] // 2)


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, channels, 3), Conv(channels, channels, 3)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: torch.Tensor, clips: int) -> torch.Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x), clips)), clips)


class CascadeStage(nn.Module):
    def __init__(self, scale: int, between: bool, channels: list[int], blocks: list[int]):
        super().__init__()
        self.config = dict(scale=scale, between=between, channels=channels, blocks=blocks)
        self.scale, self.between = scale, between
        # Between two frames: two on either side, so one less comes out than goes in.
        self.conv_in = Conv(12, channels[0], 3, 1, 1, 4 if between else 3)
        if between:
            self.conv_guess = Conv(12, channels[0], 3)
        self.level = nn.ParameterList(torch.zeros(c, 1) for c in channels)
        self.down = nn.ModuleList(Conv(4 * a, b, 1) for a, b in zip(channels, channels[1:]))
        self.up = nn.ModuleList(Conv(b, 4 * a, 1) for a, b in zip(channels, channels[1:]))
        # Blocks of each resolution: on the way down behind the first, on the way up before the last.
        count = len(channels)
        stack = lambda i: nn.ModuleList(Block(channels[i]) for _ in range(blocks[i]))  # noqa: E731
        self.down_blocks = nn.ModuleList(stack(i) for i in range(1, count))
        self.up_blocks = nn.ModuleList(stack(i) for i in range(count - 1))
        self.time = Conv(channels[-1], channels[-1], 1, 1, 1, 3)
        nn.init.zeros_(self.time.weight)
        self.conv_out = Conv(channels[0], 12 * scale * scale, 3)
        nn.init.zeros_(self.conv_out.weight)

    def forward(self, frames: torch.Tensor, level: torch.Tensor, guess: torch.Tensor | None = None) -> torch.Tensor:
        """[B, 3, F, H, W] in -1..1 and [B] in 0..1 -> [B, 3, F or F - 1, scale * H, scale * W]. What lies between frames is
        guessed by `between`, [B, 3, F - 1, H, W]."""
        clips = len(frames)
        x = frames.transpose(1, 2).flatten(0, 1)
        base = guess.transpose(1, 2).flatten(0, 1) if self.between else catmull_rom(x)

        def told(x, i):
            shift = level[:, None] @ self.level[i].T
            return x + shift.repeat_interleave(len(x) // clips, 0)[..., None, None]

        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        x = told(self.conv_in(x, clips), 0)
        if self.between:
            x = x + self.conv_guess(F.pixel_unshuffle(base, 2), clips)
        skips = []
        for i, (down, blocks) in enumerate(zip(self.down, self.down_blocks)):
            skips.append(x)
            x = told(down(F.pixel_unshuffle(F.silu(x), 2), clips), i + 1)
            for block in blocks:
                x = block(x, clips)
        x = x + self.time(F.silu(x), clips)
        for up, blocks in zip(reversed(self.up), reversed(self.up_blocks)):
            x = skips.pop() + F.pixel_shuffle(up(F.silu(x), clips), 2)
            for block in blocks:
                x = block(x, clips)
        x = F.pixel_shuffle(self.conv_out(F.silu(x), clips), 2 * self.scale)
        return (base + x).unflatten(0, (clips, -1)).transpose(1, 2)


WEIGHTS = "diffusion_pytorch_model.safetensors"


def write_config(stage: CascadeStage, folder: Path) -> None:
    content = dict(_class_name="CascadeStage", **stage.config, level=1.0)
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")


def export(stage: CascadeStage, folder: Path, storage: torch.dtype) -> None:
    """The folder of a component, weights in `storage`."""
    write_config(stage, folder)
    state = {name: value.to(storage).contiguous() for name, value in stage.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def load(folder: Path) -> CascadeStage:
    """A stage of `export`, or one that was quantised, in f32."""
    from .quantise import load as load_weights

    config = json.loads((folder / "config.json").read_text())
    stage = CascadeStage(**{key: config[key] for key in ("scale", "between", "channels", "blocks")})
    stage.load_state_dict(load_weights(folder / WEIGHTS))
    return stage.eval()


def flops(stage: CascadeStage, height: int, width: int) -> float:
    """Of one frame that comes out."""
    total = 0.0
    for name, parameter in stage.named_parameters():
        if parameter.ndim == 5:
            halvings = 1
            if name.startswith(("down.", "up.")):
                halvings = int(name.split(".")[1]) + 2
            elif name.startswith("down_blocks."):
                halvings = int(name.split(".")[1]) + 2
            elif name.startswith("up_blocks."):
                halvings = int(name.split(".")[1]) + 1
            elif name.startswith("time."):
                halvings = len(stage.config["channels"])
            total += 2 * parameter.numel() * (height >> halvings) * (width >> halvings)
    return total

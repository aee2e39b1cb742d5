"""Names the object of a clip: a small convolutional network trained on real clips only.

It learns from single frames of the first part of every clip, at 64x64 on random backgrounds,
flipped, shifted, blurred and noisy, and judges a clip by the mean over five of its frames. Its own
accuracy is measured on the frames it has not seen, on backgrounds drawn anew, half of them
mirrored.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .captions import OBJECTS
from .config import SEED, SIZE
from .data import Clips, random_color

INPUT = 64
KNOWN = 0.6  # of each clip's frames are trained on
STEPS, BATCH = 900, 96
TESTS = 4  # clips per object in its own test


def build() -> nn.Module:
    torch.manual_seed(SEED)
    layers, channels = [], 3
    for width in (32, 64, 128, 256):
        layers += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(4 * channels, len(OBJECTS)))


def small(frames: torch.Tensor) -> torch.Tensor:
    """[N, 3, H, W] in about [-1, 1] to the network's input."""
    return F.interpolate(frames.clamp(-1, 1), (INPUT, INPUT), mode="area")


def scores(net: nn.Module, video: torch.Tensor) -> torch.Tensor:
    """Mean log-probability of each object over five frames of [3, F, H, W]."""
    picks = np.linspace(0, video.shape[1] - 1, 5).round().astype(int)
    with torch.no_grad():
        return net(small(video[:, picks].transpose(0, 1))).log_softmax(-1).mean(0)


def ranked(net: nn.Module, video: torch.Tensor) -> list[str]:
    """The codes of all objects, the likeliest first."""
    codes = list(OBJECTS)
    return [codes[i] for i in scores(net, video).argsort(descending=True).tolist()]


def _sprites(clips: Clips) -> list[torch.Tensor]:
    """Per object [frames, 4, 64, 64] in 0..255, premultiplied."""
    out = []
    for code in OBJECTS:
        clip = clips.by_code[code]
        rgba = clips.frames[clip["start"] : clip["start"] + clip["frames"]]
        k = SIZE // INPUT
        rgba = rgba.reshape(-1, INPUT, k, INPUT, k, 4).mean((2, 4), dtype=np.float32)
        out.append(torch.from_numpy(rgba).permute(0, 3, 1, 2))
    return out


def _batch(sprites: list[torch.Tensor], rng: np.random.Generator):
    labels = rng.integers(len(sprites), size=BATCH)
    images = []
    for label in labels:
        sprite = sprites[label]
        rgba = sprite[rng.integers(int(KNOWN * len(sprite)))]
        color = torch.tensor(random_color(rng), dtype=torch.float32).view(3, 1, 1)
        image = (rgba[:3] + (1 - rgba[3:] / 255) * color) / 127.5 - 1
        image = image.flip(-1) if rng.random() < 0.5 else image
        if rng.random() < 0.5:  # the autoencoder blurs
            side = int(rng.integers(20, INPUT))
            image = F.interpolate(image[None], (side, side), mode="area")
            image = F.interpolate(image, (INPUT, INPUT), mode="bilinear")[0]
        padded = F.pad(image[None], (4, 4, 4, 4), mode="replicate")[0]
        top, left = rng.integers(0, 9, 2)
        images.append(padded[:, top : top + INPUT, left : left + INPUT])
    images = torch.stack(images)
    noise = np.float32(rng.uniform(0, 0.15)) * torch.randn(images.shape)
    return images + noise, torch.from_numpy(labels)


def own_accuracy(net: nn.Module, clips: Clips) -> float:
    """Top-1 on real clips: unseen frames, new backgrounds, half of them mirrored."""
    rng, right = np.random.default_rng(SEED + 1), []
    for code in OBJECTS:
        clip = clips.by_code[code]
        first = int(KNOWN * clip["frames"])
        for k in range(TESTS):
            color = tuple(rng.integers(0, 256, 3))
            video = clips.window(clip, first, clip["frames"] - first, color)
            right.append(ranked(net, video.flip(-1) if k % 2 else video)[0] == code)
    return float(np.mean(right))


def load(work: Path, clips: Clips) -> tuple[nn.Module, float]:
    """The network and its own accuracy, trained on the first call."""
    file, net = work / "classifier.pt", build()
    if not file.exists():
        sprites, rng = _sprites(clips), np.random.default_rng(SEED)
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
        net.train()
        for step in range(STEPS):
            images, labels = _batch(sprites, rng)
            loss = F.cross_entropy(net(images), labels, label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % 100 == 0:
                print(f"classifier {step + 1}/{STEPS} loss {loss.item():.3f}", flush=True)
        torch.save(net.state_dict(), file)
    net.load_state_dict(torch.load(file))
    net.eval()
    return net, own_accuracy(net, clips)

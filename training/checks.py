"""Checks of an exported model that run the `kinora` command.

    python -m training.checks conformance --kinora target/release/kinora [--model models/flipbook]
    python -m training.checks windows     --kinora target/release/kinora
    python -m training.checks shapes      --kinora target/release/kinora --sheet docs/shapes.webp

`conformance` compares 20 clips with PyTorch in f32 from the same noise, frame by frame. `windows`
measures how far brightness drifts over 64 frames made window by window, for ten prompts. `shapes`
draws a contact sheet of six shapes that were not trained. The exit code is 1 below a bar.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from .captions import OBJECTS, prompt
from .config import COLORS, FRAMES
from .data import contact_sheet
from .reference import Reference
from .sampler import initial_noise

CONFORMING_CLIPS, LEAST_DB = 20, 35.0
DRIFT_CLIPS, DRIFT_FRAMES, MOST_DRIFT = 10, 64, 0.02
# Width, height, frames: none of SHAPES in config.py, lengths in and out of LENGTHS.
SHAPES = ((96, 96, 17), (160, 128, 17), (128, 160, 17), (192, 96, 17), (160, 160, 13), (128, 96, 33))


def cases(folder: Path, count: int) -> list[str]:
    """Prompts for objects spread over the model's vocabulary, on each colour in turn."""
    names = {o["name"] for o in json.loads((folder / "vocabulary.json").read_text())["objects"]}
    codes, colors = [c for c, thing in OBJECTS.items() if thing.name in names], list(COLORS)
    return [prompt(codes[k * len(codes) // count], colors[k % len(colors)]) for k in range(count)]


def clip(args, text: str, *words) -> np.ndarray:
    """[F, H, W, 3] in 0..1, through PNG files."""
    with tempfile.TemporaryDirectory() as folder:
        command = [args.kinora.resolve(), "generate", text, "-m", args.model.resolve(), "-q"]
        pattern = Path(folder) / "frame-%03d.png"
        words = [*command, "-o", pattern, *map(str, words)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        files = sorted(Path(folder).glob("frame-*.png"))
        pictures = [np.asarray(Image.open(f).convert("RGB"), np.float32) / 255 for f in files]
    return np.stack(pictures)


def conformance(args) -> bool:
    reference, worst = Reference(args.model), []
    with tempfile.TemporaryDirectory() as folder:
        noise_file = Path(folder) / "noise.safetensors"
        for seed, text in enumerate(cases(args.model, CONFORMING_CLIPS)):
            noise = initial_noise(seed)
            save_file(dict(latents=noise), noise_file)
            expected = reference(text, noise)["frames"].numpy()
            error = np.square(clip(args, text, "--latents-in", noise_file) - expected)
            assert len(error) == FRAMES
            worst.append(float((-10 * np.log10(error.mean((1, 2, 3)))).min()))
            print(f"{worst[-1]:5.1f} dB  {text}", flush=True)
    print(f"{min(worst):5.1f} dB  the lowest frame of {len(worst)} clips; bar {LEAST_DB}")
    return min(worst) >= LEAST_DB


def windows(args) -> bool:
    drifts = []
    for seed, text in enumerate(cases(args.model, DRIFT_CLIPS)):
        frames = clip(args, text, "-s", seed, "--window", FRAMES, "--frames", DRIFT_FRAMES)
        first, last = frames[:FRAMES].mean(), frames[-FRAMES:].mean()
        drifts.append(float((last - first) / first))
        print(f"{100 * drifts[-1]:+5.1f} %  {text}", flush=True)
    within = sum(abs(drift) <= MOST_DRIFT for drift in drifts)
    print(f"within {100 * MOST_DRIFT:.0f} %: {within} of {len(drifts)}; mean {np.mean(drifts):+.1%}")
    return within == len(drifts)


def shapes(args) -> bool:
    """Every shape with an object of its own, first seed."""
    rows = []
    for (width, height, frames), text in zip(SHAPES, cases(args.model, len(SHAPES))):
        made = clip(args, text, "--size", f"{width}x{height}", "--frames", frames)
        video = torch.from_numpy(made).permute(3, 0, 1, 2) * 2 - 1
        rows.append((f"{width}x{height}, {frames} frames: {text}", video))
    size = max(max(video.shape[2:]) for _, video in rows)
    contact_sheet(rows, size=size).save(args.sheet, quality=80)
    return True


def main() -> int:
    checks = dict(conformance=conformance, windows=windows, shapes=shapes)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=checks)
    parser.add_argument("--kinora", type=Path, required=True, help="the command")
    parser.add_argument("--model", type=Path, default=Path("models/flipbook"))
    parser.add_argument("--sheet", type=Path, default=Path("docs/flipbook-shapes.webp"))
    args = parser.parse_args()
    return int(not checks[args.check](args))


if __name__ == "__main__":
    sys.exit(main())

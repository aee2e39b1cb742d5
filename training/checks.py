"""Checks of an exported model that run the `kinora` command.

    python -m training.checks conformance --kinora target/release/kinora [--model models/flipbook]
    python -m training.checks windows     --kinora target/release/kinora
    python -m training.checks shapes      --kinora target/release/kinora --sheet docs/shapes.webp
    python -m training.checks everyday    --kinora target/release/kinora --sheet work/everyday.png

`conformance` compares 20 clips with PyTorch in f32 from the same noise, frame by frame. `windows`
measures how far brightness drifts over 64 frames made window by window, for ten prompts. `shapes`
draws a contact sheet of six shapes that were not trained. `everyday` makes a clip of each of the 120
prompts in `data/everyday_prompts.tsv`, first seeds, as it is read and as it is written, counts what
they were taken for, writes that into the model's `evaluation.json` and draws sheets of both. The exit code is 1 below a bar.
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
from .config import COLORS, FRAMES, HERE
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


def batch(args, prompts: list[str], *words) -> tuple[list[dict], list[torch.Tensor]]:
    """What is said of the clip of each prompt, seed by seed, and its frames [3, F, H, W]."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{k}-%03d.png" for k in range(len(prompts))]
        lines = [dict(prompt=text, seed=k, output=str(paths[k])) for k, text in enumerate(prompts)]
        jobs = Path(folder) / "jobs.jsonl"
        jobs.write_text("\n".join(map(json.dumps, lines)))
        command = [args.kinora.resolve(), "generate", "--batch", jobs, "-m", args.model.resolve()]
        said = subprocess.run([*command, "-q", "--json", *words], check=True, capture_output=True)
        videos = []
        for k in range(len(prompts)):
            files = sorted(Path(folder).glob(f"{k}-*.png"))
            frames = np.stack([np.asarray(Image.open(f).convert("RGB"), np.float32) for f in files])
            videos.append(torch.from_numpy(frames / 127.5 - 1).permute(3, 0, 1, 2))
    return json.loads(said.stdout)["clips"], videos


def everyday(args) -> bool:
    rows = (HERE / "data/everyday_prompts.tsv").read_text().splitlines()[1:]
    cells = [row.split("\t") for row in rows]
    prompts, labels = [c[0] for c in cells], [c[1].split(" | ") for c in cells]
    said, videos = batch(args, prompts)
    _, literal = batch(args, prompts, "--literal")
    unknown = [bool(clip.get("unknown")) for clip in said]
    right = [clip["used"].split(", ")[0] in names for clip, names in zip(said, labels)]
    drawable = [names != ["unknown"] for names in labels]
    result = {
        "drawable": sum(drawable),
        "object_right": sum(r for r, d in zip(right, drawable) if d),
        "drawable_called_unknown": sum(u for u, d in zip(unknown, drawable) if d),
        "undrawable": len(rows) - sum(drawable),
        "undrawable_called_unknown": sum(u for u, d in zip(unknown, drawable) if not d),
    }
    print(json.dumps(result, indent=2))
    file = args.model / "evaluation.json"
    evaluation = json.loads(file.read_text()) | {"everyday_prompts": result}
    file.write_text(json.dumps(evaluation, indent=2) + "\n")
    for name, clips in (("", videos), ("-literal", literal)):
        shown = [(prompts[k], clips[k]) for k in range(len(rows)) if drawable[k]]
        sheet = args.sheet.with_stem(args.sheet.stem + name)
        contact_sheet(shown, shown=2, columns=6).save(sheet)
    bars = result["object_right"] >= 0.8 * result["drawable"]
    bars &= result["drawable_called_unknown"] <= 0.05 * result["drawable"]
    return bars and result["undrawable_called_unknown"] >= 0.8 * result["undrawable"]


def main() -> int:
    checks = dict(conformance=conformance, windows=windows, shapes=shapes, everyday=everyday)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=checks)
    parser.add_argument("--kinora", type=Path, required=True, help="the command")
    parser.add_argument("--model", type=Path, default=Path("models/flipbook"))
    parser.add_argument("--sheet", type=Path, default=Path("docs/flipbook-shapes.webp"))
    args = parser.parse_args()
    return int(not checks[args.check](args))


if __name__ == "__main__":
    sys.exit(main())

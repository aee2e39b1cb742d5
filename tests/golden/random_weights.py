"""Writes a component of true size with seeded random weights in q8_0, as Kinora's own files have it: I8 with F16 scales.

    python tests/golden/random_weights.py umt5-xxl target/true-size/umt5-xxl

Gigabytes, of no use but to measure with: write them where git does not look, and delete them afterwards. Matrices have the
spread 1 / sqrt(K), vectors are 1 for norms. `--without NAME` leaves a tensor out, such as a second name of an embedding.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np

BLOCK = 32


def tensors(text):
    """Name and extents of each tensor of a list, where `{0..2}` stands for three."""
    for line in text.splitlines():
        name, shape = line.split(" ", 1)
        found = re.match(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", name)
        names = [f"{found[1]}{i}{found[4]}" for i in range(int(found[2]), int(found[3]) + 1)] if found else [name]
        for each in names:
            yield each, json.loads(shape)


def entries(listed):
    """Every tensor of the file: name, type, extents, bytes."""
    for name, shape in listed:
        if len(shape) < 2 or "bias" in name:
            yield name, "F32", shape, 4 * int(np.prod(shape))
            continue
        row = int(np.prod(shape[1:]))
        yield name, "I8", shape, shape[0] * row
        blocks = -(-row // BLOCK)
        yield f"{name}.scale", "F16", [shape[0], blocks], 2 * shape[0] * blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a folder in true_size")
    parser.add_argument("out", type=Path)
    parser.add_argument("--without", nargs="*", default=[])
    args = parser.parse_args()
    source = Path(__file__).parent / "true_size" / args.name
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "config.json", args.out / "config.json")
    listed = [(name, shape) for name, shape in tensors((source / "tensors.txt").read_text()) if name not in args.without]
    header, end = {}, 0
    for name, dtype, shape, size in entries(listed):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(1)
    row = 1
    with open(args.out / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dtype, shape, size in entries(listed):
            if dtype == "I8":
                row = int(np.prod(shape[1:]))
                for at in range(0, size, 1 << 26):
                    file.write(rng.bytes(min(1 << 26, size - at)))
            elif dtype == "F16":
                # Codes of all values have a spread of 74.
                file.write(np.full(shape, 1 / (74 * row**0.5), np.float16).tobytes())
            else:
                values = np.ones(shape) if len(shape) < 2 and "bias" not in name else rng.normal(size=shape) * 0.1
                file.write(values.astype(np.float32).tobytes())
    print(f"{end / 1e9:.2f} GB in {args.out}")


if __name__ == "__main__":
    main()

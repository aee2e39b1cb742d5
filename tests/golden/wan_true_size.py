"""One forward pass of Wan 2.1 1.3B at its true size, with seeded random weights, by Kinora and by PyTorch.

    python wan_true_size.py KINORA [WORK_FOLDER] [--layers N]

KINORA is the command; the folder (2.9 GB, removed at the end unless it is given) gets the weights, which are never committed.
256 tokens, 512 text tokens. Prints error, seconds and peak memory of each in processes of their own; fails above 1e-6 with
weights in f32 and 1e-4 in f16. The weights are exact in f16, so that all see the same model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BARS = {"f32": 1e-6, "f16": 1e-4}


def model(folder: Path):
    import torch
    from diffusers import WanTransformer3DModel

    from golden.common import quiet

    quiet()
    config = json.loads((folder / "config.json").read_text())
    WanTransformer3DModel._keep_in_fp32_modules = None
    with torch.device("meta"):
        empty = WanTransformer3DModel.from_config(config)
    return WanTransformer3DModel, config, empty


def write(folder: Path, layers: int | None) -> None:
    """Weights and inputs."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((ROOT / "true_size/wan2.1-t2v-1.3b/config.json").read_text())
    if layers:
        config["num_layers"] = layers
    (folder / "config.json").write_text(json.dumps(config))
    _, config, empty = model(folder)
    gen = torch.Generator().manual_seed(1300)
    tensors = {}
    for name, parameter in sorted(empty.named_parameters()):
        value = torch.randn(*parameter.shape, generator=gen)
        if parameter.dim() >= 2 and "table" not in name:
            value /= parameter[0].numel() ** 0.5
        elif "norm" in name and name.endswith("weight"):
            value = 1.0 + 0.2 * value
        else:
            value *= 0.2
        tensors[name] = value.half()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata=dict(format="pt"))
    inputs = dict(hidden_states=torch.randn(1, config["in_channels"], 1, 32, 32, generator=gen), timestep=torch.tensor([500.0]),
                  encoder_hidden_states=0.2 * torch.randn(1, 512, config["text_dim"], generator=gen))
    save_file(inputs, folder / "inputs.safetensors")


def torch_forward(folder: Path) -> None:
    """The forward pass alone is timed, after one over a single layer's worth of warming up by loading."""
    import torch
    from safetensors.torch import load_file, save_file

    cls, config, _ = model(folder)
    network = cls.from_config(config)
    network.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    network = network.float().eval()
    inputs = load_file(folder / "inputs.safetensors")
    start = time.monotonic()
    with torch.no_grad():
        sample = network(**inputs, return_dict=False)[0]
    print(f"forward {time.monotonic() - start:.1f} s on {torch.get_num_threads()} threads")
    save_file(dict(sample=sample.contiguous()), folder / "torch.safetensors")


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident GiB of a process."""
    start = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed")
    return time.monotonic() - start, usage.ru_maxrss / 2**20


def compare(folder: Path, kinora: str) -> None:
    seconds, peak = measured([sys.executable, __file__, kinora, str(folder), "--stage", "torch"])
    print(f"PyTorch f32: {seconds:.1f} s with loading, {peak:.2f} GiB at most", flush=True)
    failed = []
    for dtype, bar in BARS.items():
        out = folder / f"kinora_{dtype}.safetensors"
        seconds, peak = measured([kinora, "eval", "--model", str(folder), "--inputs", str(folder / "inputs.safetensors"),
                                  "--outputs", str(out), "--dtype", dtype])
        error = nmse(out, folder / "torch.safetensors")
        print(f"Kinora {dtype}: NMSE {error:.2e}, {seconds:.1f} s with loading, {peak:.2f} GiB at most", flush=True)
        if not error <= bar:
            failed.append(dtype)
    if failed:
        raise SystemExit(f"above the bar: {', '.join(failed)}")


def nmse(found: Path, expected: Path) -> float:
    from safetensors.numpy import load_file

    a, b = (load_file(path)["sample"].astype("float64") for path in (found, expected))
    return float(((a - b) ** 2).sum() / (b**2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinora")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--stage", choices=["write", "torch"])
    given = parser.parse_args()
    if given.stage == "torch":
        return torch_forward(given.folder)
    if given.stage == "write":
        return write(given.folder, given.layers)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        stage = [sys.executable, __file__, given.kinora, str(folder), "--stage", "write"]
        measured(stage + (["--layers", str(given.layers)] if given.layers else []))
        compare(folder, given.kinora)


if __name__ == "__main__":
    main()

"""UMT5-XXL of true size, layer by layer, by Kinora and by PyTorch, with seeded random weights in q8.

    python umt5_true_size.py KINORA [--layers N] [--dtype f32]

KINORA is the command. 64 tokens. Each layer is a text encoder of its own, of one layer, whose table of embeddings is what PyTorch's
layer before made: neither side ever has the weights of two layers (193 million values, 205 MB in q8, 772 MB in f32). What is compared
is the layer's result after a normalisation with weights of 1. PyTorch computes in f32 on the dequantised weights. Prints the error and
seconds of each layer and PyTorch's peak memory; fails above 1e-6. Weights are f16 on the device: in f32 three projections side by
side are 201 MB, more than a buffer of lavapipe holds.
"""

import argparse
import json
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel

ROOT = Path(__file__).resolve().parent
TOKENS = 64
BLOCK = 32
BAR = 1e-6


def quantised(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127 and a scale in f16 for each 32 of a row."""
    blocks = value.reshape(value.shape[0], -1, BLOCK)
    scale = (np.abs(blocks).max(-1) / 127).astype(np.float16)
    return np.rint(blocks / scale.astype(np.float32)[..., None]).clip(-127, 127).astype(np.int8).reshape(value.shape), scale


def layer(network: UMT5EncoderModel, seed: int) -> dict[str, np.ndarray]:
    """Fills the network with new weights, and returns them as the file has them."""
    gen = np.random.default_rng(seed)
    tensors = {}
    for name, parameter in sorted(network.named_parameters()):
        if name.startswith(("shared", "encoder.embed_tokens")):
            continue
        value = gen.standard_normal(tuple(parameter.shape), dtype=np.float32)
        if name == "encoder.final_layer_norm.weight":
            value = np.ones_like(value)
        elif value.ndim == 1:
            value = 1 + 0.2 * value
        elif "relative" not in name:
            # Attention of this family does not divide by the square root of its width.
            value *= value.shape[1] ** -0.5 * (0.35 if ".q." in name else 1)
            codes, scale = quantised(value)
            tensors[name], tensors[name + ".scale"] = codes, scale
            blocks = codes.reshape(*scale.shape, BLOCK).astype(np.float32) * scale.astype(np.float32)[..., None]
            value = blocks.reshape(value.shape)
        if name not in tensors:
            tensors[name] = value
        parameter.data.copy_(torch.from_numpy(value))
    return tensors


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinora")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--dtype", choices=["f16", "f32"], default="f16")
    given = parser.parse_args()
    config = json.loads((ROOT / "true_size/umt5-xxl/config.json").read_text())
    config |= {"num_layers": 1, "vocab_size": TOKENS}
    network = UMT5EncoderModel(UMT5Config(**config)).eval()
    hidden = np.random.default_rng(0).standard_normal((TOKENS, config["d_model"]), dtype=np.float32)
    raw = []
    network.encoder.final_layer_norm.register_forward_pre_hook(lambda _, inputs: raw.append(inputs[0]))
    worst = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.json").write_text(json.dumps(config))
        save_file({"input_ids": np.arange(TOKENS)[None]}, folder / "inputs.safetensors")
        for index in range(given.layers):
            tensors = layer(network, index)
            network.shared.weight.data.copy_(torch.from_numpy(hidden))
            save_file(tensors | {"shared.weight": hidden}, folder / "model.safetensors")
            del tensors
            expected = network(input_ids=torch.arange(TOKENS)[None]).last_hidden_state.numpy().astype(np.float64)
            hidden = raw.pop()[0].numpy().copy()
            start = time.monotonic()
            files = ["--inputs", str(folder / "inputs.safetensors"), "--outputs", str(folder / "outputs.safetensors")]
            subprocess.run([given.kinora, "eval", "--model", str(folder), *files, "--dtype", given.dtype], check=True, stdout=subprocess.DEVNULL)
            found = load_file(folder / "outputs.safetensors")["last_hidden_state"].astype(np.float64)
            error = ((found - expected) ** 2).sum() / (expected**2).sum()
            worst = max(worst, error)
            print(f"layer {index}: NMSE {error:.2e}, {time.monotonic() - start:.1f} s", flush=True)
    print(f"worst {worst:.2e}; PyTorch took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most")
    if not worst <= BAR:
        raise SystemExit("above the bar")


if __name__ == "__main__":
    main()

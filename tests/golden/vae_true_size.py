"""An autoencoder of `true_size/` with seeded random weights: `python vae_true_size.py NAME FOLDER`. What it writes is never committed."""

import json
import sys
from pathlib import Path


def main() -> None:
    import torch
    from safetensors.torch import save_file

    from golden.common import ROOT, quiet
    from golden.true_size import _model

    quiet()
    name, folder = sys.argv[1], Path(sys.argv[2])
    config = json.loads((ROOT / "true_size" / name / "config.json").read_text())
    gen = torch.Generator().manual_seed(1400)
    tensors = {}
    for key, tensor in sorted(_model(config).state_dict().items()):
        value = torch.randn(tensor.shape, generator=gen)
        if key.endswith("timestep_scale_multiplier"):
            value = torch.tensor(1000.0)
        elif key.endswith("gamma"):
            value = 1.0 + 0.2 * value
        elif key.endswith("latents_std"):
            value = torch.ones(tensor.shape)
        elif value.dim() >= 2:
            value /= value[0].numel() ** 0.5
        else:
            value *= 0.2
        tensors[key] = value.half()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata=dict(format="pt"))


if __name__ == "__main__":
    main()

"""Regenerates the golden fixtures. See README.md.

    python generate.py [part ...]      parts: those of PARTS below (default: all)
"""

import importlib
import sys

PARTS = ["ltx_transformer", "ltx_vae", "ltx_upsampler", "wan_transformer", "wan_causal", "wan_vae", "taehv",
         "cogvideox_transformer", "cogvideox_vae", "kl_vae", "latte_transformer", "dit_transformer", "uvit", "mdt", "cascade", "text_encoders", "clip_vision", "clip_text",
         "schedulers", "solvers", "sampler", "tokenizer", "ltx_pipeline", "ltx_two_pass", "ltx_keyframes", "wan_pipeline", "wan_image_pipeline",
         "wan_vace", "cogvideox_pipeline", "latte_pipeline", "dit_pipeline", "categories", "true_size", "gguf_files", "containers"]


def main() -> None:
    import torch

    from golden.common import quiet

    quiet()
    torch.set_num_threads(1)  # a fixed order of summation
    for part in sys.argv[1:] or PARTS:
        print(part, flush=True)
        importlib.import_module(f"golden.{part}").generate()


if __name__ == "__main__":
    main()

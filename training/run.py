"""`python -m training <stage>`: one stage, or `all` of them but `distil` in order. Finished work is kept, so a
stage that was killed continues from its last checkpoint."""

import argparse
import importlib
from pathlib import Path

import torch

from .config import ROOT

# Minutes of training per stage, for a longer run than the shipped one (see README).
MINUTES = dict(vae=60, dit=180, distil=45, refine=30, upscale=60, interpolate=30)
STAGES = ("prepare", "vae", "latents", "dit", "distil", "refine", "pairs", "upscale", "interpolate", "export", "evaluate", "card")


def main() -> None:
    parser = argparse.ArgumentParser(prog="training", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, default=ROOT / "work/train", help="work folder")
    parser.add_argument("--minutes", type=float, help="training time of this stage")
    parser.add_argument("--start", type=Path, help="checkpoint that `vae` or `dit` starts from")
    parser.add_argument("--threads", type=int, default=2, help="processor cores")
    parser.add_argument("--out", type=Path, default=ROOT / "models/flipbook", help="exported model")
    args = parser.parse_args()
    if args.start and args.stage not in ("vae", "dit"):
        parser.error("--start is for the stages vae and dit")
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    chosen = [s for s in STAGES if s != "distil"] if args.stage == "all" else [args.stage]
    for stage in chosen:
        module = importlib.import_module(f".{stage}", __package__)
        if stage in MINUTES:
            options = dict(start=args.start) if args.start else {}
            module.main(args.work, args.minutes or MINUTES[stage], **options)
        elif stage in ("export", "evaluate", "card"):
            module.main(args.work, args.out)
        else:
            module.main(args.work)

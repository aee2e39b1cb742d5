"""Writes the trained model in diffusers layout, matrices in q8_0 (`quantise.py`), with what Kinora needs in its index file."""

import json
import shutil
from pathlib import Path

import torch

from . import cascade, quantise
from .config import COORDINATE_CHANNELS, FPS, FRAMES, PACKING, SIZE, TEXT_TOKENS
from .dit import averaged
from .packing import ROPE_SCALE
from .text import write_vocabulary
from .vae import load as load_vae

# On this small vocabulary guidance hurts (latent error against the real clips at 12 steps: 0.097
# unguided, 0.177 at guidance 3) and few steps suffice (0.089 at 4 steps, with less motion).
STAGES = dict(interpolate=cascade.INTERPOLATE, upscale=cascade.UPSCALE)
PLAIN = dict(default_steps=8, default_guidance=1.0)
STUDENT = dict(default_steps=4, default_guidance=1.0)


def _json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def index(distilled: bool) -> dict:
    return {
        "_class_name": "LTXPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "BertModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLLTXVideo"],
        "kinora": {
            "name": "flipbook",
            **(STUDENT if distilled else PLAIN),
            "default_width": SIZE,
            "default_height": SIZE,
            "default_frames": FRAMES,
            "fps": FPS,
            "token_packing": list(PACKING),
            "coordinate_channels": COORDINATE_CHANNELS,
            "rope_interpolation_scale": list(ROPE_SCALE),
            "max_text_tokens": TEXT_TOKENS,
            "vocabulary": "vocabulary.json",
            "vocabulary_states": "vocabulary.safetensors",
            "cascade": list(STAGES),
        },
    }


def export_cascade(work: Path, out: Path) -> None:
    """The averaged weights of both stages of the cascade."""
    for name, config in STAGES.items():
        stage = cascade.CascadeStage(**config)
        stage.load_state_dict(torch.load(work / name / "state.pt", weights_only=False)["slow"])
        (out / name).mkdir(parents=True, exist_ok=True)
        cascade.write_config(stage, out / name)
        quantise.save(stage.state_dict(), out / name / cascade.WEIGHTS)
        (out / name / cascade.WEIGHTS).chmod(0o644)


def main(work: Path, out: Path) -> None:
    export_cascade(work, out)
    distilled = (work / "distil/state.pt").exists()
    model, vae = averaged(work, "distil" if distilled else "dit"), load_vae(work)
    content = torch.load(work / "latents.pt", weights_only=False)
    vae.latents_mean.copy_(content["mean"])
    vae.latents_std.copy_(content["std"])
    for part, folder in ((model, "transformer"), (vae, "vae")):
        part.save_config(out / folder)
        quantise.save(part.state_dict(), out / folder / "diffusion_pytorch_model.safetensors")
    shutil.copytree(work / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    text = "text_encoder/model.safetensors"
    (out / text).parent.mkdir(exist_ok=True)
    shutil.copy(work / "text_encoder/config.json", out / "text_encoder")
    quantise.save(quantise.load(work / text), out / text)
    _json(
        out / "tokenizer/tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": TEXT_TOKENS,
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "mask_token": "[MASK]",
        },
    )
    _json(
        out / "scheduler/scheduler_config.json",
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "num_train_timesteps": 1000,
            "shift": 1.0,
            "use_dynamic_shifting": False,
        },
    )
    _json(out / "model_index.json", index(distilled))
    write_vocabulary(out)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {size / 1e6:.1f} MB, {'distilled' if distilled else 'plain'}")

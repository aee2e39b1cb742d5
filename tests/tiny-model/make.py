"""Writes the smallest model that has everything the built-in one has; its weights are random.

    python make.py          (needs the packages of ../golden/requirements.txt)

End-to-end tests generate with it. The clips mean nothing; that they come out, and come out the same
every time, does.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from transformers import BertConfig, BertModel

HERE = Path(__file__).resolve().parent
TOKENIZER = HERE.parent / "golden/tokenizer/wordpiece.json"
LATENT_CHANNELS = 8
PACKING = [1, 2, 2]
COORDINATES = 15
TEXT_WIDTH = 16


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            value = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1 and parameter.numel() > 0:
                value /= parameter[0].numel() ** 0.5
            elif "norm" in name.lower() and name.endswith("weight"):
                value = 1 + 0.1 * value
            else:
                value *= 0.1
            parameter.copy_(value)
    return model.half().eval()


def save(model: torch.nn.Module, folder: str) -> None:
    model.save_pretrained(HERE / folder, safe_serialization=True)
    path = HERE / folder / "config.json"
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    vocabulary = len(json.loads(TOKENIZER.read_text())["model"]["vocab"])
    packed = LATENT_CHANNELS * PACKING[0] * PACKING[1] * PACKING[2]
    transformer = LTXVideoTransformer3DModel(
        in_channels=packed + COORDINATES, out_channels=packed, num_layers=1, num_attention_heads=2,
        attention_head_dim=8, cross_attention_dim=16, caption_channels=TEXT_WIDTH)
    vae = AutoencoderKLLTXVideo(
        latent_channels=LATENT_CHANNELS, block_out_channels=(4, 8, 8), decoder_block_out_channels=(4, 8),
        down_block_types=("LTXVideo095DownBlock3D",) * 2, downsample_type=("spatiotemporal",) * 2,
        layers_per_block=(0, 1, 1), decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, True), decoder_spatio_temporal_scaling=(True, True),
        decoder_inject_noise=(False,) * 3, upsample_residual=(True, True), upsample_factor=(1, 2),
        timestep_conditioning=False, patch_size=4, encoder_causal=True, decoder_causal=False)
    text_encoder = BertModel(
        BertConfig(
            vocab_size=vocabulary, hidden_size=TEXT_WIDTH, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64),
        add_pooling_layer=False)
    save(randomise(transformer, 1), "transformer")
    save(randomise(vae, 2), "vae")
    save(randomise(text_encoder, 3), "text_encoder")
    FlowMatchEulerDiscreteScheduler().save_pretrained(HERE / "scheduler")
    (HERE / "tokenizer").mkdir(exist_ok=True)
    shutil.copy(TOKENIZER, HERE / "tokenizer/tokenizer.json")
    index = {
        "_class_name": "LTXPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "BertModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLLTXVideo"],
        "kinora": {
            "name": "tiny",
            "default_steps": 2,
            "default_guidance": 2.0,
            "default_width": 32,
            "default_height": 32,
            "default_frames": 5,
            "fps": 12,
            "token_packing": PACKING,
            "coordinate_channels": COORDINATES,
            "max_text_tokens": 16,
        },
    }
    (HERE / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


main()

"""CLIPTextModel with random weights: tokens that see those before them, both activations."""

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from .common import fresh, generator, seed_parameters
from .text_encoders import padded, save_encoder


def generate() -> None:
    small = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=9)
    given = lambda seed, cases: {name: padded(generator(seed), 60, *rows) for name, rows in cases.items()}  # noqa: E731
    for name, seed, overrides, cases in (
        ("quick_gelu", 570, dict(hidden_act="quick_gelu"), {"batch2": ([9, 4], 9), "one_token": ([1], 1)}),
        ("gelu", 580, dict(hidden_act="gelu", num_attention_heads=3, layer_norm_eps=1e-4), {"batch3": ([6, 2, 5], 6)}),
    ):
        model = CLIPTextModel(CLIPTextConfig(**small | overrides))
        seed_parameters(model, seed, torch.float16)
        save_encoder(model, fresh("clip_text", name), torch.float16, given(seed + 1, cases))

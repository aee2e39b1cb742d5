"""CLIPVisionModel with random weights: heads of several sizes, pictures whose edge is and is no multiple of a patch."""

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters


def model(name: str, seed: int, storage: torch.dtype, **overrides) -> CLIPVisionModel:
    made = CLIPVisionModel(CLIPVisionConfig(**overrides))
    seed_parameters(made, seed, storage)
    save_model(made, fresh("clip_vision", name), storage)
    return made


def cases(name: str, made: CLIPVisionModel, seed: int, batches: list[int]) -> None:
    gen, edge = generator(seed), made.config.image_size
    for batch in batches:
        pixels = normal(gen, batch, 3, edge, edge).half()
        with torch.no_grad():
            found = made(pixel_values=pixels.double(), output_hidden_states=True)
        save_case(ROOT / "clip_vision" / name, f"batch{batch}", dict(pixel_values=pixels),
                  dict(penultimate=found.hidden_states[-2], last_hidden_state=found.last_hidden_state))


def generate() -> None:
    small = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=22, patch_size=7)
    cases("small", model("small", 540, torch.float16, hidden_act="gelu", **small), 541, [1, 2])
    wide = small | dict(hidden_size=30, num_attention_heads=3, num_hidden_layers=1, image_size=16, patch_size=4)
    cases("one_layer", model("one_layer", 550, torch.bfloat16, hidden_act="gelu_new", layer_norm_eps=1e-4, **wide), 551, [2])

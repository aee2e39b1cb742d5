"""CLIPVisionModel with random weights: heads of several sizes, pictures whose edge is and is no multiple of a patch."""

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
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
    scaled()


def scaled() -> None:
    """What Pillow makes of pictures before they are normalised: the shorter edge scaled, the middle cut out."""
    file = {}
    for number, (name, (height, width, edge)) in enumerate(dict(smaller=(13, 21, 8), larger=(5, 7, 9), upright=(19, 11, 11)).items()):
        rgba = torch.randint(0, 256, (height, width, 4), generator=generator(560 + number), dtype=torch.uint8)
        shorter = min(height, width)
        rows, columns = height * edge // shorter, width * edge // shorter
        picture = Image.fromarray(rgba[:, :, :3].numpy()).resize((columns, rows), Image.Resampling.BICUBIC)
        top, left = (rows - edge) // 2, (columns - edge) // 2
        made = torch.from_numpy(np.array(picture.crop((left, top, left + edge, top + edge))))
        file |= {f"{name}.rgba": rgba, f"{name}.scaled": made.permute(2, 0, 1).contiguous()}
    save_file(file, fresh("clip_processor") / "scaled.safetensors")

"""WanImageToVideoPipeline from prompt and pictures to latents: channels beside the noise, with pictures in the context and without,
a picture at both ends, two transformers, and a first latent frame that is pinned.

The text encoder, the tokenizer and the autoencoder are those of other fixtures. Pictures have the size of the clip and of what the
vision transformer sees, so that nothing is scaled on the way."""

import json
from types import SimpleNamespace

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters
from .wan_pipeline import EULER, PROMPT, UNIPC, scheduler, text_encoder
from .wan_vae import build as autoencoder

EDGE = 16
LATENTS = (1, 6, 3, 2, 2)

CASES = {
    "first": dict(transformer="seeing", scheduler=UNIPC, steps=4, guidance=5.0, prompt=PROMPT, negative="blurred"),
    "both_ends": dict(transformer="seeing_both", scheduler=UNIPC, steps=3, guidance=4.0, prompt=PROMPT, negative="", last=True),
    "channels": dict(transformer="channels", scheduler=EULER, steps=3, guidance=1.0, prompt="a sleeping cat", negative="", last=True),
    "experts": dict(transformer="channels", scheduler=UNIPC | dict(flow_shift=5.0), steps=5, guidance=3.5, prompt=PROMPT,
                    negative="melting", boundary_ratio=0.9),
    "pinned": dict(transformer="pinned", scheduler=EULER | dict(shift=5.0), steps=3, guidance=5.0, prompt=PROMPT, negative="",
                   expand_timesteps=True),
}


def transformer(name: str, seed: int) -> WanTransformer3DModel:
    images = dict(image_dim=24, added_kv_proj_dim=24) if name.startswith("seeing") else {}
    both = dict(pos_embed_seq_len=2 * 17) if name == "seeing_both" else {}
    channels = 6 if name == "pinned" else 6 + 4 + 6
    model = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=6, text_dim=16,
                                  freq_dim=256, ffn_dim=32, num_layers=1, **images, **both)
    seed_parameters(model, seed, torch.float16)
    save_model(model, fresh("wan_image_pipeline", name), torch.float16)
    return model.float()


def vision() -> CLIPVisionModel:
    model = CLIPVisionModel(CLIPVisionConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                                             image_size=EDGE, patch_size=4, hidden_act="gelu"))
    seed_parameters(model, 870, torch.float16)
    save_model(model, fresh("wan_image_pipeline", "image_encoder"), torch.float16)
    return model.float()


def picture(seed: int) -> torch.Tensor:
    """RGBA bytes."""
    colours = torch.randint(0, 256, (EDGE, EDGE, 3), generator=generator(seed), dtype=torch.uint8)
    return torch.cat([colours, torch.full((EDGE, EDGE, 1), 255, dtype=torch.uint8)], dim=2)


def generate() -> None:
    # Unlike the class for text it fails without that package, which changes nothing of these prompts.
    pipeline_wan_i2v.ftfy = SimpleNamespace(fix_text=lambda text: text)
    folder = fresh("wan_image_pipeline")
    models = {name: transformer(name, 860 + i) for i, name in enumerate(["seeing", "seeing_both", "channels", "channels_2", "pinned"])}
    encoder, looking = text_encoder().float(), vision()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    processor = CLIPImageProcessor(size=dict(shortest_edge=EDGE), crop_size=dict(height=EDGE, width=EDGE))
    pictures = [picture(880), picture(881)]
    images = [Image.fromarray(each[..., :3].numpy()) for each in pictures]
    (folder / "cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    for number, (name, case) in enumerate(CASES.items()):
        sees = case["transformer"].startswith("seeing")
        pipeline = WanImageToVideoPipeline(
            tokenizer=tokenizer, text_encoder=encoder, vae=autoencoder("v21").float(), scheduler=scheduler(case["scheduler"]),
            image_processor=processor if sees else None, image_encoder=looking if sees else None,
            transformer=models[case["transformer"]], transformer_2=models["channels_2"] if "boundary_ratio" in case else None,
            boundary_ratio=case.get("boundary_ratio"), expand_timesteps=case.get("expand_timesteps", False))
        pipeline.set_progress_bar_config(disable=True)
        noise = normal(generator(890 + number), *LATENTS)
        found = pipeline(image=images[0], last_image=images[1] if case.get("last") else None, prompt=case["prompt"],
                         negative_prompt=case["negative"], num_inference_steps=case["steps"], guidance_scale=case["guidance"],
                         latents=noise, output_type="latent", height=EDGE, width=EDGE, num_frames=9).frames
        given = dict(latents=noise, image=pictures[0]) | (dict(last_image=pictures[1]) if case.get("last") else {})
        save_case(folder, name, given, dict(latents=found))

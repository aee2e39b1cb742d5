"""LTXPipeline and LTXImageToVideoPipeline from prompt to latents, with guidance and without, and an image at the first frame.

The tokenizer, the text encoder and the autoencoder are those of other fixtures. The reference draws the latents of an image from their
distribution; here its mean is taken, as Kinora does. It lets a prompt's tokens see the padding in the text encoder, unlike the authors
of the model (github.com/Lightricks/LTX-Video), whom Kinora follows: the states are handed to it."""

import json

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXImageToVideoPipeline, LTXPipeline, LTXVideoTransformer3DModel
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters
from .ltx_vae import build as autoencoder

SCHEDULER = dict(_class_name="FlowMatchEulerDiscreteScheduler", base_image_seq_len=1024, base_shift=0.95, max_image_seq_len=4096,
                 max_shift=2.05, shift=1.0, shift_terminal=0.1, use_dynamic_shifting=True)
PROMPT = "A rocket flying over the ocean at sunset, cinematic lighting"
CASES = {
    "guided": dict(steps=4, guidance=3.0, prompt=PROMPT, negative="blurred, in the rain", image=False),
    "unguided": dict(steps=3, guidance=1.0, prompt="a sleeping cat", negative="", image=False),
    "image": dict(steps=4, guidance=2.5, prompt=PROMPT, negative="", image=True),
}
SIZE = dict(height=32, width=64, num_frames=9)
LATENTS = (1, 6, 3, 4, 8)


def components() -> dict:
    transformer = LTXVideoTransformer3DModel(in_channels=6, out_channels=6, num_attention_heads=2, attention_head_dim=8,
                                             cross_attention_dim=16, num_layers=1, caption_channels=16)
    encoder = T5EncoderModel(T5Config(vocab_size=560, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2,
                                      feed_forward_proj="gated-gelu"))
    for seed, (name, model) in enumerate(dict(transformer=transformer, text_encoder=encoder).items()):
        seed_parameters(model, 160 + seed, torch.float16)
        save_model(model, fresh("ltx_pipeline", name), torch.float16)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    return dict(transformer=transformer.float(), text_encoder=encoder.float(), tokenizer=tokenizer, vae=autoencoder("v090").float())


def tokens(latents: torch.Tensor) -> torch.Tensor:
    return latents.flatten(2).transpose(1, 2)


def states(parts: dict, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of 128 tokens, of which the mask keeps the prompt's."""
    found = parts["tokenizer"](prompt, padding="max_length", max_length=128, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return parts["text_encoder"](found.input_ids, attention_mask=found.attention_mask)[0], found.attention_mask.bool()


def first_latents(vae, picture: torch.Tensor) -> torch.Tensor:
    """Of an image of RGBA bytes, normalised."""
    pixels = picture[:, :, :3].permute(2, 0, 1).float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels[None, :, None]).latent_dist.mode()
    return (mean - vae.latents_mean[None, :, None, None, None].float()) / vae.latents_std[None, :, None, None, None].float()


def generate() -> None:
    folder = fresh("ltx_pipeline")
    parts = components()
    (folder / "cases.json").write_text(json.dumps(dict(scheduler=SCHEDULER, cases=CASES), indent=2) + "\n")
    for number, (name, case) in enumerate(CASES.items()):
        scheduler = FlowMatchEulerDiscreteScheduler.from_config({k: v for k, v in SCHEDULER.items() if k != "_class_name"})
        pipeline = (LTXImageToVideoPipeline if case["image"] else LTXPipeline)(scheduler=scheduler, **parts)
        pipeline.set_progress_bar_config(disable=True)
        gen = generator(165 + number)
        noise = normal(gen, *LATENTS)
        given, more, start = dict(latents=noise), {}, noise.clone()
        if case["image"]:
            colours = torch.randint(0, 256, (SIZE["height"], SIZE["width"], 4), generator=gen, dtype=torch.uint8)
            colours[:, :, 3] = 255
            given["image"] = colours
            # Latents that are given are taken as they are, whatever the image.
            start[:, :, :1] = first_latents(parts["vae"], colours)
            more = dict(image=torch.zeros(1, 3, SIZE["height"], SIZE["width"]))
        for sign, prompt in (("", case["prompt"]), ("negative_", case["negative"])):
            more[f"{sign}prompt_embeds"], more[f"{sign}prompt_attention_mask"] = states(parts, prompt)
        found = pipeline(num_inference_steps=case["steps"], guidance_scale=case["guidance"], latents=tokens(start),
                         output_type="latent", **more, **SIZE).frames
        if found.dim() == 3:
            found = found.transpose(1, 2).reshape(LATENTS)
        save_case(folder, name, given, dict(latents=found))

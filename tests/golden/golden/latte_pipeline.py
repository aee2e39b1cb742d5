"""LattePipeline from prompt to latents and frames: negative prompts shorter and longer than the prompt, and none.

The tokenizer, the transformer and the autoencoder are those of other fixtures; what is new is small."""

import json

import torch
from diffusers import DDIMScheduler, LattePipeline
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters
from .kl_vae import build as autoencoder
from .latte_transformer import build as transformer

SIZE = dict(height=16, width=24, video_length=3)
LATENTS = (1, 4, 3, 4, 6)
DDIM = dict(_class_name="DDIMScheduler", num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear",
            clip_sample=False)

CASES = {
    "short_negative": dict(scheduler=DDIM, steps=4, guidance=7.5, prompt=" A Rocket flying over the ocean at sunset", negative=""),
    "long_negative": dict(scheduler=DDIM, steps=3, guidance=4.0, prompt="a cat", negative="Blurred, grainy, with captions"),
    "unguided": dict(scheduler=DDIM | dict(timestep_spacing="trailing"), steps=3, guidance=1.0, prompt="a sleeping cat", negative=""),
}


def text_encoder() -> T5EncoderModel:
    model = T5EncoderModel(T5Config(vocab_size=560, d_model=10, d_kv=6, d_ff=24, num_layers=2, num_heads=2,
                                    feed_forward_proj="gated-gelu"))
    seed_parameters(model, 1420, torch.float16)
    return model


def generate() -> None:
    folder = fresh("latte_pipeline")
    encoder = text_encoder()
    save_model(encoder, fresh("latte_pipeline", "text_encoder"), torch.float16)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    (folder / "cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    for number, (name, case) in enumerate(CASES.items()):
        scheduler = DDIMScheduler.from_config({k: v for k, v in case["scheduler"].items() if k != "_class_name"})
        pipeline = LattePipeline(tokenizer=tokenizer, text_encoder=encoder.float(), vae=autoencoder("small").float(),
                                 scheduler=scheduler, transformer=transformer("small").float())
        pipeline.set_progress_bar_config(disable=True)
        noise = normal(generator(1450 + number), *LATENTS)
        found = pipeline(prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
                         guidance_scale=case["guidance"], latents=noise, output_type="latent", clean_caption=False, **SIZE).frames
        with torch.no_grad():
            frames = pipeline.decode_latents(found, SIZE["video_length"])
        save_case(folder, name, dict(latents=noise), dict(latents=found, frames=frames))

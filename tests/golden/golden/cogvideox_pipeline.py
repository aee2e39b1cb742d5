"""CogVideoXPipeline from prompt to latents: fixed and rotary positions, with and without guidance.

The tokenizer and the autoencoder are those of other fixtures; what is new is small."""

import json

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from .cogvideox_vae import build as autoencoder
from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters

SIZE = dict(height=16, width=24, num_frames=9)
LATENTS = (1, 3, 5, 4, 6)
DDIM = dict(_class_name="CogVideoXDDIMScheduler", num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012,
            beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True,
            timestep_spacing="trailing", clip_sample=False)
PROMPT = "A rocket flying over the ocean at sunset, cinematic lighting"
TOKENS = 24

CASES = {
    "sincos": dict(transformer="transformer", scheduler=DDIM | dict(snr_shift_scale=3.0), steps=4, guidance=6.0, prompt=PROMPT,
                   negative="blurred"),
    "rotary": dict(transformer="transformer_rotary", scheduler=DDIM | dict(snr_shift_scale=1.0), steps=5, guidance=6.0,
                   prompt=PROMPT, negative=""),
    "unguided": dict(transformer="transformer", scheduler=DDIM | dict(snr_shift_scale=3.0), steps=3, guidance=1.0,
                     prompt="a sleeping cat", negative=""),
}


def transformer(seed: int, rotary: bool) -> CogVideoXTransformer3DModel:
    model = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=5, out_channels=5,
                                        time_embed_dim=12, text_embed_dim=16, num_layers=1, sample_width=8, sample_height=4,
                                        sample_frames=9, max_text_seq_length=TOKENS,
                                        use_rotary_positional_embeddings=rotary)
    seed_parameters(model, seed, torch.float16)
    return model


def text_encoder() -> T5EncoderModel:
    model = T5EncoderModel(T5Config(vocab_size=560, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                                    feed_forward_proj="gated-gelu"))
    seed_parameters(model, 1120, torch.float16)
    return model


def generate() -> None:
    folder = fresh("cogvideox_pipeline")
    models = dict(transformer=transformer(1100, False), transformer_rotary=transformer(1101, True))
    encoder = text_encoder()
    for name, model in (models | dict(text_encoder=encoder)).items():
        save_model(model, fresh("cogvideox_pipeline", name), torch.float16)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    vae = autoencoder("small").float()
    (folder / "cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    for number, (name, case) in enumerate(CASES.items()):
        scheduler = CogVideoXDDIMScheduler.from_config({k: v for k, v in case["scheduler"].items() if k != "_class_name"})
        pipeline = CogVideoXPipeline(tokenizer=tokenizer, text_encoder=encoder.float(), vae=vae, scheduler=scheduler,
                                     transformer=models[case["transformer"]].float())
        pipeline.set_progress_bar_config(disable=True)
        noise = normal(generator(1150 + number), *LATENTS)
        found = pipeline(prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
                         guidance_scale=case["guidance"], latents=noise, output_type="latent", max_sequence_length=TOKENS,
                         **SIZE).frames
        frames = pipeline.decode_latents(found)
        save_case(folder, name, dict(latents=noise), dict(latents=found, frames=frames))

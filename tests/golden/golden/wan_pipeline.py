"""WanPipeline from prompt to latents: one transformer and two, both schedulers, a timestep per clip and per token.

The tokenizer and the autoencoder are those of other fixtures; what is new is small."""

import json

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters
from .wan_vae import build as autoencoder

SIZE = dict(height=16, width=32, num_frames=9)
LATENTS = (1, 6, 3, 2, 4)
UNIPC = dict(_class_name="UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
EULER = dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=3.0)
PROMPT = "A rocket flying over the ocean at sunset, cinematic lighting"

CASES = {
    "euler": dict(scheduler=EULER, steps=3, guidance=5.0, prompt=f"  {PROMPT}\n", negative="blurred,  in the &amp; rain"),
    "unipc": dict(scheduler=UNIPC, steps=5, guidance=5.0, prompt=PROMPT, negative=""),
    "unguided": dict(scheduler=UNIPC, steps=4, guidance=1.0, prompt="a sleeping cat", negative=""),
    "experts": dict(scheduler=UNIPC | dict(flow_shift=5.0), steps=6, guidance=4.0, prompt=PROMPT, negative="melting",
                    boundary_ratio=0.875),
    "per_token": dict(scheduler=EULER | dict(shift=5.0), steps=3, guidance=5.0, prompt=PROMPT, negative="",
                      expand_timesteps=True),
}


def transformer(seed: int) -> WanTransformer3DModel:
    model = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, in_channels=6, out_channels=6, text_dim=16,
                                  freq_dim=256, ffn_dim=32, num_layers=1)
    seed_parameters(model, seed, torch.float16)
    return model


def text_encoder() -> UMT5EncoderModel:
    model = UMT5EncoderModel(UMT5Config(vocab_size=560, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                                        feed_forward_proj="gated-gelu"))
    seed_parameters(model, 820, torch.float16)
    return model


def scheduler(config: dict):
    classes = dict(UniPCMultistepScheduler=UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler=FlowMatchEulerDiscreteScheduler)
    return classes[config["_class_name"]].from_config({k: v for k, v in config.items() if k != "_class_name"})


def generate() -> None:
    folder = fresh("wan_pipeline")
    experts = [transformer(800), transformer(801)]
    encoder = text_encoder()
    for name, model in (("transformer", experts[0]), ("transformer_2", experts[1]), ("text_encoder", encoder)):
        save_model(model, fresh("wan_pipeline", name), torch.float16)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    vae = autoencoder("v21").float()
    (folder / "cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    for number, (name, case) in enumerate(CASES.items()):
        two = "boundary_ratio" in case
        pipeline = WanPipeline(
            tokenizer=tokenizer, text_encoder=encoder.float(), vae=vae, scheduler=scheduler(case["scheduler"]),
            transformer=experts[0].float(), transformer_2=experts[1].float() if two else None,
            boundary_ratio=case.get("boundary_ratio"), expand_timesteps=case.get("expand_timesteps", False))
        pipeline.set_progress_bar_config(disable=True)
        noise = normal(generator(850 + number), *LATENTS)
        found = pipeline(prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
                         guidance_scale=case["guidance"], latents=noise, output_type="latent", **SIZE).frames
        if two:
            levels = pipeline.scheduler.timesteps
            split = sum(level >= 875 for level in levels)
            if not 0 < split < len(levels):
                raise ValueError("one of the experts has nothing to do")
        save_case(folder, name, dict(latents=noise), dict(latents=found))

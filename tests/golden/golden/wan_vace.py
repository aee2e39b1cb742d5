"""WanVACETransformer3DModel by itself, and WanVACEPipeline from prompt and clip to latents: text alone, an image at the first frame and at
both ends, a clip that goes on, a region that is painted.

The text encoder, the tokenizer and the autoencoder are those of other fixtures."""

import json

import torch
from diffusers import WanVACEPipeline, WanVACETransformer3DModel
from diffusers.pipelines.wan import pipeline_wan_vace
from PIL import Image
from transformers import PreTrainedTokenizerFast

from .common import ROOT, fresh, generator, normal, save_case, save_model, seed_parameters
from .ltx_two_pass import philox
from .wan_pipeline import EULER, PROMPT, UNIPC, scheduler, text_encoder
from .wan_vae import build as autoencoder

HEIGHT, WIDTH, FRAMES = 16, 32, 9
LATENTS = (1, 6, 3, 2, 4)

CASES = {
    "text": dict(scheduler=EULER, steps=3, guidance=4.0, prompt=PROMPT, negative="blurred", known=[], mask=False),
    "both_ends": dict(scheduler=UNIPC, steps=4, guidance=5.0, prompt=PROMPT, negative="", known=[0, 8], mask=False),
    "extend": dict(scheduler=UNIPC, steps=3, guidance=1.0, prompt="a sleeping cat", negative="", known=[0, 1, 2, 3, 4], mask=False),
    "region": dict(scheduler=EULER, steps=3, guidance=1.0, prompt=PROMPT, negative="", known=list(range(9)), mask=True),
    "scaled": dict(scheduler=UNIPC, steps=3, guidance=1.0, prompt=PROMPT, negative="", known=[0, 8], mask=False,
                   conditioning_scale=[0.5, 1.75]),
    # What is to appear, before the clip; the scale is the request's.
    "references": dict(scheduler=EULER, steps=3, guidance=3.0, prompt=PROMPT, negative="blurred", known=[0, 8], mask=False, references=2,
                       scale=0.7),
}
# The stream of the noise on the latent frames of references.
REFERENCES = 2**64 - 1 - 2**20


def transformer() -> WanVACETransformer3DModel:
    model = WanVACETransformer3DModel(num_attention_heads=2, attention_head_dim=12, in_channels=6, out_channels=6, text_dim=16,
                                      freq_dim=256, ffn_dim=32, num_layers=3, vace_layers=[0, 2], vace_in_channels=2 * 6 + 64)
    seed_parameters(model, 900, torch.float16)
    return model


def alone(model: WanVACETransformer3DModel, folder) -> None:
    """The class itself, over odd extents."""
    gen = generator(901)
    given = dict(hidden_states=normal(gen, 2, 6, 3, 2, 6), encoder_hidden_states=normal(gen, 2, 5, 16),
                 timestep=torch.tensor([731.25, 250.0]), control_hidden_states=normal(gen, 2, 76, 3, 2, 6))
    with torch.no_grad():
        sample = model(**{name: value.double() for name, value in given.items()}).sample
    save_case(folder, "batch2", given, dict(sample=sample))
    given["control_hidden_states_scale"] = torch.tensor([0.5, 1.75])
    with torch.no_grad():
        sample = model(**{name: value.double() for name, value in given.items()}).sample
    save_case(folder, "scaled", given, dict(sample=sample))


def bytes_of(gen, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=gen, dtype=torch.uint8)


def generate() -> None:
    # Unlike the class for text it fails without that package, which changes nothing of these prompts.
    pipeline_wan_vace.ftfy = type("Identity", (), dict(fix_text=staticmethod(lambda text: text)))
    model = transformer()
    save_model(model, fresh("wan_vace", "transformer"), torch.float16)
    alone(model, ROOT / "wan_vace" / "transformer")
    folder = fresh("wan_vace_pipeline")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    encoder, vae = text_encoder().float(), autoencoder("v21").float()
    (folder / "cases.json").write_text(json.dumps(CASES, indent=2) + "\n")
    gen = generator(910)
    colours = bytes_of(gen, FRAMES, HEIGHT, WIDTH, 3)
    painted = (bytes_of(gen, FRAMES, HEIGHT, WIDTH) >= 128).to(torch.uint8) * 255
    clip = torch.cat([colours, torch.full((FRAMES, HEIGHT, WIDTH, 1), 255, dtype=torch.uint8)], dim=3)
    for number, (name, case) in enumerate(CASES.items()):
        pipeline = WanVACEPipeline(tokenizer=tokenizer, text_encoder=encoder, vae=vae, scheduler=scheduler(case["scheduler"]),
                                   transformer=model.float())
        pipeline.set_progress_bar_config(disable=True)
        video = torch.zeros(FRAMES, 3, HEIGHT, WIDTH)
        mask = torch.ones(FRAMES, 3, HEIGHT, WIDTH)
        for frame in case["known"]:
            video[frame] = colours[frame].permute(2, 0, 1).float() / 127.5 - 1
            mask[frame] = painted[frame].float() / 255 if case["mask"] else 0
        count = case.get("references", 0)
        references = [colours[2 + at].permute(2, 0, 1).float() / 127.5 - 1 for at in range(count)]
        # The pipeline takes pictures; what is not given is grey, which no byte is, so it is handed what it makes of them.
        pipeline.preprocess_conditions = lambda *_, video=video, mask=mask, references=references: (
            video.permute(1, 0, 2, 3)[None], mask.permute(1, 0, 2, 3)[None], [references])
        noise = normal(generator(920 + number), *LATENTS)
        lead = philox(0, REFERENCES, 6 * count * 2 * 4).reshape(1, 6, count, 2, 4)
        found = pipeline(prompt=case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
                         guidance_scale=case["guidance"], conditioning_scale=case.get("conditioning_scale", case.get("scale", 1.0)),
                         latents=torch.cat([lead, noise], dim=2), output_type="latent", height=HEIGHT, width=WIDTH,
                         num_frames=FRAMES, video=[Image.new("RGB", (WIDTH, HEIGHT))] * FRAMES).frames
        found = found[:, :, found.shape[2] - LATENTS[2]:]
        save_case(folder, name, dict(latents=noise, clip=clip, mask=painted), dict(latents=found))

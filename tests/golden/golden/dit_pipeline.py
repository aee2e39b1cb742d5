"""DiTPipeline from classes to latents and images, and the official loop: DDPM with the predicted variance, guidance on three channels.

Transformers and the autoencoder are those of other fixtures, the noise is Kinora's own, of as many seeds as there are images."""

import json
import math

import diffusers
import torch
from diffusers import DiTPipeline

from .common import fresh, save_case
from .dit_transformer import build as transformer
from .kl_vae import build as autoencoder
from .ltx_two_pass import philox

LINEAR = dict(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False)
DDIM = dict(_class_name="DDIMScheduler", **LINEAR)
DDPM = dict(_class_name="DDPMScheduler", **LINEAR, variance_type="learned_range", timestep_spacing="linspace")
LABELS = {"1": "goldfish, Carassius auratus", "3": "tiger shark", "8": "hen"}

CASES = {
    # Prompts name classes; several are made side by side.
    "ddim": dict(transformer="small", scheduler=DDIM, steps=4, guidance=4.0, channels=4, prompts=["carassius auratus", "3", "hen"]),
    "dpm": dict(transformer="small", scheduler=dict(_class_name="DPMSolverMultistepScheduler", **LINEAR), steps=3, guidance=1.5, channels=4,
                prompts=["Goldfish"]),
    "unguided": dict(transformer="small", scheduler=DDIM | dict(timestep_spacing="trailing"), steps=3, guidance=1.0, channels=4,
                     prompts=["207"]),
    "official": dict(transformer="official", scheduler=DDPM, steps=4, guidance=4.0, channels=3, prompts=["tiger shark", "5"]),
    "power": dict(transformer="official", scheduler=DDPM, steps=4, guidance=6.0, power=4.0, channels=3, prompts=["7"]),
    "all_channels": dict(transformer="official", scheduler=DDPM, steps=3, guidance=4.0, channels=4, prompts=["hen"]),
}


def class_of(prompt: str) -> int:
    names = {name.strip().lower(): int(number) for number, label in LABELS.items() for name in label.split(",")}
    return names.get(prompt.lower()) if prompt.lower() in names else int(prompt)


def of_config(config: dict):
    return getattr(diffusers, config["_class_name"]).from_config({k: v for k, v in config.items() if k != "_class_name"})


def official_loop(model, scheduler, case: dict, noise, classes, fresh_noise):
    """p_sample_loop of guided diffusion over a respaced schedule: x₀ is not clipped, the variance lies between two bounds."""
    scheduler.set_timesteps(case["steps"])
    none, channels, x = torch.full_like(classes, model.y_embedder["embedding_table"].num_embeddings - 1), case["channels"], noise
    for step, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            out = model(torch.cat([x, x]), t.repeat(2 * len(x)), torch.cat([classes, none]))
        given, free = out.chunk(2)
        # arXiv 2303.14389: from 1 at the first timestep of training to all of it at the last.
        share = (1 - math.cos(math.pi * (1 - t.item() / 1000) ** case["power"])) / 2 if "power" in case else 1
        guided = free[:, :channels] + (1 + (case["guidance"] - 1) * share) * (given[:, :channels] - free[:, :channels])
        x = learned_range_step(scheduler, torch.cat([guided, given[:, channels:]], dim=1), t, x, fresh_noise(step))
    return x


def learned_range_step(scheduler, output, t, x, noise):
    """arXiv 2102.09672, equations 11 and 15, in double precision."""
    products = scheduler.alphas_cumprod.double()
    after = scheduler.previous_timestep(t)
    now, then = products[t], products[after] if after >= 0 else torch.tensor(1.0).double()
    eps, share = output.chunk(2, dim=1)
    beta = 1 - now / then
    clean = (x - (1 - now).sqrt() * eps) / now.sqrt()
    mean = then.sqrt() * beta / (1 - now) * clean + (now / then).sqrt() * (1 - then) / (1 - now) * x
    if t == 0:
        return mean
    low, high = torch.log((1 - then) / (1 - now) * beta), torch.log(beta)
    share = (share + 1) / 2
    return mean + torch.exp(0.5 * (share * high + (1 - share) * low)) * noise


def of_tokens(tokens, patch: int = 2, edge: int = 8):
    """Noise that Kinora adds to tokens, whose features are in the order (channel, row, column)."""
    rows = edge // patch
    return torch.einsum("hwcpq->chpwq", tokens.reshape(rows, rows, -1, patch, patch)).reshape(-1, edge, edge)


def generate() -> None:
    folder = fresh("dit_pipeline")
    (folder / "cases.json").write_text(json.dumps(dict(id2label=LABELS, cases=CASES), indent=2) + "\n")
    vae = autoencoder("small")
    for name, case in CASES.items():
        classes = torch.tensor([class_of(prompt) for prompt in case["prompts"]])
        seeds, size = range(len(classes)), (4, 8, 8)
        noise = torch.stack([philox(seed, 0, 256).reshape(size) for seed in seeds])
        scheduler = of_config(case["scheduler"])
        if case["transformer"] == "official":
            fresh_noise = lambda step: torch.stack([of_tokens(philox(seed, 1 << 32 | step, 256)) for seed in seeds]).double()  # noqa: E731
            latents = official_loop(transformer("official"), scheduler, case, noise.double(), classes, fresh_noise)
        else:
            latents = from_pipeline(scheduler, case, noise, classes)
        with torch.no_grad():
            images = vae.double().decode(latents.double() / vae.config.scaling_factor).sample
        save_case(folder, name, {}, dict(latents=latents, images=images))
        (folder / f"inputs_{name}.safetensors").unlink()


def from_pipeline(scheduler, case: dict, noise, classes):
    """The latents that DiTPipeline decodes."""
    kept, vae = {}, autoencoder("small").float()
    pipeline = DiTPipeline(transformer=transformer(case["transformer"]).float(), vae=vae, scheduler=scheduler)
    decode = vae.decode
    vae.decode = lambda latents: kept.update(latents=latents * vae.config.scaling_factor) or decode(latents)
    pipeline.set_progress_bar_config(disable=True)
    module = __import__("diffusers.pipelines.dit.pipeline_dit", fromlist=["randn_tensor"])
    original, module.randn_tensor = module.randn_tensor, lambda **_: noise
    try:
        pipeline(class_labels=classes.tolist(), guidance_scale=case["guidance"], num_inference_steps=case["steps"], output_type="pt")
    finally:
        module.randn_tensor = original
    return kept["latents"]

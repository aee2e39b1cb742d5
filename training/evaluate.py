"""Measures an exported model and writes `evaluation.json`: first seeds, nothing left out.

Objects are recognised by `classifier.py`, which never saw a generated clip. Every case is
deterministic: prompts follow from the vocabulary, the seed of a clip is its place in the list.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from PIL import Image

from . import cascade, cascade_fit, classifier, measures
from . import vae as vae_stage
from .captions import OBJECTS, held_out, plain_prompt, prompt, unseen_synonyms
from .pairs import Pairs
from .config import COLORS, FRAMES
from .data import Clips, contact_sheet
from .dit import SHEET
from .latents import decode, normalised
from .quantise import load_model
from .sampler import initial_noise, sample
from .text import TextEncoder

BATCH = 16
SEEDS = 2  # per prompt, for trained and held-out pairs
SEAM_CLIPS = 40
FEW_STEPS = 4
ENDS, BOTH = (0, 4), (0, 1, 3, 4)  # latent frames given where the middle is filled in


class Pipeline:
    """The exported model, in bf16 arithmetic."""

    def __init__(self, folder: Path):
        self.info = json.loads((folder / "model_index.json").read_text())["kinora"]
        names = json.loads((folder / "vocabulary.json").read_text())["objects"]
        names = {one["name"] for one in names}
        self.objects = [code for code, thing in OBJECTS.items() if thing.name in names]
        self.model = load_model(LTXVideoTransformer3DModel, folder / "transformer")
        self.vae = load_model(AutoencoderKLLTXVideo, folder / "vae")
        self.encoder = TextEncoder(folder)

    def latents(self, prompts, seeds, given=None, keep=None, steps=None, guidance=None):
        """Normalised latents [N, 32, 5, 8, 8]; `given` and `keep` as `sample` takes them."""
        steps = steps or self.info["default_steps"]
        guidance = self.info["default_guidance"] if guidance is None else guidance
        out, empty = [], self.encoder([""])
        for at in range(0, len(prompts), BATCH):
            part = slice(at, at + BATCH)
            text, mask = self.encoder(prompts[part])
            noise = torch.cat([initial_noise(s) for s in seeds[part]])
            known = None if given is None else given[part]
            states = sample(self.model, noise, text, mask, empty, steps, guidance, known, keep)
            out.append(states[-1])
        return torch.cat(out)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """[N, 3, 17, 128, 128] in about [-1, 1]."""
        return decode(self.vae, z, self.vae.latents_mean, self.vae.latents_std)

    @torch.no_grad()
    def encode(self, videos: list[torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            z = torch.cat([vae_stage.encode(self.vae, video[None]) for video in videos]).float()
        return normalised(z, self.vae.latents_mean, self.vae.latents_std)

    def __call__(self, prompts: list[str], seeds: list[int], **options) -> torch.Tensor:
        return self.decode(self.latents(prompts, seeds, **options))


def pairs(objects: list[str], trained: bool) -> list[tuple[str, str]]:
    """One trained colour for every object, or one held out for those that have any."""
    out = []
    for k, code in enumerate(objects):
        colors = [c for c in COLORS if held_out(code, c) != trained]
        out += [(code, colors[k % len(colors)])] if colors else []
    return out


def text_to_video(pipeline: Pipeline, judge, work: Path, result: dict) -> None:
    """Recognition, background and motion for pairs that were trained and that were not."""
    seen = pairs(pipeline.objects, trained=True)
    real = [judge.clips.window(judge.clips.by_code[o], 6, FRAMES, COLORS[c]) for o, c in seen]
    result["real_clips_shifted"] = measures.summary(judge.cases(seen, real))
    for name in ("trained_pairs", "held_out_pairs"):
        cases = pairs(pipeline.objects, name == "trained_pairs")
        prompts, measured = [prompt(*case) for case in cases], []
        for seed in range(SEEDS):
            videos = pipeline(prompts, [1000 * seed + k for k in range(len(cases))])
            measured += judge.cases(cases, videos)
            sheet = contact_sheet(list(zip(prompts, videos)), columns=2)
            sheet.save(work / f"evaluation-{name}-{seed}.png")
        result[name] = measures.summary(measured)
        print(name, result[name], flush=True)
    prompts = [prompt(*case) for case in seen]
    videos = pipeline(prompts, list(range(len(seen))), steps=FEW_STEPS)
    result[f"trained_pairs_in_{FEW_STEPS}_steps"] = measures.summary(judge.cases(seen, videos))


def synonyms(pipeline: Pipeline, judge, work: Path, result: dict) -> None:
    """Names that no training prompt contains."""
    known = [(code, word) for code, word in unseen_synonyms() if code in pipeline.objects]
    cases = [(code, list(COLORS)[k % len(COLORS)]) for k, (code, _) in enumerate(known)]
    prompts = [plain_prompt(word, color) for (_, word), (_, color) in zip(known, cases)]
    videos = pipeline(prompts, list(range(len(prompts))))
    result["unseen_synonyms"] = measures.summary(judge.cases(cases, videos), motion=False)
    contact_sheet(list(zip(prompts, videos)), columns=2).save(work / "evaluation-synonyms.png")
    print("unseen_synonyms", result["unseen_synonyms"], flush=True)


def image_to_video(pipeline: Pipeline, clips: Clips, work: Path, result: dict) -> None:
    """First frames of clips that neither model trained on: is the next latent frame nearer to the
    real one than the first frame repeated?"""
    colors = list(COLORS)
    cases = [(clip, colors[k % len(colors)]) for k, clip in enumerate(clips.test)]
    videos = [clips.window(clip, 0, FRAMES, COLORS[color]) for clip, color in cases]
    prompts = [plain_prompt(clip["name"], color) for clip, color in cases]
    real = pipeline.encode(videos)
    still = pipeline.encode([video[:, :1].expand_as(video) for video in videos])
    keep = torch.arange(real.shape[2]) == 0
    made = pipeline.latents(prompts, list(range(len(cases))), real, keep)
    gain = measures.gain_db(made[:, :, 1], still[:, :, 1], real[:, :, 1])
    result["image_to_video_held_out"] = {
        "count": len(cases),
        "gain_of_1_db_over_repeating": round(float((gain >= 1).float().mean()), 3),
        "median_gain_db": round(float(gain.median()), 2),
    }
    rows = []
    for i in range(16):
        rows += [(prompts[i], videos[i]), ("", pipeline.decode(made[i : i + 1])[0])]
    contact_sheet(rows, columns=2).save(work / "evaluation-image-to-video.png")
    print("image_to_video", result["image_to_video_held_out"], flush=True)


def seams(pipeline: Pipeline, clips: Clips, result: dict) -> None:
    """Filling in between given ends: the step across a seam against the clip's median step."""
    cases = pairs(pipeline.objects, trained=True)[:SEAM_CLIPS]
    videos = [clips.window(clips.by_code[o], 0, FRAMES, COLORS[c]) for o, c in cases]
    real, prompts = pipeline.encode(videos), [prompt(*case) for case in cases]
    decoded = pipeline.decode(real)
    for name, given in (("first_and_last", ENDS), ("prefix_and_suffix", BOTH)):
        keep = torch.zeros(real.shape[2], dtype=torch.bool)
        keep[list(given)] = True
        filled = pipeline(prompts, list(range(len(cases))), given=real, keep=keep)
        result[name] = {
            "count": len(cases),
            "seam_up_to_1.5x_median_step": measures.smooth_share(filled, keep),
            "same_for_the_autoencoded_clips": measures.smooth_share(decoded, keep),
        }
        print(name, result[name], flush=True)


def stages(work: Path, folder: Path) -> dict:
    """The exported stages of the cascade on the held-out clips."""
    pairs = Pairs(work)
    return {name: cascade_fit.measure(cascade.load(folder / name), pairs) for name in ("upscale", "interpolate")}


def main(work: Path, folder: Path) -> None:
    clips, pipeline = Clips(work), Pipeline(folder)
    net, own = classifier.load(work, clips)
    judge = measures.Judge(clips, net)
    result = dict(steps=pipeline.info["default_steps"], guidance=pipeline.info["default_guidance"])
    result |= dict(objects=len(pipeline.objects), classifier_own_top1=round(own, 3))
    print(result, flush=True)
    text_to_video(pipeline, judge, work, result)
    synonyms(pipeline, judge, work, result)
    image_to_video(pipeline, clips, work, result)
    seams(pipeline, clips, result)
    prompts = [prompt(*case) for case in SHEET]
    sheet = contact_sheet(list(zip(prompts, pipeline(prompts, list(range(len(prompts)))))))
    sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.LANCZOS).save(
        work / "contact-sheet.png", optimize=True
    )
    vae_stage.convolution.install(pipeline.vae)
    psnr, flicker, _ = vae_stage.evaluate(pipeline.vae, clips)
    result["vae"] = dict(psnr_db=round(psnr, 2), flicker_255=round(flicker, 3), held_out_names=60)
    result["cascade"] = stages(work, folder)
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))

"""Measures the exported model: every object once, first seeds, nothing left out.

Recognition is by nearest real clip, not by a trained classifier: five frames of the generated clip
and all frames of the real clips (every object, on the asked background) are averaged to 32x32
pixels; the object whose frames are nearest wins. The same measure on real clips, half a second
later than the model was trained on, tests the measure itself (`real_clips_shifted`).
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from PIL import Image

from . import vae as vae_stage
from .captions import TRAINED, held_out, prompt
from .config import COLORS, FRAMES
from .data import Clips, contact_sheet
from .dit import SHEET
from .latents import decode
from .sampler import initial_noise, sample
from .text import TextEncoder

BATCH = 16


class Pipeline:
    """The exported model, in bf16 arithmetic."""

    def __init__(self, folder: Path):
        self.info = json.loads((folder / "model_index.json").read_text())["kinora"]
        model = LTXVideoTransformer3DModel.from_pretrained(folder / "transformer")
        self.model = model.float().eval()
        self.vae = AutoencoderKLLTXVideo.from_pretrained(folder / "vae").float().eval()
        self.encoder = TextEncoder(folder)

    def __call__(self, prompts: list[str], seeds: list[int], steps=None, guidance=None):
        """[N, 3, 17, 128, 128] in about [-1, 1]."""
        steps = steps or self.info["default_steps"]
        guidance = self.info["default_guidance"] if guidance is None else guidance
        out, empty = [], self.encoder([""])
        for at in range(0, len(prompts), BATCH):
            text, mask = self.encoder(prompts[at : at + BATCH])
            noise = torch.cat([initial_noise(s) for s in seeds[at : at + BATCH]])
            z = sample(self.model, noise, text, mask, empty, steps, guidance)[-1]
            out.append(decode(self.vae, z, self.vae.latents_mean, self.vae.latents_std))
        return torch.cat(out)


def _small(frames: torch.Tensor) -> torch.Tensor:
    """[3, F, H, W] to [F, 3 * 32 * 32]."""
    return F.avg_pool2d(frames.clamp(-1, 1).transpose(0, 1), 4).flatten(1)


@functools.cache
def _real(clips: Clips, code: str, color: tuple) -> torch.Tensor:
    return _small(clips.window(clips.by_code[code], 0, FRAMES, color))


def ranks(clips: Clips, video: torch.Tensor, color: tuple) -> list[str]:
    """Codes of all objects, the most similar first."""
    frames = _small(video)[:: video.shape[1] // 4]
    distance = {
        code: torch.cdist(frames, _real(clips, code, color)).min(1).values.mean().item()
        for code in TRAINED
    }
    return sorted(distance, key=distance.get)


def _border(video: torch.Tensor) -> str:
    """The named colour nearest to the median of the corners."""
    corner = torch.cat([video[..., :5, :5], video[..., :5, -5:]], -1).flatten(1).median(1).values
    rgb = (corner.clamp(-1, 1) + 1) * 127.5
    return min(COLORS, key=lambda name: (rgb - torch.tensor(COLORS[name])).square().sum().item())


def _motion(video: torch.Tensor) -> float:
    return float(video.clamp(-1, 1).diff(dim=1).abs().mean())


def measure(clips: Clips, cases: list[tuple[str, str]], videos) -> dict:
    """Shares over the cases (object, colour) and their videos."""
    top1, top5, color_right, lively = [], [], [], []
    for (code, color), video in zip(cases, videos):
        order = ranks(clips, video, COLORS[color])
        top1.append(order[0] == code)
        top5.append(code in order[:5])
        color_right.append(_border(video) == color)
        real = clips.window(clips.by_code[code], 0, FRAMES, COLORS[color])
        lively.append(0.5 <= _motion(video) / max(_motion(real), 1e-4) <= 2)
    names = ("top1", "top5", "background", "motion_within_0.5_to_2x")
    lists = (top1, top5, color_right, lively)
    return dict(count=len(cases)) | {n: round(float(np.mean(v)), 3) for n, v in zip(names, lists)}


def main(work: Path, folder: Path) -> None:
    clips, pipeline = Clips(work), Pipeline(folder)
    colors = list(COLORS)
    seen, unseen = [], []
    for k, code in enumerate(TRAINED):
        trained = [c for c in colors if not held_out(code, c)]
        seen.append((code, trained[k % len(trained)]))
        unseen += [(code, c) for c in colors if held_out(code, c)][:1]
    result = dict(steps=pipeline.info["default_steps"], guidance=pipeline.info["default_guidance"])
    real = [clips.window(clips.by_code[o], 6, FRAMES, COLORS[c]) for o, c in seen]
    result["real_clips_shifted"] = measure(clips, seen, real)
    for name, cases in (("trained_pairs", seen), ("held_out_pairs", unseen)):
        prompts = [prompt(*case) for case in cases]
        videos = pipeline(prompts, list(range(len(cases))))
        result[name] = measure(clips, cases, videos)
        sheet = contact_sheet(list(zip(prompts, videos)), columns=2)
        sheet.save(work / f"evaluation-{name}.png")
        print(name, result[name], flush=True)
    prompts = [prompt(*case) for case in SHEET]
    sheet = contact_sheet(list(zip(prompts, pipeline(prompts, list(range(len(prompts)))))))
    sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.LANCZOS).save(
        work / "contact-sheet.png", optimize=True
    )
    vae_stage.convolution.install(pipeline.vae)
    psnr, flicker, _ = vae_stage.evaluate(pipeline.vae, clips)
    result["vae"] = dict(psnr_db=round(psnr, 2), flicker_255=round(flicker, 3), held_out_names=60)
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))

"""What each stage of the published models takes, by `kinora plan`: `python true_size_plans.py KINORA [NAME ...]`.

Their folders are put together from the tensors and configurations of `true_size/`, with weights that are holes in their files and
occupy no disk; only Python's standard library is needed. Prints rows for docs/models.md. Weights are f16, all of them on the device."""

import json
import re
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FLOW = dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=3.0)
DDIM = dict(_class_name="DDIMScheduler", beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
            timestep_spacing="trailing")
LATTE = dict(_class_name="DDIMScheduler", beta_schedule="linear", beta_start=0.0001, beta_end=0.02, prediction_type="epsilon",
             clip_sample=False)
LTX = dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=1.0)
UMT5, T5 = "umt5-xxl", "t5-v1_1-xxl"
# Class, transformer, autoencoder, text encoder, scheduler, size and length, guidance, what else.
MODELS = {
    "Wan 2.1 1.3B": ("WanPipeline", "wan2.1-t2v-1.3b", "wan2.1-vae", UMT5, FLOW, "832x480", 81, 5, {}),
    "Self-Forcing 1.3B": ("WanPipeline", "wan2.1-t2v-1.3b", "wan2.1-vae", UMT5, FLOW, "832x480", 81, 1, dict(causal=dict(block_frames=3))),
    "Wan 2.1 VACE 1.3B": ("WanVACEPipeline", "wan2.1-vace-1.3b", "wan2.1-vae", UMT5, FLOW, "832x480", 81, 5, {}),
    "Wan 2.2 TI2V 5B": ("WanPipeline", "wan2.2-ti2v-5b", "wan2.2-vae", UMT5, FLOW, "1280x704", 121, 5, dict(expand_timesteps=True)),
    "LTX-Video 2B 0.9.8": ("LTXConditionPipeline", "ltx-2b-transformer", "ltx-vae-0.9.8", T5, LTX, "704x512", 161, 1, {}),
    "CogVideoX 2B": ("CogVideoXPipeline", "cogvideox-2b-transformer", "cogvideox-vae", T5, DDIM, "720x480", 49, 6, {}),
    "CogVideoX 5B": ("CogVideoXPipeline", "cogvideox-5b-transformer", "cogvideox-vae", T5, DDIM, "720x480", 49, 6, {}),
    "Latte": ("LattePipeline", "latte-1-transformer", "sd-vae-ft-mse", T5, LATTE, "512x512", 16, 7.5, {}),
}


def tensors(name: str) -> dict:
    """`{0..2}` in a name stands for three."""
    found = {}
    for line in (ROOT / "true_size" / name / "tensors.txt").read_text().splitlines():
        key, shape = line.split(" ", 1)
        span = re.search(r"\{(\d+)\.\.(\d+)\}", key)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
        for number in numbers:
            found[key if number is None else key.replace(span[0], str(number))] = json.loads(shape)
    return found


def component(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text((ROOT / "true_size" / name / "config.json").read_text())
    header, end = {}, 0
    for key, shape in tensors(name).items():
        header[key] = dict(dtype="F16", shape=shape, data_offsets=[end, end + 2 * prod(shape)])
        end += 2 * prod(shape)
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def main() -> None:
    kinora, wanted = sys.argv[1], sys.argv[2:] or list(MODELS)
    for name in wanted:
        pipeline, transformer, vae, text, scheduler, size, frames, guidance, more = MODELS[name]
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            for part, source in dict(transformer=transformer, vae=vae, text_encoder=text).items():
                component(folder / part, source)
            causal = more.pop("causal", None)
            if causal:
                path = folder / "transformer/config.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | dict(kinora=dict(causal=causal))))
            (folder / "scheduler").mkdir()
            (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
            (folder / "tokenizer").mkdir()
            (folder / "tokenizer/tokenizer.json").write_text((ROOT / "tokenizer/unigram.json").read_text())
            index = dict(_class_name=pipeline, transformer=["diffusers", "any"], **more)
            (folder / "model_index.json").write_text(json.dumps(index))
            command = [kinora, "plan", "a fox in the snow", "--model", work, "--size", size, "--frames", str(frames), "--guidance",
                       str(guidance), "--dtype", "f16", "--json"]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"| {name} | {size}, {frames} frames | {done.stderr.strip()} |", flush=True)
            continue
        stages = json.loads(done.stdout)["stages"]
        cell = {stage["name"]: f"{stage['weightBytes'] / 1e9:.2f} + {stage['activationBytes'] / 1e9:.2f} GB" for stage in stages}
        cells = [cell.get(stage, "") for stage in ("text encoder", "denoiser", "decoder")]
        print(f"| {name} | {size}, {frames} frames | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

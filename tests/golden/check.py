"""Loads every committed model with PyTorch in float32 and compares it with the committed results.

    python check.py

Proves that weights, configs and results on disk belong together, and prints the error that
float32 alone costs (normalised mean squared error), the yardstick for Kinora's tolerances.
"""

import json
import sys

import diffusers
import torch
import transformers
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from safetensors.torch import load_file

from golden import cogvideox_transformer, dit_transformer, mdt, uvit, wan_causal
from golden.common import ROOT, quiet

sys.path.insert(0, str(ROOT.parent.parent))
from training import cascade  # noqa: E402

CLASSES = {
    "ltx_transformer": diffusers.LTXVideoTransformer3DModel,
    "ltx_vae": diffusers.AutoencoderKLLTXVideo,
    "ltx_upsampler": LTXLatentUpsamplerModel,
    "wan_transformer": diffusers.WanTransformer3DModel,
    "wan_causal": diffusers.WanTransformer3DModel,
    "wan_any_flow": diffusers.AnyFlowTransformer3DModel,
    "wan_vace": diffusers.WanVACETransformer3DModel,
    "wan_vae": diffusers.AutoencoderKLWan,
    "cogvideox_transformer": diffusers.CogVideoXTransformer3DModel,
    "cogvideox_vae": diffusers.AutoencoderKLCogVideoX,
    "kl_vae": diffusers.AutoencoderKL,
    "latte_transformer": diffusers.LatteTransformer3DModel,
    "dit_transformer": diffusers.DiTTransformer2DModel,
    "t5": transformers.T5EncoderModel,
    "umt5": transformers.UMT5EncoderModel,
    "bert": transformers.BertModel,
    "clip_vision": transformers.CLIPVisionModel,
    "clip_text": transformers.CLIPTextModel,
    "uvit": None,
    "mdt": None,
    "diffit": None,
    "cascade": None,
}
# Of families that neither library has.
OWN = {"cascade": cascade.load, "uvit": uvit.load, "mdt": mdt.load, "diffit": mdt.load}


def run(family: str, folder, model, case: str, given: dict) -> dict:
    given = {k: v.float() if v.dtype == torch.float16 else v for k, v in given.items()}
    for name in ("num_frames", "height", "width"):
        if name in given:
            given[name] = int(given[name])
    if "rope_interpolation_scale" in given:
        given["rope_interpolation_scale"] = tuple(given["rope_interpolation_scale"].tolist())
    if family == "cascade":
        return dict(sample=model(**given))
    if family == "cogvideox_transformer":
        return dict(sample=cogvideox_transformer.forward(model, given))
    if family == "ltx_upsampler":
        return dict(sample=model(**given))
    if family == "wan_causal":
        double = wan_causal.evaluate(model.double(), json.loads((folder / "config.json").read_text())["kinora"]["causal"], given)
        return dict(sample=double.float())
    if family in ("dit_transformer", "uvit", "mdt", "diffit"):
        found = model(**given)
        return dict(sample=getattr(found, "sample", found))
    if family.endswith("transformer") or family in ("wan_vace", "wan_any_flow"):
        return dict(sample=model(**given).sample)
    if family.endswith("vae") and case.startswith("encode"):
        posterior = model.encode(**given).latent_dist
        return dict(mean=posterior.mean, logvar=posterior.logvar)
    if family.endswith("vae"):
        return dict(sample=model.decode(**given).sample)
    if family == "clip_vision":
        found = model(**given, output_hidden_states=True)
        return dict(penultimate=found.hidden_states[-2], last_hidden_state=found.last_hidden_state)
    return dict(last_hidden_state=model(**given).last_hidden_state)


def main() -> None:
    quiet()
    worst = 0.0
    # Here every layer is float32; to keep some so, the loader would want a package more.
    for cls in (diffusers.WanTransformer3DModel, diffusers.WanVACETransformer3DModel, diffusers.AnyFlowTransformer3DModel):
        cls._keep_in_fp32_modules = None
    for family, cls in CLASSES.items():
        root = ROOT / family
        for folder in [root] if (root / "config.json").exists() else sorted(root.iterdir()):
            extra = dict(add_pooling_layer=False) if family == "bert" else {}
            load = dit_transformer.load if folder.name == "official" else OWN.get(family)
            model = load(folder) if load else cls.from_pretrained(folder, **extra).float().eval()
            for file in sorted(folder.glob("inputs_*.safetensors")):
                case = file.stem.removeprefix("inputs_")
                if case.endswith("_rope"):
                    continue
                expected = load_file(folder / f"expected_{case}.safetensors")
                with torch.no_grad():
                    found = run(family, folder, model, case, load_file(file))
                for name, want in expected.items():
                    nmse = float((found[name] - want).square().sum() / want.square().sum())
                    worst = max(worst, nmse)
                    print(f"{nmse:.1e}  {family}/{folder.name} {case} {name} {list(want.shape)}")
    print(f"worst {worst:.1e}")
    if not worst < 1e-10:
        raise SystemExit("the fixtures and the models on disk disagree")


if __name__ == "__main__":
    main()

"""One tiny Wan in the files that people have: diffusers folders, ComfyUI's safetensors, GGUF, fp8 of both generations, adaptations.

Names of others are checked with the converters of diffusers and the name map of PyPI gguf, which share nothing with ours."""

import copy
import json
import re

import gguf
import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_ltx_transformer_checkpoint_to_diffusers,
    convert_ltx_vae_checkpoint_to_diffusers,
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from .common import ROOT, fresh, generator, normal, save_model, seed_parameters

PROMPT = "A rocket flying over the ocean at sunset"
LATENTS = (1, 16, 2, 2, 4)
FP8 = torch.float8_e4m3fn


def models():
    transformer = WanTransformer3DModel(num_attention_heads=1, attention_head_dim=32, in_channels=16, out_channels=16, text_dim=32,
                                        freq_dim=256, ffn_dim=64, num_layers=2)
    encoder = UMT5EncoderModel(UMT5Config(vocab_size=560, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
                                          feed_forward_proj="gated-gelu"))
    vae = AutoencoderKLWan(base_dim=2)
    for seed, model in enumerate((transformer, encoder, vae)):
        seed_parameters(model, 1310 + seed, torch.float16)
        model.float()
    return transformer, encoder, vae


# Names of the authors; order matters where one name becomes another.
WAN = [(r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"), (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
       (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"), (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
       (r"^condition_embedder\.time_proj", "time_projection.1"), (r"^scale_shift_table", "head.modulation"), (r"^proj_out", "head.head"),
       (r"scale_shift_table", "modulation"), (r"attn1", "self_attn"), (r"attn2", "cross_attn"), (r"\.to_out\.0", ".o"), (r"\.to_([qkv])\.", r".\1."),
       (r"ffn\.net\.0\.proj", "ffn.0"), (r"ffn\.net\.2", "ffn.2"), (r"\.norm2\.", ".norm3.")]


def original(state: dict) -> dict:
    names = {}
    for name in state:
        new = name
        for pattern, by in WAN:
            new = re.sub(pattern, by, new)
        names[name] = new
    renamed = {names[name]: value for name, value in state.items()}
    back = convert_wan_transformer_to_diffusers(dict(renamed))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    return renamed


def original_vae(state: dict) -> dict:
    candidates = {}
    inner = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}
    for name in state:
        new = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", name))
        new = re.sub(r"\.conv_in\.", ".conv1.", new)
        new = new.replace(".norm_out.", ".head.0.").replace(".conv_out.", ".head.2.")
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}", new)
        new = new.replace("mid_block.attentions.0", "middle.1")
        new = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"upsamples.{4 * int(m[1]) + int(m[2])}", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"upsamples.{4 * int(m[1]) + 3}", new)
        new = new.replace("down_blocks.", "downsamples.")
        new = re.sub(r"\.(norm1|conv1|norm2|conv2|conv_shortcut)\.(?=(weight|bias|gamma))",
                     lambda m: f".{inner[m[1]]}." if re.search(r"(middle|samples)\.\d+$", new[:m.start()]) else m[0], new)
        candidates[new] = state[name]
    back = convert_wan_vae_to_diffusers(dict(candidates))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state), back.keys() ^ state.keys()
    return candidates


def half(state: dict) -> dict:
    return {name: value.half().contiguous() for name, value in state.items()}


def without_copies(state: dict) -> dict:
    return {name: value for name, value in state.items() if name != "encoder.embed_tokens.weight"}


def llama(state: dict) -> dict:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 2)
    return {names.get_name(name, try_suffixes=(".weight",)): (name, value) for name, value in state.items()}


KEPT = re.compile("modulation|patch_embedding|text_embedding|time_embedding|time_projection|head|rel_b|norm")


def write_gguf(path, tensors: dict, architecture: str) -> dict:
    """Writes matrices as Q8_0, what city96's converter keeps as F32, and returns what is in the file, dequantised."""
    writer, held = gguf.GGUFWriter(path, architecture), {}
    for name, value in tensors.items():
        array = value.float().numpy()
        kept = array.ndim == 1 or KEPT.search(name)
        data = array if kept else gguf.quants.quantize(array, Type.Q8_0)
        # The file has no fifth extent where one is 1 before the others, nor leading ones.
        writer.add_tensor(name, data, raw_dtype=None if kept else Type.Q8_0)
        held[name] = torch.from_numpy(array if kept else gguf.quants.dequantize(data, Type.Q8_0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def is_matrix(name: str, value: torch.Tensor) -> bool:
    return value.dim() == 2 and name.startswith("blocks.") and "modulation" not in name


def old_fp8(tensors: dict) -> tuple[dict, dict]:
    """ComfyUI of 2025: a mark, a scale for each matrix, and one of activations, which must not be multiplied in."""
    stored, held = {"scaled_fp8": torch.empty(2, dtype=FP8)}, {}
    for name, value in tensors.items():
        if is_matrix(name, value):
            scale = value.abs().max() / 448
            stored[name] = (value / scale).to(FP8)
            layer = name.removesuffix("weight")
            stored[layer + "scale_weight"], stored[layer + "scale_input"] = scale, torch.tensor(0.37)
            held[name] = stored[name].float() * scale
        else:
            stored[name] = held[name] = value
    return stored, held


def new_formats(tensors: dict) -> tuple[dict, dict]:
    """ComfyUI since: a text for each layer; a scale for all, for each row, or for blocks; fp8 of both kinds and int8."""
    stored, held = {}, {}
    kinds = [(FP8, "float8_e4m3fn", "one"), (torch.int8, "int8_tensorwise", "rows"), (torch.float8_e5m2, "float8_e5m2", "one"),
             (FP8, "float8_e4m3fn", "blocks"), (torch.int8, "int8_tensorwise", "one")]
    for number, (name, value) in enumerate(tensors.items()):
        if not is_matrix(name, value):
            stored[name] = held[name] = value
            continue
        dtype, text, shape = kinds[number % len(kinds)]
        most = {FP8: 448, torch.int8: 127, torch.float8_e5m2: 57344}[dtype]
        if shape == "rows":
            scale = value.abs().amax(1, keepdim=True) / most
            spread = scale
        elif shape == "blocks":
            rows, columns = value.shape
            blocks = value.abs().reshape(rows // 16, 16, columns // 16, 16).amax((1, 3))
            scale = blocks / most
            spread = scale.repeat_interleave(16, 0).repeat_interleave(16, 1)
        else:
            spread = scale = value.abs().max() / most
        quantised = value / spread
        stored[name] = quantised.round().to(dtype) if dtype == torch.int8 else quantised.to(dtype)
        layer = name.removesuffix("weight")
        stored[layer + "weight_scale"], stored[layer + "input_scale"] = scale, torch.tensor(2.5)
        stored[layer + "comfy_quant"] = torch.tensor(list(json.dumps({"format": text}).encode()), dtype=torch.uint8)
        held[name] = stored[name].float() * spread
    return stored, held


def adaptation(state: dict):
    """Pairs for some layers, of two ranks, in the names of diffusers: name of the layer to (down, up)."""
    gen, pairs = generator(1350), {}
    layers = ["blocks.0.attn1.to_q", "blocks.0.attn1.to_out.0", "blocks.1.attn2.to_k", "blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2", "proj_out"]
    for number, layer in enumerate(layers):
        rows, columns = state[f"{layer}.weight"].shape
        rank = 4 if number % 2 else 2
        pairs[layer] = (0.5 * normal(gen, rank, columns), 0.3 * normal(gen, rows, rank))
    return pairs


def write_adaptations(folder, state: dict) -> dict:
    """The same adaptation in every spelling, and a second one of plain differences; returns the adapted state for both."""
    pairs, forms = adaptation(state), {}
    theirs = {layer: next(iter(rename({f"{layer}.weight": None}))).removesuffix(".weight") for layer in pairs}
    for layer, (down, up) in pairs.items():
        rank, flat = len(down), theirs[layer].replace(".", "_")
        put = lambda form, **tensors: forms.setdefault(form, {}).update({k.replace("/", "."): v.contiguous() for k, v in tensors.items()})
        put("comfy", **{f"diffusion_model.{theirs[layer]}.lora_A.weight": down, f"diffusion_model.{theirs[layer]}.lora_B.weight": up})
        put("kohya", **{f"lora_unet_{flat}.lora_down.weight": down, f"lora_unet_{flat}.lora_up.weight": 2 * up,
                        f"lora_unet_{flat}.alpha": torch.tensor(rank / 2)})
        put("diffusers", **{f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up})
        put("peft", **{f"base_model.model.{theirs[layer]}.lora_A.default.weight": down, f"base_model.model.{theirs[layer]}.lora_B.default.weight": up})
        put("bare", **{f"{theirs[layer]}.lora_down.weight": down.half(), f"{theirs[layer]}.lora_up.weight": up.half()})
        put("lycoris", **{f"lycoris_{flat}.lora_down.weight": down, f"lycoris_{flat}.lora_up.weight": up * rank / 8,
                          f"lycoris_{flat}.alpha": torch.tensor(8.0)})
        put("old", **{f"{layer.removesuffix('.0')}_lora.down.weight": down, f"{layer.removesuffix('.0')}_lora.up.weight": up})
        put("mochi", **{f"{theirs[layer]}.lora_A": down, f"{theirs[layer]}.lora_B": up})
        # The alphas are in the header.
        put("metadata", **{f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up * rank / 16})
    for form, tensors in forms.items():
        metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 16})} if form == "metadata" else None
        save_file(tensors, folder / f"lora_{form}.safetensors", metadata)
    gen, adapted = generator(1351), dict(state)
    for layer, (down, up) in pairs.items():
        adapted[f"{layer}.weight"] = adapted[f"{layer}.weight"] + up @ down
    both = dict(adapted)
    plain = {"blocks.0.self_attn.q.diff": ("blocks.0.attn1.to_q.weight", 0.1), "blocks.0.norm3.diff": ("blocks.0.norm2.weight", 0.2),
             "blocks.1.ffn.0.diff_b": ("blocks.1.ffn.net.0.proj.bias", 0.3), "blocks.1.diff_m": ("blocks.1.scale_shift_table", 0.2),
             "time_projection.1.diff_b": ("condition_embedder.time_proj.bias", 0.1)}
    tensors = {"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": normal(gen, 2, 32)}
    for key, (name, size) in plain.items():
        tensors[f"diffusion_model.{key}"] = size * normal(gen, *state[name].shape)
        both[name] = both[name] + 0.5 * tensors[f"diffusion_model.{key}"]  # at half its strength
    save_file(tensors, folder / "lora_plain.safetensors")
    return {"lora": adapted, "loras": both}


def expand(folder: str):
    for line in (ROOT / "true_size" / folder / "tensors.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        found = re.search(r"\{(\d+)\.\.(\d+)\}", name)
        for i in range(int(found[1]), int(found[2]) + 1) if found else [None]:
            yield (name if i is None else name.replace(found[0], str(i))), json.loads(shape)


def ltx_single_file(folder) -> None:
    """Names and extents of the authors' file of LTX 0.9.8, which holds a transformer and an autoencoder."""
    stages = {"encoder.mid_block": "encoder.down_blocks.8", "decoder.mid_block": "decoder.up_blocks.0", "decoder.time_embedder": "decoder.last_time_embedder",
              "decoder.scale_shift_table": "decoder.last_scale_shift_table"}
    for i in range(4):
        stages[f"encoder.down_blocks.{i}.downsamplers.0"] = f"encoder.down_blocks.{2 * i + 1}"
        stages[f"encoder.down_blocks.{i}"] = f"encoder.down_blocks.{2 * i}"
        stages[f"decoder.up_blocks.{i}.upsamplers.0"] = f"decoder.up_blocks.{2 * i + 1}"
        stages[f"decoder.up_blocks.{i}"] = f"decoder.up_blocks.{2 * i + 2}"
    names = {}
    for name, shape in expand("ltx-2b-transformer"):
        new = name.replace("proj_in.", "patchify_proj.").replace("time_embed.", "adaln_single.")
        names["model.diffusion_model." + new.replace("norm_q", "q_norm").replace("norm_k", "k_norm")] = shape
    for name, shape in expand("ltx-vae-0.9.8"):
        first = next((stage for stage in stages if name == stage or name.startswith(stage + ".")), "")
        new = stages.get(first, "") + name[len(first):]
        new = {"latents_mean": "per_channel_statistics.mean-of-means", "latents_std": "per_channel_statistics.std-of-means"}.get(new, new)
        names["vae." + new.replace("resnets", "res_blocks").replace("conv_shortcut.conv.", "conv_shortcut.").replace(".norm3.", ".norm3.norm.")] = shape
    names["vae.per_channel_statistics.channel"] = names["vae.per_channel_statistics.mean-of-stds"] = [128]
    meta = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    vae = convert_ltx_vae_checkpoint_to_diffusers({k: v for k, v in meta.items() if k.startswith("vae.")})
    transformer = convert_ltx_transformer_checkpoint_to_diffusers({k: v for k, v in meta.items() if not k.startswith("vae.")})
    assert set(transformer) == {name for name, _ in expand("ltx-2b-transformer")}
    # The converter leaves out what is no parameter of the class.
    assert set(vae) - {"latents_mean", "latents_std"} == {name for name, _ in expand("ltx-vae-0.9.8")} - {"latents_mean", "latents_std"}
    (folder / "ltx_single_file.txt").write_text("".join(f"{name} {shape}\n" for name, shape in sorted(names.items())))


def rename(state: dict) -> dict:
    names = {}
    for name, value in state.items():
        for pattern, by in WAN:
            name = re.sub(pattern, by, name)
        names[name] = value
    return names


def generate() -> None:
    folder = fresh("containers")
    ltx_single_file(folder)
    transformer, encoder, vae = models()
    save_model(transformer, fresh("containers", "diffusers", "transformer"), torch.float32)
    save_model(encoder, fresh("containers", "diffusers", "text_encoder"), torch.float16)
    save_model(vae, fresh("containers", "diffusers", "vae"), torch.float16)
    state, text = transformer.state_dict(), without_copies(encoder.state_dict())
    theirs = original(state)
    save_file({f"model.diffusion_model.{name}": value for name, value in half(theirs).items()}, folder / "comfy_fp16.safetensors")
    save_file(half(original_vae(vae.state_dict())), folder / "vae.safetensors")
    spiece = torch.zeros(16, dtype=torch.uint8)
    save_file(half(text) | {"spiece_model": spiece}, folder / "umt5_fp16.safetensors")
    named = llama(text)
    variants = {"f32": (state, text)}

    held = write_gguf(folder / "wan_q8_0.gguf", theirs, "wan")
    held_text = write_gguf(folder / "umt5_q8_0.gguf", {name: value for name, (_, value) in named.items()}, "t5encoder")
    ours = {new: name for name, new in zip(state, theirs)}
    variants["q8_0"] = ({ours[name]: value for name, value in held.items()}, {named[name][0]: value for name, value in held_text.items()})
    for name, write in (("fp8_old", old_fp8), ("fp8_new", new_formats)):
        stored, held = write(half(theirs) | {k: v for k, v in theirs.items() if is_matrix(k, v)})
        prefix = "diffusion_model." if name == "fp8_old" else ""
        save_file({prefix + k: v.contiguous() for k, v in stored.items()}, folder / f"{name}.safetensors")
        variants[name] = ({ours[k]: v.float() for k, v in held.items()}, text)
    for name, adapted in write_adaptations(folder, state).items():
        variants[name] = (adapted, text)

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "tokenizer" / "unigram.json"), pad_token="<pad>",
                                        eos_token="</s>", unk_token="<unk>")
    noise, expected = normal(generator(1360), *LATENTS), {}
    for name, (weights, words) in variants.items():
        used, reader = copy.deepcopy(transformer), copy.deepcopy(encoder)
        used.load_state_dict({k: v.reshape(state[k].shape) for k, v in weights.items()})
        reader.load_state_dict({k: v.reshape(text[k].shape) for k, v in words.items()}, strict=False)
        pipeline = WanPipeline(tokenizer=tokenizer, text_encoder=reader, vae=vae, transformer=used, transformer_2=None,
                               scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0))
        pipeline.set_progress_bar_config(disable=True)
        expected[name] = pipeline(prompt=PROMPT, negative_prompt="", num_inference_steps=4, guidance_scale=3.0, latents=noise,
                                  output_type="latent", height=16, width=32, num_frames=5).frames.contiguous()
        if not torch.isfinite(expected[name]).all():
            raise ValueError(name)
    save_file({"noise": noise} | expected, folder / "expected.safetensors")
    for name in expected:
        print(name, float(((expected[name] - expected["f32"]) ** 2).sum() / (expected["f32"] ** 2).sum()))

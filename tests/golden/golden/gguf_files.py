"""Blocks of every GGUF encoding with the values that PyPI gguf gives them, and a small file that it writes."""

import base64
import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file

from .common import ROOT, fresh

# Where the f16 of a block are, which random bytes would make huge.
HALVES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q2_K: [80, 82], Type.Q3_K: [108],
          Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0]}
# Subnormal and large scales among them.
SCALES = np.array([0.037, -1.31, 6.1e-7, 812.0, -0.0, 1.0, 2.5e-3, 0.99], np.float16)


def blocks(kind: Type, rng: np.random.Generator) -> np.ndarray:
    """`[8, bytes]`, or 16 for the formats of which every code is there."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    if kind == Type.Q8_0:  # every byte
        codes = np.arange(256, dtype=np.uint8).reshape(8, 32)
        found = np.concatenate([np.zeros((8, 2), np.uint8), codes], axis=1)
    elif kind == Type.Q4_0:  # every byte, which is every pair of codes
        codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
        found = np.concatenate([np.zeros((16, 2), np.uint8), codes], axis=1)
    else:
        found = rng.integers(0, 256, (8, size), dtype=np.uint8)
    for number, at in enumerate(HALVES[kind]):
        found[:, at:at + 2] = np.roll(np.resize(SCALES, len(found)), 3 * number).view(np.uint8).reshape(-1, 2)
    return found


def write_file(folder) -> None:
    """Every kind of metadata, an alignment that is not the usual one, five extents, and a scalar type each."""
    rng = np.random.default_rng(1301)
    writer = gguf.GGUFWriter(folder / "small.gguf", "wan")
    writer.add_custom_alignment(64)
    writer.add_uint8("test.u8", 7)
    writer.add_int64("test.i64", -3)
    writer.add_float32("test.f32", 0.5)
    writer.add_bool("test.bool", True)
    writer.add_string("test.text", "käfig")
    writer.add_array("test.texts", ["a", "bc", ""])
    writer.add_array("test.numbers", [1, 2, 3])
    expected = {}
    for name, kind, shape in [("f32", Type.F32, (3, 5)), ("f16", Type.F16, (2, 3, 1, 2, 2)), ("bf16", Type.BF16, (7,)),
                              ("q8_0", Type.Q8_0, (3, 64)), ("q4_0", Type.Q4_0, (2, 32)), ("q5_1", Type.Q5_1, (1, 96))]:
        values = rng.standard_normal(shape, dtype=np.float32)
        data = gguf.quants.quantize(values, kind)
        shape = None if kind in (Type.F32, Type.F16) else data.shape
        writer.add_tensor(name, data, raw_shape=shape, raw_dtype=kind)
        expected[name] = torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, folder / "small.safetensors")


def write_tokenizers(folder) -> None:
    """The Unigram tokenizer of the other fixtures as SentencePiece and as llama.cpp keep it; the latter without its large map."""
    from sentencepiece import sentencepiece_model_pb2

    document = json.loads((ROOT / "tokenizer" / "unigram.json").read_text())
    vocabulary = document["model"]["vocab"]
    kinds = [3, 3, 2] + [1] * (len(vocabulary) - 3)
    model = sentencepiece_model_pb2.ModelProto()
    for (piece, score), kind in zip(vocabulary, kinds):
        model.pieces.add(piece=piece, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type, spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = 1, 0, 1, 2, -1
    model.normalizer_spec.precompiled_charsmap = base64.b64decode(document["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    writer = gguf.GGUFWriter(folder / "tokenizer.gguf", "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_token_list([piece for piece, _ in vocabulary])
    writer.add_token_scores([score for _, score in vocabulary])
    writer.add_token_types(kinds)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_tensor("unused", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def generate() -> None:
    folder, rng, tensors = fresh("gguf"), np.random.default_rng(1300), {}
    for kind in HALVES:
        found = blocks(kind, rng)
        tensors[f"{kind.name}.blocks"] = torch.from_numpy(found)
        tensors[f"{kind.name}.values"] = torch.from_numpy(gguf.quants.dequantize(found, kind))
    save_file(tensors, folder / "blocks.safetensors")
    write_file(folder)
    write_tokenizers(folder)

"""The text encoder: MiniLM-L6 without the tokens of other scripts.

All six layers stay: the last one was trained to put sentences of like meaning together, which is
what finds a dog for "puppy" (share of unseen words whose object is among the five nearest by pooled
state: 0.85; the first two layers alone: 0.72, with a vocabulary of 5,380 tokens: 0.63).
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from .captions import phrases, vocabulary
from .config import TEXT_TOKENS
from .quantise import load, save

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _load_full(folder: Path) -> BertModel:
    from safetensors.torch import load_file

    model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    state = load_file(folder / "model.safetensors")
    state = {k.removeprefix("bert."): v for k, v in state.items() if "pooler" not in k}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert all("position_ids" in k for k in missing), missing
    return model


def _kept(tokens: dict[str, int]) -> list[str]:
    """In their old order, which is by frequency; neither other scripts nor unused entries."""
    plain = (t for t in tokens if t.isascii() and not t.startswith("[unused") and t not in SPECIAL)
    return SPECIAL + sorted(plain, key=tokens.get)


def build(work: Path) -> None:
    """Writes the reduced encoder and tokenizer to `text_encoder/` and `tokenizer/`."""
    source = work / "minilm"
    full = _load_full(source)
    spec = json.loads((source / "tokenizer.json").read_text())
    tokens = spec["model"]["vocab"]
    table = full.embeddings.word_embeddings.weight.detach()
    kept = _kept(tokens)

    config = BertConfig.from_json_file(source / "config.json")
    config.vocab_size, config.max_position_embeddings = len(kept), 64
    small = BertModel(config, add_pooling_layer=False)
    state = {k: v for k, v in full.state_dict().items() if k in small.state_dict()}
    state["embeddings.word_embeddings.weight"] = table[[tokens[t] for t in kept]]
    positions = "embeddings.position_embeddings.weight"
    state[positions] = state[positions][: config.max_position_embeddings]
    for name in ("embeddings.position_ids", "embeddings.token_type_ids"):
        state.pop(name, None)
    small.load_state_dict(state, strict=False)
    small.half().save_pretrained(work / "text_encoder")

    new_id = {t: i for i, t in enumerate(kept)}
    spec["model"]["vocab"] = new_id
    spec["padding"] = spec["truncation"] = None
    spec["added_tokens"] = [t | dict(id=new_id[t["content"]]) for t in spec["added_tokens"]]
    for special in spec["post_processor"].get("special_tokens", {}).values():
        special["ids"] = [new_id[t] for t in special["tokens"]]
    for end in ("sep", "cls"):
        if end in spec["post_processor"]:
            word = spec["post_processor"][end][0]
            spec["post_processor"][end] = [word, new_id[word]]
    (work / "tokenizer").mkdir(exist_ok=True)
    (work / "tokenizer/tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    print(f"text encoder: {len(kept)} tokens")


class TextEncoder:
    """Prompts to ([B, 24, 384], mask [B, 24]): [CLS] words [SEP], padded, last hidden state."""

    def __init__(self, folder: Path):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer/tokenizer.json"))
        self.tokenizer.enable_truncation(TEXT_TOKENS)
        self.tokenizer.enable_padding(length=TEXT_TOKENS)
        config = BertConfig.from_json_file(folder / "text_encoder/config.json")
        self.model = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
        self.model.load_state_dict(load(folder / "text_encoder/model.safetensors"))

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.tokenizer.encode_batch(prompts)
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        return self.model(ids, attention_mask=mask).last_hidden_state, mask.float()


def pooled(encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    """[N, 384]: the mean over each text's tokens, [CLS] and [SEP] among them, of length 1."""
    means = []
    for at in range(0, len(texts), 64):
        states, mask = encoder(texts[at : at + 64])
        means.append((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
    return torch.nn.functional.normalize(torch.cat(means), dim=-1)


def write_vocabulary(folder: Path) -> None:
    """Writes what readers of prompts need to an exported model: the words, and `phrases` [N, 384],
    their pooled states."""
    content = vocabulary()
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / "vocabulary.json").write_text(text + "\n")
    states = pooled(TextEncoder(folder), phrases(content))
    save(dict(phrases=states), folder / "vocabulary.safetensors")
    (folder / "vocabulary.safetensors").chmod(0o644)


if __name__ == "__main__":
    write_vocabulary(Path(sys.argv[1]))

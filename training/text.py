"""The text encoder: MiniLM-L6's first layers with a vocabulary cut to what prompts need.

The full encoder would be larger than the rest of the model together. Kept are the special
tokens, all single letters (so that any word can still be spelt), the most frequent words, every
word of the training prompts, and the nearest neighbours of the objects' names in embedding
space, which is where unseen synonyms ("puppy") live. Kept tokens keep their weights.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from .captions import OBJECTS
from .config import COLORS, TEXT_LAYERS, TEXT_TOKENS
from .prepare import emoji_list

FREQUENT = 50  # BERT's vocabulary is sorted by frequency
NEIGHBOURS = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _load_full(folder: Path) -> BertModel:
    from safetensors.torch import load_file

    model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    state = load_file(folder / "model.safetensors")
    state = {k.removeprefix("bert."): v for k, v in state.items() if "pooler" not in k}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert all("position_ids" in k for k in missing), missing
    return model


def _kept(tokens: dict[str, int], tokenizer: Tokenizer, table: torch.Tensor) -> list[str]:
    names = [n for o in OBJECTS.values() for n in (o.name, *o.synonyms)]
    prompts = names + [m for o in OBJECTS.values() for m in o.motions] + list(COLORS)
    prompts += [name for _, name, _ in emoji_list()]
    prompts += ["a an the on in with of background wall front"]
    used = {t for p in prompts for t in tokenizer.encode(p).tokens}
    subjects = [tokens[t] for n in names for t in tokenizer.encode(n).tokens if t not in SPECIAL]
    unit = torch.nn.functional.normalize(table, dim=1)
    near = (unit[sorted(set(subjects))] @ unit.T).topk(NEIGHBOURS, dim=1).indices.flatten().tolist()
    by_id = {i: t for t, i in tokens.items()}
    used |= {by_id[i] for i in near}
    plain = sorted((t for t in tokens if t.isascii() and t not in SPECIAL), key=tokens.get)
    letters = {t for t in plain if len(t.removeprefix("##")) == 1}
    words = [t for t in plain if t.isalpha() and len(t) > 1][:FREQUENT]
    keep = (used | letters | set(words)) - set(SPECIAL)
    return SPECIAL + sorted((t for t in keep if not t.startswith("[")), key=tokens.get)


def build(work: Path) -> None:
    """Writes the reduced encoder and tokenizer to `text_encoder/` and `tokenizer/`."""
    source = work / "minilm"
    full = _load_full(source)
    spec = json.loads((source / "tokenizer.json").read_text())
    tokens = spec["model"]["vocab"]
    table = full.embeddings.word_embeddings.weight.detach()
    kept = _kept(tokens, Tokenizer.from_file(str(source / "tokenizer.json")), table)

    config = BertConfig.from_json_file(source / "config.json")
    config.vocab_size, config.num_hidden_layers = len(kept), TEXT_LAYERS
    config.max_position_embeddings = 64
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
    print(f"text encoder: {len(kept)} tokens, {TEXT_LAYERS} layers")


class TextEncoder:
    """Prompts to ([B, 24, 384], mask [B, 24]): [CLS] words [SEP], padded, last hidden state."""

    def __init__(self, folder: Path):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer/tokenizer.json"))
        self.tokenizer.enable_truncation(TEXT_TOKENS)
        self.tokenizer.enable_padding(length=TEXT_TOKENS)
        self.model = BertModel.from_pretrained(folder / "text_encoder", add_pooling_layer=False)
        self.model.float().eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.tokenizer.encode_batch(prompts)
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        return self.model(ids, attention_mask=mask).last_hidden_state, mask.float()

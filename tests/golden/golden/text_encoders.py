"""T5EncoderModel, UMT5EncoderModel and BertModel with random weights."""

import torch
from transformers import BertConfig, BertModel, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from .common import fresh, generator, save_case, save_model, seed_parameters


def padded(gen, vocab: int, lengths: list[int], width: int) -> dict:
    """Random ids, padded with 0 on the right, and their mask."""
    ids = torch.randint(1, vocab, (len(lengths), width), generator=gen)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    return dict(input_ids=ids * mask, attention_mask=mask)


def save_encoder(model, folder, storage, given_cases: dict) -> None:
    save_model(model, folder, storage)
    for case, given in given_cases.items():
        with torch.no_grad():
            state = model(**given).last_hidden_state
        save_case(folder, case, given, dict(last_hidden_state=state))


def t5(name: str, seed: int, lengths: dict, **overrides) -> None:
    config, encoder = (UMT5Config, UMT5EncoderModel) if name.startswith("umt5") else (T5Config, T5EncoderModel)
    model = encoder(config(vocab_size=90, d_model=24, d_kv=16, d_ff=40, num_layers=2, num_heads=2, **overrides))
    seed_parameters(model, seed, torch.float16)
    gen = generator(seed + 1)
    given = {case: padded(gen, 90, rows, width) for case, (rows, width) in lengths.items()}
    save_encoder(model, fresh(*name.split("/")), torch.float16, given)


def bert() -> None:
    config = BertConfig(vocab_size=70, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=56, max_position_embeddings=48, type_vocab_size=2)
    model = BertModel(config, add_pooling_layer=False)
    seed_parameters(model, 520, torch.float32)
    gen = generator(521)
    types = torch.randint(0, 2, (2, 13), generator=gen)
    given = {
        "batch2": padded(gen, 70, [13, 5], 13) | dict(token_type_ids=types),
        "no_types": padded(gen, 70, [48], 48),
        "one_token": dict(input_ids=torch.tensor([[7]])),
    }
    save_encoder(model, fresh("bert", "tiny"), torch.float32, given)


def generate() -> None:
    # 150 tokens reach every relative-position bucket, the clipped last one (distance >= 128) included.
    t5("t5/gated_gelu", 500, {"batch2": ([9, 4], 9), "far": ([141], 150), "one_token": ([1], 1)},
       feed_forward_proj="gated-gelu")
    t5("t5/relu", 510, {"batch1": ([5], 6)}, feed_forward_proj="relu",
       relative_attention_num_buckets=12, relative_attention_max_distance=20)
    # Every block has relative positions of its own.
    t5("umt5/tiny", 530, {"batch2": ([9, 4], 9), "far": ([141], 150), "one_token": ([1], 1)},
       feed_forward_proj="gated-gelu")
    bert()

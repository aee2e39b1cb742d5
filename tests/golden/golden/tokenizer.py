"""A WordPiece, a Unigram and a byte-pair tokenizer.json with the token ids of the corpus."""

import base64
import copy
import io
import json
import unicodedata
from collections import Counter

import sentencepiece
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from .common import fresh
from .corpus import entries, training_text


# Characters from which on the byte tokenizers do not run over a text.
LONG = 1000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def pieces(words: Counter) -> list[str]:
    """Every character, alone and as a continuation, and the substrings that save most.

    (The trainer of the library breaks ties by hash order, so its vocabulary changes from run to run.)
    """
    characters = sorted({c for word in words for c in word})
    savings = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(start + 12, len(word)) + 1):
                savings[("##" if start else "") + word[start:end]] += count * (end - start - 1)
    best = sorted(savings.items(), key=lambda item: (-item[1], item[0]))[:900]
    return [*characters, *("##" + c for c in characters), *(piece for piece, _ in best)]


def wordpiece() -> Tokenizer:
    """As all-MiniLM-L6-v2: uncased BERT."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in training_text()
                    for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *pieces(words)])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def cased(uncased: Tokenizer) -> Tokenizer:
    """The same vocabulary with case and accents kept."""
    document = copy.deepcopy(json.loads(uncased.to_str()))
    document["normalizer"] |= dict(lowercase=False, strip_accents=None)
    return Tokenizer.from_str(json.dumps(document))


def sentencepiece_model():
    """A Unigram model trained with T5's normalisation rule, nmt_nfkc."""
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_text()), model_writer=buffer, model_type="unigram", vocab_size=1500,
        character_coverage=0.9995, normalization_rule_name="nmt_nfkc", hard_vocab_limit=False, num_threads=1,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(buffer.getvalue())
    return model


def unigram(model) -> Tokenizer:
    """As T5: charsmap normalisation, Metaspace, `</s>` appended, 100 sentinel tokens."""
    tokenizer = Tokenizer(Unigram([(p.piece, p.score) for p in model.pieces], unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
        normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), "▁"),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<pad>", "</s>", "<unk>")])
    tokenizer.add_special_tokens([AddedToken(f"<extra_id_{i}>", normalized=False) for i in range(8)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    return tokenizer


def original_t5(tokenizer: Tokenizer) -> Tokenizer:
    """The pipeline of the first T5 tokenizer.json files: words are split before Metaspace."""
    other = Tokenizer.from_str(tokenizer.to_str())
    document = json.loads(tokenizer.to_str())
    other.normalizer = normalizers.Precompiled(base64.b64decode(
        document["normalizer"]["normalizers"][0]["precompiled_charsmap"]))
    other.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    return other


def with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The same with what is unknown spelled in bytes, as UMT5 and many others. The byte tokens are the last entries."""
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"] += [[f"<0x{byte:02X}>", 0.0] for byte in range(256)]
    document["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(document))


SUFFIX = "</w>"


def learn(words: Counter, count: int) -> list[tuple[str, str]]:
    """The most frequent pair of neighbours, joined, and again. (The library's trainer breaks ties by hash order.)"""
    spelled = {word: [*word[:-1], word[-1] + SUFFIX] for word in words}
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, parts in spelled.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((left, right))
        for word, parts in spelled.items():
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == (left, right):
                    parts[i : i + 2] = [left + right]
                i += 1
    return merges


def clip() -> Tokenizer:
    """As CLIP: lower case, words by an expression, bytes as characters, `</w>` at the end of a word."""
    normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""),
                             behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = Counter(word for text in training_text()
                    for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn(words, 700)
    special = ["<|startoftext|>", "<|endoftext|>"]
    entries_ = [*letters, *(c + SUFFIX for c in letters), *dict.fromkeys(a + b for a, b in merges), *special]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(entries_))}
    tokenizer = Tokenizer(BPE(vocabulary, merges, unk_token=special[1], end_of_word_suffix=SUFFIX,
                              continuing_subword_prefix="", fuse_unk=False))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in special])
    start, end = ((t, vocabulary[t]) for t in special)
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    return tokenizer


def byte_level(tokenizer: Tokenizer) -> Tokenizer:
    """The same merges with the words of GPT-2, which carry the space before them, and nothing around a prompt."""
    document = json.loads(tokenizer.to_str())
    document["model"]["end_of_word_suffix"] = None
    document["normalizer"] = document["post_processor"] = None
    document["pre_tokenizer"] = dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)
    return Tokenizer.from_str(json.dumps(document))


def is_compared(tokenizer: Tokenizer, text: str) -> bool:
    """Long texts are left out where files would grow, and a few whose marks this library orders by an old Unicode."""
    ordered = unicodedata.normalize("NFC", text)
    return len(text) < LONG and (tokenizer.normalizer is None or normalizers.NFC().normalize_str(text) == ordered)


def save_ids(folder, name: str, tokenizer: Tokenizer, texts: list[str], compared=lambda *_: True) -> None:
    """A text that is left out has -1 ids."""
    kept = [compared(tokenizer, text) for text in texts]
    encodings = [tokenizer.encode(text).ids if keep else [] for text, keep in zip(texts, kept)]
    flat = torch.tensor([i for ids in encodings for i in ids])
    if flat.max() >= 1 << 16:
        raise ValueError("ids are stored as u16")
    save_file(dict(ids=flat.to(torch.uint16), lengths=torch.tensor([len(e) if keep else -1 for e, keep in zip(encodings, kept)], dtype=torch.int32)),
              folder / f"{name}.ids.safetensors")
    unk = next(i for i in map(tokenizer.token_to_id, ("[UNK]", "<unk>", "<|endoftext|>")) if i is not None)
    unknown = sum(unk in ids for ids in encodings)
    print(f"{name}: {sum(kept)} strings, {len(flat)} ids, {unknown} with an unknown token")


def generate() -> None:
    folder = fresh("tokenizer")
    rows = entries()
    (folder / "corpus.json").write_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")) + "\n")
    texts = [row if isinstance(row, str) else row[0] * row[1] for row in rows]
    bert = wordpiece()
    t5 = unigram(sentencepiece_model())
    splitting = original_t5(t5)
    for text in texts:
        if splitting.encode(text).ids != t5.encode(text).ids:
            raise ValueError(f"both T5 pipelines share one file of ids, but {text[:40]!r} differs")
    for name, tokenizer in (("wordpiece", bert), ("wordpiece_cased", cased(bert)), ("unigram", t5)):
        save_ids(folder, name, tokenizer, texts)
    bpe = clip()
    for name, tokenizer in (("unigram_bytes", with_bytes(t5)), ("bpe", bpe), ("bpe_byte_level", byte_level(bpe))):
        save_ids(folder, name, tokenizer, texts, is_compared)
    for name, tokenizer in (("wordpiece", bert), ("unigram", t5), ("bpe", bpe)):
        (folder / f"{name}.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False,
                                                        separators=(",", ":")) + "\n")

"""Writes crates/runtime/src/text/categories.rs: the character classes the reference tokenizer uses.

BERT's are those of Unicode 8. Later versions class more characters as marks or punctuation, which
would split words differently from how the text encoders were trained, so the classes are read off
the reference's behaviour, character by character.
"""

from tokenizers import Regex, normalizers, pre_tokenizers

from .common import ROOT

TARGET = ROOT.parent.parent / "crates/runtime/src/text/categories.rs"
HEAD = '''//! Character classes of BERT's text cleaning and of regular expressions, as the reference tokenizer has them (Unicode 8 for
//! BERT's).
//!
//! Written by `tests/golden/generate.py categories` from the reference's behaviour; do not edit.

/// Whether `c` lies in one of the sorted inclusive ranges.
pub(super) fn contains(ranges: &[(u32, u32)], c: char) -> bool {
    let code = u32::from(c);
    let after = ranges.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= ranges[after - 1].1
}
'''


def ranges(codes: list[int]) -> list[tuple[int, int]]:
    joined: list[list[int]] = []
    for code in codes:
        if joined and code == joined[-1][1] + 1:
            joined[-1][1] = code
        else:
            joined.append([code, code])
    return [tuple(pair) for pair in joined]


def table(name: str, doc: str, codes: list[int]) -> str:
    rows = ranges(codes)
    cells = [f"({low:#x}, {high:#x})" for low, high in rows]
    lines = [", ".join(cells[i : i + 7]) for i in range(0, len(cells), 7)]
    body = ",\n    ".join(lines)
    return f"\n/// {doc}\n#[rustfmt::skip]\npub(super) const {name}: [(u32, u32); {len(rows)}] = [\n    {body},\n];\n"


def generate() -> None:
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    clean = normalizers.BertNormalizer(**options | dict(clean_text=True))
    strip = normalizers.BertNormalizer(**options | dict(strip_accents=True))
    split = pre_tokenizers.BertPreTokenizer()
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    removed = [ord(c) for c in characters if clean.normalize_str(f"a{c}b") == "ab"]
    marks = [ord(c) for c in characters if strip.normalize_str(f"a{c}b") == "ab"]
    alone = [ord(c) for c in characters
             if [piece for piece, _ in split.pre_tokenize_str(f"a{c}b")] == ["a", c, "b"]]
    letters, numbers = ([ord(c) for c in characters if not only.pre_tokenize_str(c)] for only in
                        (pre_tokenizers.Split(Regex(regex), "removed") for regex in (r"\p{L}", r"\p{N}")))
    TARGET.write_text(
        HEAD
        + table("REMOVED", "Control, format and private-use characters, NUL and U+FFFD.", removed)
        + table("NONSPACING_MARKS", "Marks that strip with their accents.", marks)
        + table("PUNCTUATION", "Punctuation, and every ASCII character that is neither letter, digit nor space.", alone)
        + table("LETTERS", r"`\p{L}`.", letters)
        + table("NUMBERS", r"`\p{N}`.", numbers))

//! Pre-tokenizers of byte-pair models: text cut by a regular expression, and bytes spelled in visible characters.
//!
//! A tokenizer file carries its expression as text. There is no engine for them here: the few in use are alternatives of
//! the same few kinds, which are matched by hand.

use serde::Deserialize;

use super::categories::{LETTERS, NUMBERS, contains};
use super::pre_tokenize::{Piece, cut};

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, the expression of GPT-2.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The expression of CLIP.
const CLIP: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// What newer files have in front of it.
const CLIP_SPECIAL: &str = r"<\|startoftext\|>|<\|endoftext\|>|";

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Text cut where an expression matches.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub(super) struct Split {
    pattern: Pattern,
    /// Whether what lies between the matches is kept.
    keeps_rest: bool,
}

#[derive(Deserialize)]
struct Stored {
    pattern: StoredPattern,
    behavior: String,
    invert: bool,
}

#[derive(Deserialize)]
enum StoredPattern {
    String(String),
    Regex(String),
}

impl TryFrom<Stored> for Split {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let pattern = match &stored.pattern {
            StoredPattern::Regex(regex) => {
                Pattern::of(regex).ok_or_else(|| format!("the regular expression `{regex}` is not supported"))?
            }
            StoredPattern::String(text) => return Err(format!("splitting at the text `{text}` is not supported, only at expressions")),
        };
        match (stored.behavior.as_str(), stored.invert) {
            ("Removed", true) => Ok(Self { pattern, keeps_rest: false }),
            ("Isolated", _) => Ok(Self { pattern, keeps_rest: true }),
            (behavior, invert) => Err(format!("splitting with behavior {behavior} and invert {invert} is not supported")),
        }
    }
}

impl Split {
    pub(super) fn parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        self.pattern.parts(text, self.keeps_rest)
    }
}

/// An expression in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Gpt2,
    Clip {
        /// Whether the special tokens, spelled out, are words.
        special: bool,
    },
}

impl Pattern {
    fn of(regex: &str) -> Option<Self> {
        match regex {
            GPT2 => Some(Self::Gpt2),
            CLIP => Some(Self::Clip { special: false }),
            _ if regex.strip_prefix(CLIP_SPECIAL) == Some(CLIP) => Some(Self::Clip { special: true }),
            _ => None,
        }
    }

    /// The matches, and what lies between them if `keeps_rest`.
    fn parts(self, text: &str, keeps_rest: bool) -> Vec<&str> {
        let mut parts = Vec::new();
        let (mut done, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            let length = self.matched(&text[at..]);
            if length == 0 {
                at += c.len_utf8();
                continue;
            }
            if keeps_rest && done < at {
                parts.push(&text[done..at]);
            }
            parts.push(&text[at..at + length]);
            at += length;
            done = at;
        }
        if keeps_rest && done < text.len() {
            parts.push(&text[done..]);
        }
        parts
    }

    /// Bytes at the start of `text`, which is not empty, that match; 0 if none do.
    fn matched(self, text: &str) -> usize {
        let special = ["<|startoftext|>", "<|endoftext|>"];
        let literals = special.iter().filter(|_| self == Self::Clip { special: true }).chain(&CONTRACTIONS);
        if let Some(literal) = literals.into_iter().find(|literal| text.starts_with(**literal)) {
            return literal.len();
        }
        let gpt2 = self == Self::Gpt2;
        let rest = if gpt2 { text.strip_prefix(' ').unwrap_or(text) } else { text };
        let space = text.len() - rest.len();
        match rest.chars().next().map(Kind::of) {
            Some(Kind::Number) if !gpt2 => rest.chars().next().map_or(0, char::len_utf8),
            Some(kind) if kind != Kind::Space => space + run(rest, kind),
            _ if gpt2 => {
                let spaces = run(text, Kind::Space);
                // The last space of several goes to the word behind it.
                let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
                if spaces < text.len() && spaces > last { spaces - last } else { spaces }
            }
            _ => 0,
        }
    }
}

/// What the expressions tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Space,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        if contains(&LETTERS, c) {
            Self::Letter
        } else if contains(&NUMBERS, c) {
            Self::Number
        } else if c.is_whitespace() {
            Self::Space
        } else {
            Self::Other
        }
    }
}

/// Bytes at the start of `text` that are all of this kind.
fn run(text: &str, kind: Kind) -> usize {
    text.char_indices().find(|&(_, c)| Kind::of(c) != kind).map_or(text.len(), |(at, _)| at)
}

/// Bytes as characters that can be seen, after cutting by GPT-2's expression.
#[derive(Debug, Deserialize)]
pub(super) struct ByteLevel {
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

const fn yes() -> bool {
    true
}

impl ByteLevel {
    pub(super) fn apply(&self, mut pieces: Vec<Piece>) -> Vec<Piece> {
        if self.add_prefix_space {
            for piece in pieces.iter_mut().filter(|piece| !piece.text.starts_with(' ')) {
                piece.text.insert(0, ' ');
            }
        }
        if self.use_regex {
            pieces = cut(&pieces, |text| Pattern::Gpt2.parts(text, true));
        }
        for piece in &mut pieces {
            piece.text = piece.text.bytes().map(visible).collect();
        }
        pieces
    }
}

/// The character that stands for a byte: itself where it is visible in Latin-1, else one from U+0100 on, in order.
fn visible(byte: u8) -> char {
    let shown = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if shown(byte) {
        return char::from(byte);
    }
    let hidden_before = (0..byte).filter(|&b| !shown(b)).count() as u32;
    char::from_u32(0x100 + hidden_before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_gpt2_carry_the_space_before_them() {
        let parts = Pattern::Gpt2.parts("it's  12 o'clock!?\n\n x ", true);
        assert_eq!(parts, ["it", "'s", " ", " 12", " o", "'", "clock", "!?", "\n\n", " x", " "], "with contractions and runs of space");
    }

    #[test]
    fn words_of_clip_have_no_spaces_and_single_digits() {
        let text = "it's 12 <|endoftext|>!";
        assert_eq!(Pattern::Clip { special: false }.parts(text, false), ["it", "'s", "1", "2", "<|", "endoftext", "|>!"], "as of old");
        assert_eq!(Pattern::Clip { special: true }.parts(text, false), ["it", "'s", "1", "2", "<|endoftext|>", "!"], "as now");
    }

    #[test]
    fn bytes_have_the_characters_of_gpt2() {
        assert_eq!([b' ', b'\n', b'a', 0x7f, 0xAD, 0xFF].map(visible), ['Ġ', 'Ċ', 'a', 'ġ', 'Ń', 'ÿ'], "from the published vocabulary");
    }
}

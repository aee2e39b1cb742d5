//! Pre-tokenizers: normalised text to the pieces that the model cuts further, each on its own.

use serde::Deserialize;

use super::categories::{PUNCTUATION, contains};
use super::split::{ByteLevel, Split};

/// One step of the `pre_tokenizer` in `tokenizer.json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenize {
    Sequence { pretokenizers: Vec<Self> },
    BertPreTokenizer,
    WhitespaceSplit,
    Metaspace(Metaspace),
    Split(Split),
    ByteLevel(ByteLevel),
}

/// Spaces become a visible character, so that words carry their word boundary.
#[derive(Debug, Deserialize)]
pub(super) struct Metaspace {
    replacement: char,
    /// Old files say whether to prepend at all, new ones where.
    #[serde(default = "yes")]
    add_prefix_space: bool,
    prepend_scheme: Option<Prepend>,
    #[serde(default = "yes")]
    split: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Prepend {
    Always,
    First,
    Never,
}

/// A piece and whether the text begins with it.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) first: bool,
}

impl PreTokenize {
    /// Cuts every piece; none of the results is empty.
    pub(super) fn apply(&self, pieces: Vec<Piece>) -> Vec<Piece> {
        match self {
            Self::Sequence { pretokenizers } => pretokenizers.iter().fold(pieces, |pieces, step| step.apply(pieces)),
            Self::BertPreTokenizer => cut(&pieces, |text| text.split(char::is_whitespace).flat_map(isolate_punctuation).collect()),
            Self::WhitespaceSplit => cut(&pieces, |text| text.split(char::is_whitespace).collect()),
            Self::Metaspace(metaspace) => metaspace.apply(pieces),
            Self::Split(split) => cut(&pieces, |text| split.parts(text)),
            Self::ByteLevel(bytes) => bytes.apply(pieces),
        }
    }
}

/// Replaces every piece by those of its parts that are not empty.
pub(super) fn cut<'a>(pieces: &'a [Piece], split: impl Fn(&'a str) -> Vec<&'a str>) -> Vec<Piece> {
    let parts = pieces.iter().flat_map(|piece| {
        let at_start = |part: &str| piece.first && part.as_ptr() == piece.text.as_ptr();
        split(&piece.text).into_iter().map(move |part| Piece { text: part.into(), first: at_start(part) })
    });
    parts.filter(|piece| !piece.text.is_empty()).collect()
}

/// `it's` is cut into `it`, `'` and `s`.
fn isolate_punctuation(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = word;
    while let Some((at, mark)) = rest.char_indices().find(|&(_, c)| contains(&PUNCTUATION, c)) {
        let (before, from) = rest.split_at(at);
        let (mark, after) = from.split_at(mark.len_utf8());
        parts.extend([before, mark]);
        rest = after;
    }
    parts.push(rest);
    parts
}

impl Metaspace {
    fn apply(&self, mut pieces: Vec<Piece>) -> Vec<Piece> {
        let scheme = self.prepend_scheme.unwrap_or(if self.add_prefix_space { Prepend::Always } else { Prepend::Never });
        for piece in &mut pieces {
            piece.text = piece.text.replace(' ', self.replacement.encode_utf8(&mut [0; 4]));
            let wanted = scheme == Prepend::Always || (scheme == Prepend::First && piece.first);
            if wanted && !piece.text.starts_with(self.replacement) {
                piece.text.insert(0, self.replacement);
            }
        }
        if !self.split {
            return pieces;
        }
        cut(&pieces, |text| {
            let mut starts: Vec<usize> = text.match_indices(self.replacement).map(|(at, _)| at).collect();
            starts.push(text.len());
            let mut from = 0;
            starts.into_iter().map(|to| &text[std::mem::replace(&mut from, to)..to]).collect()
        })
    }
}

//! Normalizers: what happens to the text before it is cut into pieces.

use serde::Deserialize;

use super::categories::{NONSPACING_MARKS, REMOVED, contains};
use super::charsmap::Charsmap;
use super::unicode::{Form, normalized, without_marks};

/// One step of the `normalizer` in `tokenizer.json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Normalize {
    Sequence {
        normalizers: Vec<Self>,
    },
    BertNormalizer(Bert),
    Precompiled {
        precompiled_charsmap: Charsmap,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    Prepend {
        prepend: String,
    },
    Lowercase,
    StripAccents,
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
}

/// BERT's cleaning; every step can be switched off.
#[derive(Debug, Deserialize)]
pub(super) struct Bert {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

/// What [`Normalize::Replace`] looks for.
#[derive(Debug, Deserialize)]
#[serde(try_from = "StoredPattern")]
pub(super) enum Pattern {
    Text(String),
    /// Two or more spaces.
    Spaces,
    /// One or more characters of any kind of white space.
    WhiteSpace,
}

#[derive(Deserialize)]
enum StoredPattern {
    String(String),
    Regex(String),
}

impl TryFrom<StoredPattern> for Pattern {
    type Error = String;

    fn try_from(stored: StoredPattern) -> Result<Self, String> {
        match stored {
            StoredPattern::String(text) if text.is_empty() => Err("an empty pattern cannot be replaced".into()),
            StoredPattern::String(text) => Ok(Self::Text(text)),
            StoredPattern::Regex(regex) if regex == " {2,}" => Ok(Self::Spaces),
            StoredPattern::Regex(regex) if regex == r"\s+" => Ok(Self::WhiteSpace),
            StoredPattern::Regex(regex) => Err(format!("the regular expression `{regex}` is not supported, only ` {{2,}}` and `\\s+` are")),
        }
    }
}

impl Pattern {
    /// Bytes of the least that it finds.
    fn shortest(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Spaces => 2,
            Self::WhiteSpace => 1,
        }
    }
}

impl Normalize {
    /// How many bytes it may make of one by what its file says; what Unicode says adds little.
    pub(super) fn growth(&self) -> usize {
        match self {
            Self::Sequence { normalizers } => normalizers.iter().fold(1, |growth: usize, step| growth.saturating_mul(step.growth())),
            Self::Precompiled { precompiled_charsmap } => precompiled_charsmap.longest().max(1),
            Self::Replace { pattern, content } => content.len().div_ceil(pattern.shortest()).max(1),
            Self::Prepend { prepend } => 1 + prepend.len(),
            _ => 1,
        }
    }

    pub(super) fn apply(&self, text: &str) -> String {
        match self {
            Self::Sequence { normalizers } => normalizers.iter().fold(text.into(), |text, step| step.apply(&text)),
            Self::BertNormalizer(bert) => bert.apply(text),
            Self::Precompiled { precompiled_charsmap } => precompiled_charsmap.apply(text),
            Self::Strip { strip_left, strip_right } => {
                let text = if *strip_left { text.trim_start() } else { text };
                if *strip_right { text.trim_end() } else { text }.into()
            }
            Self::Replace { pattern: Pattern::Text(from), content } => text.replace(from, content),
            Self::Replace { pattern: Pattern::Spaces, content } => replace_spaces(text, content),
            Self::Replace { pattern: Pattern::WhiteSpace, content } => replace_white_space(text, content),
            Self::Prepend { .. } if text.is_empty() => String::new(),
            Self::Prepend { prepend } => format!("{prepend}{text}"),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::StripAccents => without_marks(text),
            Self::Nfc => normalized(text, Form::Nfc),
            Self::Nfd => normalized(text, Form::Nfd),
            Self::Nfkc => normalized(text, Form::Nfkc),
            Self::Nfkd => normalized(text, Form::Nfkd),
        }
    }
}

fn replace_spaces(text: &str, content: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        out.push_str(&rest[..at]);
        out.push_str(content);
        rest = rest[at..].trim_start_matches(' ');
    }
    out + rest
}

fn replace_white_space(text: &str, content: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(char::is_whitespace) {
        out.push_str(&rest[..at]);
        out.push_str(content);
        rest = rest[at..].trim_start();
    }
    out + rest
}

impl Bert {
    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.clean_text {
            let kept = text.chars().filter(|&c| !contains(&REMOVED, c));
            text = kept.map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        }
        if self.handle_chinese_chars {
            let mut spaced = String::with_capacity(text.len());
            for c in text.chars() {
                if is_chinese(c) {
                    spaced.extend([' ', c, ' ']);
                } else {
                    spaced.push(c);
                }
            }
            text = spaced;
        }
        if self.strip_accents.unwrap_or(self.lowercase) {
            text = normalized(&text, Form::Nfd).chars().filter(|&c| !contains(&NONSPACING_MARKS, c)).collect();
        }
        if self.lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }
}

/// The CJK ideographs that BERT treats as words of their own (not kana, not Hangul).
const fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{2A6DF}' | '\u{2A700}'..='\u{2B73F}' | '\u{2B740}'..='\u{2B81F}'
        | '\u{2B920}'..='\u{2CEAF}' | '\u{2F800}'..='\u{2FA1F}')
}

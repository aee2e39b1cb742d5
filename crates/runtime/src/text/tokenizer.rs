//! `tokenizer.json`: the steps from a prompt to token ids, and the file they come from.

use std::borrow::Cow;
use std::collections::HashMap;

use kinora_kernels::sort_by_numbers;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::bpe::Bpe;
use super::normalize::Normalize;
use super::pre_tokenize::{Piece, PreTokenize};
use super::unigram::Unigram;
use super::wordpiece::WordPiece;
use crate::error::{Error, Result};
use crate::json::object;

/// Token ids of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether the end of the prompt was cut off.
    pub truncated: bool,
}

/// A `WordPiece`, Unigram or byte-pair tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    added: Vec<AddedToken>,
    normalizer: Option<Normalize>,
    pre_tokenizer: Option<PreTokenize>,
    model: Model,
    /// Ids before and after the prompt.
    before: Vec<u32>,
    after: Vec<u32>,
}

#[derive(Debug)]
enum Model {
    WordPiece(WordPiece),
    Unigram(Unigram),
    Bpe(Bpe),
}

impl Model {
    fn encode(&self, piece: &str, ids: &mut Vec<u32>) {
        match self {
            Self::WordPiece(model) => model.encode(piece, ids),
            Self::Unigram(model) => model.encode(piece, ids),
            Self::Bpe(model) => model.encode(piece, ids),
        }
    }

    fn id(&self, token: &str) -> Option<u32> {
        match self {
            Self::WordPiece(model) => model.id(token),
            Self::Unigram(model) => model.id(token),
            Self::Bpe(model) => model.id(token),
        }
    }

    /// Whether it has an id for every text. Byte-pair models may do without: they drop what they do not know.
    fn is_complete(&self) -> bool {
        match self {
            Self::WordPiece(model) => model.unknown().is_some(),
            Self::Unigram(model) => model.unknown().is_some(),
            Self::Bpe(_) => true,
        }
    }
}

/// A token that is found in the text before anything else happens, such as `</s>`.
#[derive(Debug, Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    lstrip: bool,
    rstrip: bool,
    /// Looked for in the normalised text instead of the original one.
    normalized: bool,
    single_word: bool,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Normalize>,
    pre_tokenizer: Option<PreTokenize>,
    post_processor: Option<Template>,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// Files of early versions do not name their model.
#[derive(Deserialize)]
struct ModelKind<'a> {
    #[serde(borrow, rename = "type")]
    name: Option<Cow<'a, str>>,
    unk_token: Option<IgnoredAny>,
    merges: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
#[expect(clippy::enum_variant_names, reason = "the names that the files have")]
enum Template {
    TemplateProcessing {
        single: Vec<Part>,
        special_tokens: HashMap<String, SpecialToken>,
    },
    BertProcessing {
        cls: (String, u32),
        sep: (String, u32),
    },
    RobertaProcessing {
        cls: (String, u32),
        sep: (String, u32),
    },
    /// Changes offsets only.
    ByteLevel {},
}

#[derive(Deserialize)]
enum Part {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct SpecialToken {
    ids: Vec<u32>,
}

impl Template {
    /// The ids before and after the prompt.
    fn around(self) -> Result<[Vec<u32>; 2], String> {
        let (single, special_tokens) = match self {
            Self::BertProcessing { cls, sep } | Self::RobertaProcessing { cls, sep } => return Ok([vec![cls.1], vec![sep.1]]),
            Self::ByteLevel {} => return Ok([Vec::new(), Vec::new()]),
            Self::TemplateProcessing { single, special_tokens } => (single, special_tokens),
        };
        let mut around = [Vec::new(), Vec::new()];
        let mut side = 0;
        for part in single {
            match part {
                Part::Sequence {} if side == 1 => return Err("the template repeats the text".into()),
                Part::Sequence {} => side = 1,
                Part::SpecialToken { id } => {
                    let token = special_tokens.get(&id).ok_or_else(|| format!("the template's `{id}` is not defined"))?;
                    around[side].extend(&token.ids);
                }
            }
        }
        Ok(around)
    }
}

/// Bytes that normalizers may make of one: those of published models stay below 100.
const MOST_GROWTH: usize = 500;

impl Tokenizer {
    /// Reads a `tokenizer.json` file.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Io`] if it cannot be read, else as [`from_json`](Self::from_json).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn from_file(path: impl AsRef<std::path::Path>) -> Result<Self> {
        Self::from_json(&crate::model_file::read(path.as_ref())?)
    }

    /// Reads the contents of a `tokenizer.json` file. Its truncation and padding settings are ignored.
    ///
    /// # Errors
    /// [`Error::InvalidTokenizer`] if it is malformed or has a step that is not supported.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        Self::parse(json).map_err(|problem| Error::InvalidTokenizer { problem })
    }

    fn parse(json: &[u8]) -> Result<Self, String> {
        let json = std::str::from_utf8(json).map_err(|e| e.to_string())?;
        let file: File<'_> = object(json).map_err(|e| e.to_string())?;
        let model = parse_model(file.model.get())?;
        let [before, after] = file.post_processor.map_or(Ok([Vec::new(), Vec::new()]), Template::around)?;
        if !model.is_complete() {
            return Err("the vocabulary has no token for what is unknown".into());
        }
        if let Some(token) = file.added_tokens.iter().find(|token| token.single_word || token.content.is_empty()) {
            return Err(format!("the added token `{}` is empty or limited to single words, which is not supported", token.content));
        }
        if file.normalizer.as_ref().is_some_and(|normalizer| normalizer.growth() > MOST_GROWTH) {
            return Err(format!("its normalizers may make more than {MOST_GROWTH} bytes of one"));
        }
        let mut added = file.added_tokens;
        // Where two match at the same place, the longer wins.
        sort_by_numbers(&mut added, |token| [u64::MAX - token.content.len() as u64, 0]);
        Ok(Self { added, normalizer: file.normalizer, pre_tokenizer: file.pre_tokenizer, model, before, after })
    }

    /// The id of a token, spelled as in the vocabulary.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        let added = self.added.iter().find(|added| added.content == token);
        added.map(|added| added.id).or_else(|| self.model.id(token))
    }

    /// Token ids of `text`, at most `max_len` of them, with the model's special tokens around.
    ///
    /// Special tokens count towards `max_len` but are never cut off.
    #[must_use]
    pub fn encode(&self, text: &str, max_len: usize) -> Encoding {
        let mut prompt = Vec::new();
        for (segment, first) in self.split_added(text, false, true) {
            let text = match segment {
                Segment::Token(id) => {
                    prompt.push(id);
                    continue;
                }
                Segment::Text(text) => self.normalizer.as_ref().map_or(Cow::Borrowed(text), |n| n.apply(text).into()),
            };
            for (segment, first) in self.split_added(&text, true, first) {
                match segment {
                    Segment::Token(id) => prompt.push(id),
                    Segment::Text(text) => self.encode_text(text, first, &mut prompt),
                }
            }
        }
        let room = max_len.saturating_sub(self.before.len() + self.after.len());
        let truncated = prompt.len() > room;
        prompt.truncate(room);
        let ids = [self.before.as_slice(), &prompt, &self.after].concat();
        Encoding { ids, truncated }
    }

    fn encode_text(&self, text: &str, first: bool, ids: &mut Vec<u32>) {
        let whole = vec![Piece { text: text.into(), first }];
        let pieces = match &self.pre_tokenizer {
            Some(step) => step.apply(whole),
            None => whole,
        };
        for piece in pieces {
            self.model.encode(&piece.text, ids);
        }
    }

    /// Cuts out added tokens; `first` tells whether `text` starts the prompt, and is told of each part.
    fn split_added<'a>(&self, text: &'a str, normalized: bool, first: bool) -> Vec<(Segment<'a>, bool)> {
        let mut segments = Vec::new();
        let (mut done, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            let found = self.added.iter().find(|t| t.normalized == normalized && text[at..].starts_with(&t.content));
            let Some(token) = found else {
                at += c.len_utf8();
                continue;
            };
            let before = if token.lstrip { text[done..at].trim_end() } else { &text[done..at] };
            if !before.is_empty() {
                segments.push((Segment::Text(before), first && done == 0));
            }
            segments.push((Segment::Token(token.id), false));
            at += token.content.len();
            if token.rstrip {
                at = text.len() - text[at..].trim_start().len();
            }
            done = at;
        }
        if done < text.len() {
            segments.push((Segment::Text(&text[done..]), first && done == 0));
        }
        segments
    }
}

enum Segment<'a> {
    Token(u32),
    Text(&'a str),
}

fn parse_model(json: &str) -> Result<Model, String> {
    let kind: ModelKind<'_> = object(json).map_err(|e| e.to_string())?;
    let early = || match (&kind.merges, &kind.unk_token) {
        (Some(_), _) => "BPE",
        (None, Some(_)) => "WordPiece",
        (None, None) => "Unigram",
    };
    let name = kind.name.as_deref().unwrap_or_else(early);
    match name {
        "WordPiece" => object(json).map(Model::WordPiece),
        "Unigram" => object(json).map(Model::Unigram),
        "BPE" => object(json).map(Model::Bpe),
        other => return Err(format!("the model `{other}` is not supported, only WordPiece, Unigram and BPE are")),
    }
    .map_err(|e| format!("the {name} model: {e}"))
}

//! The `tokenizer.json` that a SentencePiece model stands for, or what GGUF files keep of one: for weights that bring their tokenizer.

use serde_json::{Value, json};

/// The vocabulary of a Unigram model.
pub(crate) struct Pieces {
    /// Text, logarithm of the probability, and kind of each.
    pub(crate) list: Vec<(String, f32, u64)>,
    /// What is done to characters first, as [`Charsmap`](super::charsmap::Charsmap) reads it.
    pub(crate) charsmap: Vec<u8>,
    /// The token that ends a text.
    pub(crate) end: u32,
    /// The token for what is unknown.
    pub(crate) unknown: u32,
}

/// Kinds of pieces, which SentencePiece and GGUF number alike.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const BYTE: u64 = 6;

impl Pieces {
    /// Reads a `spiece.model`: a message of protocol buffers (`sentencepiece_model.proto`).
    pub(crate) fn from_model(bytes: &[u8]) -> Result<Self, String> {
        const UNIGRAM: u64 = 1;
        let broken = || "the SentencePiece model is cut off".to_owned();
        let mut pieces = Self { list: Vec::new(), charsmap: Vec::new(), end: 2, unknown: 0 };
        for (number, field) in fields(bytes).ok_or_else(broken)? {
            let inner = || fields(field.bytes()).ok_or_else(broken);
            match number {
                1 => {
                    let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
                    for (number, field) in inner()? {
                        match number {
                            1 => text = std::str::from_utf8(field.bytes()).map_err(|e| e.to_string())?.to_owned(),
                            2 => score = f32::from_bits(field.number() as u32),
                            3 => kind = field.number(),
                            _ => {}
                        }
                    }
                    pieces.list.push((text, score, kind));
                }
                2 => {
                    for (number, field) in inner()? {
                        match number {
                            3 if field.number() != UNIGRAM => return Err("the SentencePiece model is no Unigram model".into()),
                            40 => pieces.unknown = field.number() as u32,
                            42 => pieces.end = field.number() as u32,
                            _ => {}
                        }
                    }
                }
                3 => {
                    let map = inner()?.into_iter().find(|(number, _)| *number == 2);
                    pieces.charsmap = map.map(|(_, field)| field.bytes().to_vec()).unwrap_or_default();
                }
                _ => {}
            }
        }
        Ok(pieces)
    }

    /// The tokenizer as T5 and UMT5 are published: the end after the text, spaces as parts of words.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, String> {
        let text = |id: u32| self.list.get(id as usize).map(|(text, ..)| text.as_str());
        let (Some(end), Some(_)) = (text(self.end), text(self.unknown)) else {
            return Err(format!(
                "a vocabulary of {} pieces has no end token {} or unknown token {}",
                self.list.len(),
                self.end,
                self.unknown
            ));
        };
        let special = |(id, (content, _, kind)): (usize, &(String, f32, u64))| {
            let normalized = *kind == USER_DEFINED;
            json!({ "id": id, "content": content, "lstrip": false, "rstrip": false, "single_word": false, "normalized": normalized })
        };
        let is_special = |(_, (_, _, kind)): &(usize, &(String, f32, u64))| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind);
        let added: Vec<Value> = self.list.iter().enumerate().filter(is_special).map(special).collect();
        let mut normalizers = vec![
            json!({ "type": "Strip", "strip_left": false, "strip_right": true }),
            json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": "▁" }),
        ];
        if !self.charsmap.is_empty() {
            normalizers.insert(0, json!({ "type": "Precompiled", "precompiled_charsmap": base64(&self.charsmap) }));
        }
        let vocabulary: Vec<Value> = self.list.iter().map(|(text, score, _)| json!([text, score])).collect();
        let file = json!({
            "added_tokens": added,
            "normalizer": { "type": "Sequence", "normalizers": normalizers },
            "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": end, "type_id": 0 } }],
                "special_tokens": { end: { "ids": [self.end] } },
            },
            "model": {
                "type": "Unigram",
                "unk_id": self.unknown,
                "byte_fallback": self.list.iter().any(|(_, _, kind)| *kind == BYTE),
                "vocab": vocabulary,
            },
        });
        Ok(file.to_string().into_bytes())
    }
}

/// A field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

/// Numbers and contents of a message's fields.
fn fields(mut rest: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut rest)?),
            1 => Field::Number(u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
            2 => {
                let length = varint(&mut rest)?;
                Field::Bytes(take(&mut rest, usize::try_from(length).ok()?)?)
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?).into()),
            _ => return None,
        };
        found.push((tag >> 3, field));
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = |i: usize| if i <= group.len() { char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]) } else { '=' };
        text.extend((0..4).map(digit));
    }
    text
}

//! `SentencePiece`'s precompiled character map: a trie of strings and what replaces them.
//!
//! Layout: u32 size of the trie in bytes, the trie, then NUL-terminated UTF-8 replacements. The trie is
//! a double array of u32 units (darts-clone): bits 0–7 the label, bit 8 whether a value follows, bit 9
//! whether the offset is shifted by 8, bits 10–30 the offset; a value is a unit with bit 31 set.

use serde::Deserialize;

use super::unicode::graphemes;

/// A character map, read from base64.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    replacements: Vec<u8>,
}

impl TryFrom<String> for Charsmap {
    type Error = &'static str;

    fn try_from(base64: String) -> Result<Self, Self::Error> {
        let bytes = decode_base64(base64.as_bytes()).ok_or("precompiled_charsmap is not base64")?;
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or("precompiled_charsmap is empty")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (trie, replacements) = rest.split_at_checked(size).ok_or("the trie of precompiled_charsmap is cut off")?;
        let (units, ragged) = trie.as_chunks::<4>();
        if !ragged.is_empty() || units.is_empty() {
            return Err("the trie of precompiled_charsmap is not a list of 32-bit units");
        }
        Ok(Self { trie: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(), replacements: replacements.to_vec() })
    }
}

impl Charsmap {
    /// Bytes of the longest replacement.
    pub(super) fn longest(&self) -> usize {
        self.replacements.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0)
    }

    /// Replaces what the map knows.
    ///
    /// As in the reference: a short grapheme is looked up as a whole, a longer one, or one that is
    /// unknown, character by character.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for grapheme in graphemes(text) {
            if let Some(replacement) = self.find(grapheme).filter(|_| grapheme.len() < 6) {
                out.push_str(replacement);
                continue;
            }
            for c in grapheme.chars() {
                match self.find(c.encode_utf8(&mut [0; 4])) {
                    Some(replacement) => out.push_str(replacement),
                    None => out.push(c),
                }
            }
        }
        out
    }

    /// What replaces the shortest prefix of `key` that the map knows; the caller replaces all of `key`.
    fn find(&self, key: &str) -> Option<&str> {
        let mut node = 0;
        let mut unit = *self.trie.first()?;
        for byte in key.bytes().take_while(|&b| b != 0) {
            node ^= offset(unit) ^ usize::from(byte);
            unit = *self.trie.get(node)?;
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                return None;
            }
            if unit >> 8 & 1 == 1 {
                let value = *self.trie.get(node ^ offset(unit))? & !(1 << 31);
                let rest = self.replacements.get(value as usize..)?;
                let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
                return std::str::from_utf8(&rest[..end]).ok();
            }
        }
        None
    }
}

const fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

/// Standard base64 with or without padding.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, a, b, c] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        let kept = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bytes.extend_from_slice(&[a, b, c][..kept]);
    }
    Some(bytes)
}

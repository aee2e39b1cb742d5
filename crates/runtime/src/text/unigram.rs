//! Unigram: the most probable way to cut a piece of text into vocabulary entries (Kudo, 2018).

use std::collections::HashMap;

use serde::Deserialize;

/// How much less probable an unknown character is than the rarest entry, as a logarithm.
const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Debug, Deserialize)]
#[serde(from = "Stored")]
pub(super) struct Unigram {
    /// Entry to id and logarithm of its probability.
    entries: HashMap<String, (u32, f64)>,
    unk_id: Option<u32>,
    unknown_score: f64,
    longest_bytes: usize,
    /// The ids of all bytes, if unknown characters are spelled in bytes.
    bytes: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Stored {
    vocab: Vec<(String, f64)>,
    unk_id: Option<u32>,
    #[serde(default)]
    byte_fallback: bool,
}

impl From<Stored> for Unigram {
    fn from(stored: Stored) -> Self {
        let lowest = stored.vocab.iter().fold(f64::INFINITY, |low, (_, score)| low.min(*score));
        let longest_bytes = stored.vocab.iter().map(|(entry, _)| entry.len()).max().unwrap_or(0);
        let count = stored.vocab.len();
        let entries: HashMap<_, _> = stored.vocab.into_iter().zip(0..).map(|((entry, score), id)| (entry, (id, score))).collect();
        let bytes = || byte_ids(|token| entries.get(token).map(|&(id, _)| id));
        Self {
            bytes: stored.byte_fallback.then(bytes).flatten(),
            entries,
            unk_id: stored.unk_id.filter(|&id| (id as usize) < count),
            unknown_score: lowest - UNKNOWN_PENALTY,
            longest_bytes,
        }
    }
}

/// The ids of the tokens `<0x00>` to `<0xFF>`; `None` if one is missing.
pub(super) fn byte_ids(id: impl Fn(&str) -> Option<u32>) -> Option<Vec<u32>> {
    (0..=u8::MAX).map(|byte| id(&format!("<0x{byte:02X}>"))).collect()
}

/// The best way found to reach a position.
#[derive(Clone, Copy)]
struct Arrival {
    score: f64,
    start: usize,
    id: u32,
}

impl Unigram {
    /// The id of what is not in the vocabulary; the loader has checked that there is one.
    pub(super) const fn unknown(&self) -> Option<u32> {
        self.unk_id
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.entries.get(token).map(|&(id, _)| id)
    }

    /// Appends the ids of a piece (Viterbi); neighbouring unknown characters become one unknown id, or their bytes.
    pub(super) fn encode(&self, piece: &str, ids: &mut Vec<u32>) {
        let Some(unknown) = self.unk_id else { return };
        let mut best: Vec<Option<Arrival>> = vec![None; piece.len() + 1];
        let offer = |best: &mut [Option<Arrival>], end: usize, arrival: Arrival| {
            // On equal scores the earlier start stays, as in the reference.
            if best[end].is_none_or(|known| arrival.score > known.score) {
                best[end] = Some(arrival);
            }
        };
        for (start, first) in piece.char_indices() {
            let so_far = best[start].map_or(0.0, |arrival| arrival.score);
            let rest = &piece[start..];
            let mut single = false;
            for (at, c) in rest.char_indices() {
                let length = at + c.len_utf8();
                if length > self.longest_bytes {
                    break;
                }
                if let Some(&(id, score)) = self.entries.get(&rest[..length]) {
                    offer(&mut best, start + length, Arrival { score: score + so_far, start, id });
                    single |= length == first.len_utf8();
                }
            }
            if !single {
                let score = self.unknown_score + so_far;
                offer(&mut best, start + first.len_utf8(), Arrival { score, start, id: unknown });
            }
        }
        let before = ids.len();
        let mut end = piece.len();
        while let Some(Arrival { start, id, .. }) = best[end].filter(|_| end > 0) {
            match &self.bytes {
                Some(bytes) if id == unknown => ids.extend(piece[start..end].bytes().rev().map(|byte| bytes[usize::from(byte)])),
                _ if id != unknown || ids[before..].last() != Some(&unknown) => ids.push(id),
                _ => {}
            }
            end = start;
        }
        ids[before..].reverse();
    }
}

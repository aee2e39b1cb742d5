//! Byte-pair encoding: neighbouring tokens of a word are joined, the pair learned first before all others (Sennrich et al.,
//! 2016).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde::Deserialize;

use super::unigram::byte_ids;

#[derive(Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub(super) struct Bpe {
    vocab: HashMap<String, u32>,
    /// Two neighbours to rank and id of what they become.
    merges: HashMap<[u32; 2], (u32, u32)>,
    unknown: Option<u32>,
    /// Neighbouring unknown characters become one.
    fuse_unk: bool,
    /// The ids of all bytes, if unknown characters are spelled in bytes.
    bytes: Option<Vec<u32>>,
    /// Before every character of a word but the first.
    prefix: String,
    /// Behind the last character of a word.
    suffix: String,
    /// A word that is a token as a whole is not looked at further.
    ignore_merges: bool,
}

#[derive(Deserialize)]
struct Stored {
    vocab: HashMap<String, u32>,
    merges: Vec<Pair>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// A merge, as new and as old files write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Apart([String; 2]),
    Together(String),
}

impl Pair {
    fn parts(&self) -> Option<[&str; 2]> {
        match self {
            Self::Apart([left, right]) => Some([left, right]),
            Self::Together(both) => both.split_once(' ').map(<[&str; 2]>::from),
        }
    }
}

impl TryFrom<Stored> for Bpe {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored { vocab, fuse_unk, ignore_merges, .. } = stored;
        let prefix = stored.continuing_subword_prefix.unwrap_or_default();
        let id = |token: &str| vocab.get(token).copied().ok_or_else(|| format!("it needs `{token}`, which the vocabulary lacks"));
        let mut merges = HashMap::with_capacity(stored.merges.len());
        for (rank, pair) in stored.merges.iter().enumerate() {
            let [left, right] = pair.parts().ok_or_else(|| format!("merge {rank} is not a pair"))?;
            let joined = format!("{left}{}", right.strip_prefix(prefix.as_str()).unwrap_or(right));
            merges.insert([id(left)?, id(right)?], (rank as u32, id(&joined)?));
        }
        Ok(Self {
            unknown: stored.unk_token.map(|token| id(&token)).transpose()?,
            // Without a token for some byte the reference falls back no further than to the unknown token.
            bytes: stored.byte_fallback.then(|| byte_ids(|token| vocab.get(token).copied())).flatten(),
            vocab,
            merges,
            fuse_unk,
            prefix,
            suffix: stored.end_of_word_suffix.unwrap_or_default(),
            ignore_merges,
        })
    }
}

/// A token of a word, in a doubly linked list so that joining costs nothing.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    previous: usize,
    next: usize,
    joined: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl Bpe {
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.vocab.get(token).copied()
    }

    /// Appends the ids of a word.
    pub(super) fn encode(&self, word: &str, ids: &mut Vec<u32>) {
        if self.ignore_merges
            && let Some(&id) = self.vocab.get(word)
        {
            ids.push(id);
            return;
        }
        let characters = self.characters(word);
        ids.extend(self.join(&characters));
    }

    /// The ids of the single characters.
    fn characters(&self, word: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = Vec::with_capacity(word.len());
        let mut after_unknown = false;
        let mut token = String::new();
        for (at, c) in word.char_indices() {
            let last = at + c.len_utf8() == word.len();
            token.clear();
            token.push_str(if at > 0 { &self.prefix } else { "" });
            token.push(c);
            token.push_str(if last { &self.suffix } else { "" });
            let known = self.vocab.get(&token).copied();
            let spelled = self.bytes.as_ref().filter(|_| known.is_none());
            match (known, spelled, self.unknown) {
                (Some(id), ..) => ids.push(id),
                (None, Some(bytes), _) => ids.extend(token.bytes().map(|byte| bytes[usize::from(byte)])),
                (None, None, Some(unknown)) if !(self.fuse_unk && after_unknown) => ids.push(unknown),
                (None, None, _) => {}
            }
            after_unknown = known.is_none() && spelled.is_none();
        }
        ids
    }

    /// Joins neighbours, the pair of the lowest rank first, the leftmost of several.
    fn join(&self, ids: &[u32]) -> impl Iterator<Item = u32> {
        let count = ids.len();
        let link = |i: usize| if i < count { i } else { NONE };
        let symbol = |(i, &id): (usize, &u32)| Symbol { id, previous: i.wrapping_sub(1), next: link(i + 1), joined: false };
        let mut symbols: Vec<Symbol> = ids.iter().enumerate().map(symbol).collect();
        let merge = |symbols: &[Symbol], left: usize| {
            let right = symbols.get(symbols[left].next)?;
            self.merges.get(&[symbols[left].id, right.id]).map(|&(rank, id)| Reverse((rank, left, id)))
        };
        let mut queue: BinaryHeap<_> = (0..count).filter_map(|left| merge(&symbols, left)).collect();
        while let Some(Reverse((_, left, id))) = queue.pop() {
            // A pair of which one has been joined with another token since is no pair any more.
            let still = merge(&symbols, left).is_some_and(|Reverse((_, _, now))| now == id);
            if symbols[left].joined || !still {
                continue;
            }
            let right = symbols[left].next;
            let after = symbols[right].next;
            symbols[left] = Symbol { id, next: after, ..symbols[left] };
            symbols[right].joined = true;
            if after != NONE {
                symbols[after].previous = left;
            }
            let previous = symbols[left].previous;
            queue.extend([previous, left].into_iter().filter(|&at| at != NONE).filter_map(|at| merge(&symbols, at)));
        }
        symbols.into_iter().filter(|symbol| !symbol.joined).map(|symbol| symbol.id)
    }
}

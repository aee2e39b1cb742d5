//! `WordPiece`: each word is cut, from the left, into the longest pieces that the vocabulary knows.

use std::collections::HashMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct WordPiece {
    vocab: HashMap<String, u32>,
    unk_token: String,
    #[serde(default = "hashes")]
    continuing_subword_prefix: String,
    #[serde(default = "hundred")]
    max_input_chars_per_word: usize,
}

fn hashes() -> String {
    "##".into()
}

const fn hundred() -> usize {
    100
}

impl WordPiece {
    /// The id that stands for words it cannot cut; the loader has checked that there is one.
    pub(super) fn unknown(&self) -> Option<u32> {
        self.vocab.get(&self.unk_token).copied()
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.vocab.get(token).copied()
    }

    /// Appends the ids of a word; a word with a part that is unknown becomes unknown as a whole.
    pub(super) fn encode(&self, word: &str, ids: &mut Vec<u32>) {
        let before = ids.len();
        if word.chars().count() > self.max_input_chars_per_word || self.cut(word, ids).is_none() {
            ids.truncate(before);
            ids.extend(self.unknown());
        }
    }

    fn cut(&self, word: &str, ids: &mut Vec<u32>) -> Option<()> {
        let prefix = &self.continuing_subword_prefix;
        // The rest of the word behind the prefix: every candidate is a slice of this.
        let mut candidate = format!("{prefix}{word}");
        let mut rest = word;
        while !rest.is_empty() {
            let whole = if rest.len() == word.len() { rest } else { candidate.as_str() };
            let head = whole.len() - rest.len();
            let ends = rest.char_indices().rev().map(|(at, c)| at + c.len_utf8());
            let (end, id) = ends.filter_map(|end| Some((end, *self.vocab.get(whole.get(..head + end)?)?))).next()?;
            ids.push(id);
            rest = &rest[end..];
            candidate.truncate(prefix.len());
            candidate.push_str(rest);
        }
        Some(())
    }
}

//! Text: prompts to token ids.
//!
//! Tokenizers are read from `tokenizer.json`, the file that Hugging Face models carry. The three
//! families that video models use are covered: `WordPiece` with BERT's cleaning, Unigram with the
//! `SentencePiece` normalisation of T5, and byte-pair encoding as in CLIP and GPT-2. The goal is the same ids, string by string, including the
//! reference's oddities; `kitoken` was tried first and rejects the steps of current T5 files.

mod bpe;
mod categories;
mod charsmap;
mod normalize;
mod pre_tokenize;
mod sentencepiece;
mod split;
mod tokenizer;
pub mod unicode;
mod unigram;
mod wordpiece;

pub(crate) use sentencepiece::Pieces;
pub use tokenizer::{Encoding, Tokenizer};

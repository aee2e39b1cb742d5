//! Tokenizers that travel inside of weight files: ComfyUI's `spiece_model`, GGUF's `tokenizer.ggml`.

use super::checkpoint::Checkpoint;
use super::gguf;
use super::tensor::DType;
use crate::error::{Error, Result};
use crate::text::Pieces;

impl Checkpoint {
    /// Contents of the `tokenizer.json` that the file's own tokenizer stands for, if it has one.
    ///
    /// # Errors
    /// [`Error::InvalidTokenizer`] if it is damaged or of another kind than Unigram.
    pub fn tokenizer(&self) -> Result<Option<Vec<u8>>> {
        let invalid = |problem: String| Error::InvalidTokenizer { problem: format!("that of {}: {problem}", self.label()) };
        let pieces = match self.get("spiece_model") {
            Ok(model) if model.dtype == DType::U8 => Pieces::from_model(&model.bytes).map_err(invalid)?,
            _ => match self.metadata("tokenizer.ggml.model") {
                Some("t5") => self.ggml_pieces().ok_or_else(|| invalid("its lists are cut off or do not fit".into()))?,
                _ => return Ok(None),
            },
        };
        pieces.to_json().map(Some).map_err(invalid)
    }

    fn ggml_pieces(&self) -> Option<Pieces> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let array = |name: &str| self.array(&key(name));
        let number = |name: &str, default| self.metadata(&key(name)).map_or(Some(default), |text| text.parse().ok());
        let (tokens, scores, kinds) = (array("tokens")?, array("scores")?, array("token_type")?);
        let (tokens, scores, kinds) = (gguf::texts(&tokens)?, gguf::numbers(&scores)?, gguf::numbers(&kinds)?);
        let charsmap = array("precompiled_charsmap").map_or(Some(Vec::new()), |map| gguf::numbers(&map))?;
        (tokens.len() == scores.len() && tokens.len() == kinds.len()).then_some(())?;
        Some(Pieces {
            list: tokens
                .into_iter()
                .zip(scores)
                .zip(kinds)
                .map(|((text, score), kind)| (text, f32::from_bits(score as u32), kind))
                .collect(),
            charsmap: charsmap.into_iter().map(|byte| byte as u8).collect(),
            end: number("eos_token_id", 1)?,
            unknown: number("unknown_token_id", 2)?,
        })
    }
}

//! `config.json`: the arguments of the official class.

use serde::Deserialize;

use crate::error::Result;
use crate::models::dit::{DitConfig, TransformerConfig};
use crate::models::{parse_config, require};

/// `MDTv2` of github.com/sail-sg/MDT.
#[derive(Clone, Debug)]
pub struct MdtConfig {
    /// What it has in common with the official `DiT`.
    pub dit: TransformerConfig,
    /// Blocks of the decoder.
    pub decode_layer: usize,
}

/// Blocks of the decoder in all published models.
pub(super) const DECODE_LAYER: usize = 4;

#[derive(Deserialize)]
#[serde(default)]
struct Own {
    decode_layer: usize,
}

impl Default for Own {
    fn default() -> Self {
        Self { decode_layer: DECODE_LAYER }
    }
}

impl MdtConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let dit = DitConfig::parse(json, file)?.as_transformer();
        let Own { decode_layer } = parse_config(json, file)?;
        let encoder = dit.num_layers.checked_sub(decode_layer);
        let halves = encoder.is_some_and(|blocks| blocks > 0 && blocks.is_multiple_of(2)) && decode_layer > 0;
        let expected = format!("from 1 on, and an even number below depth, {}", dit.num_layers);
        require(file, "decode_layer", &decode_layer, halves, &expected)?;
        Ok(Self { dit, decode_layer })
    }

    /// Blocks of each half of the encoder.
    pub(super) fn half(&self) -> usize {
        (self.dit.num_layers - self.decode_layer) / 2
    }
}

//! The arguments of the constructor as a `config.json`.

use serde::Deserialize;

use crate::error::Result;
use crate::models::config::{parse_config, require};

/// `config.json` of a `TAEHV`. How wide its layers are is said by its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TaehvConfig {
    /// Which stages of the encoder halve time.
    pub encoder_time_downscale: Vec<bool>,
    /// Which stages of the decoder double time; the first may be left out.
    pub decoder_time_upscale: Vec<bool>,
    /// Which stages of the decoder double space.
    pub decoder_space_upscale: Vec<bool>,
    /// Edge of the blocks of pixels that become channels.
    pub patch_size: usize,
    /// C.
    pub latent_channels: usize,
    /// `null`, or `super`, which is another decoder.
    pub arch_variant: Option<String>,
}

impl Default for TaehvConfig {
    fn default() -> Self {
        Self {
            encoder_time_downscale: vec![true, true, false],
            decoder_time_upscale: vec![false, true, true],
            decoder_space_upscale: vec![true; 3],
            patch_size: 1,
            latent_channels: 16,
            arch_variant: None,
        }
    }
}

/// Stages of an encoder and of a decoder.
pub(super) const STAGES: usize = 3;

impl TaehvConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let mut config: Self = parse_config(json, file)?;
        if config.decoder_time_upscale.len() + 1 == STAGES {
            config.decoder_time_upscale.insert(0, false);
        }
        for (name, stages) in [
            ("encoder_time_downscale", &config.encoder_time_downscale),
            ("decoder_time_upscale", &config.decoder_time_upscale),
            ("decoder_space_upscale", &config.decoder_space_upscale),
        ] {
            require(file, name, &format!("{stages:?}"), stages.len() == STAGES, "three of true and false")?;
        }
        let variant = config.arch_variant.as_deref().unwrap_or("null");
        require(file, "arch_variant", &variant, config.arch_variant.is_none(), "null; the decoder `super` is not supported")?;
        require(file, "patch_size", &config.patch_size, (1..=8).contains(&config.patch_size), "1 to 8")?;
        require(file, "latent_channels", &config.latent_channels, config.latent_channels > 0, "at least 1")?;
        Ok(config)
    }

    /// Frames per latent frame of the decoder.
    pub(super) fn frames_made(&self) -> usize {
        self.decoder_time_upscale.iter().map(|doubles| 1 + usize::from(*doubles)).product()
    }

    /// Frames per latent frame of the encoder.
    pub(super) fn frames_taken(&self) -> usize {
        self.encoder_time_downscale.iter().map(|halves| 1 + usize::from(*halves)).product()
    }

    /// Rows and columns of pixels per latent of the decoder.
    pub(super) fn pixels_made(&self) -> usize {
        self.decoder_space_upscale.iter().map(|doubles| 1 + usize::from(*doubles)).product::<usize>().saturating_mul(self.patch_size)
    }
}

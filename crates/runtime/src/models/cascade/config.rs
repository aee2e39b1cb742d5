//! `config.json` of a stage of the cascade.

use serde::Deserialize;

use crate::error::Result;
use crate::models::family::Doubles;
use crate::models::{parse_config, require};

/// More would be another architecture.
const MOST_RESOLUTIONS: usize = 6;

/// The extents of a stage.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StageConfig {
    /// Factor of height and width, 1 or 2.
    pub scale: usize,
    /// Whether it makes the frames between those given.
    pub between: bool,
    /// Channels of each resolution, from half of the frame's down.
    pub channels: Vec<usize>,
    /// Residual blocks of each resolution.
    pub blocks: Vec<usize>,
    /// How much of the autoencoder's error decoded frames are said to have, from 0 (none) to 1.
    #[serde(default = "decoded")]
    pub level: f32,
}

fn decoded() -> f32 {
    1.0
}

impl StageConfig {
    /// Reads and checks the text of a `config.json` called `file`.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let kinds = [(1, true), (2, false)];
        require(file, "scale", &config.scale, kinds.contains(&(config.scale, config.between)), "1 with `between`, 2 without")?;
        let resolutions = config.channels.len();
        require(file, "channels", &resolutions, (2..=MOST_RESOLUTIONS).contains(&resolutions), "2 to 6 resolutions")?;
        require(file, "channels", &0, !config.channels.contains(&0), "at least 1")?;
        require(file, "blocks", &config.blocks.len(), config.blocks.len() == resolutions, "a number for each of `channels`")?;
        require(file, "level", &config.level, (0.0..=1.0).contains(&config.level), "0 to 1")?;
        Ok(config)
    }

    /// What it doubles.
    pub fn doubles(&self) -> Doubles {
        if self.between { Doubles::Frames } else { Doubles::Pixels }
    }
}

//! TAEHV: tiny autoencoders for the latents of other models (github.com/madebyollin/taehv), in the layout of their authors.

mod autoencoder;
mod blocks;
mod config;
mod decoder;
mod encoder;
mod layouts;

pub use config::TaehvConfig;
pub use decoder::TaehvDecoder;
pub use encoder::TaehvEncoder;

use super::component::Component;
use super::family::{ComponentClass, Family};
use crate::error::Result;
use crate::models::LatentStats;
use crate::nn::Weights;

/// TAEHV.
pub const FAMILY: Family = Family {
    name: "taehv",
    pipelines: &[],
    layouts: layouts::LAYOUTS,
    components: &[ComponentClass {
        name: "TAEHV",
        load: |source| {
            let config = TaehvConfig::parse(source.config, source.file)?;
            Ok(Component::Autoencoder(Box::new(Taehv::load(&source.weights, config)?)))
        },
    }],
};

/// `TAEHV`.
pub struct Taehv {
    /// Its configuration.
    pub config: TaehvConfig,
    /// Frames to latents.
    pub encoder: TaehvEncoder,
    /// Latents to frames.
    pub decoder: TaehvDecoder,
    /// It takes latents as the diffusion model has them.
    stats: LatentStats,
}

impl Taehv {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: TaehvConfig) -> Result<Self> {
        let channels = config.latent_channels;
        Ok(Self {
            encoder: TaehvEncoder::load(&w.scope("encoder"), &config)?,
            decoder: TaehvDecoder::load(&w.scope("decoder"), &config)?,
            stats: LatentStats::new(vec![0.0; channels], &vec![1.0; channels], 1.0),
            config,
        })
    }
}

//! The video autoencoder as a whole.

use super::{VaeConfig, VaeDecoder, VaeEncoder};
use crate::error::Result;
use crate::models::LatentStats;
use crate::nn::Weights;

/// `AutoencoderKLWan`.
pub struct Vae {
    /// Its configuration.
    pub config: VaeConfig,
    /// Frames to latents.
    pub encoder: VaeEncoder,
    /// Latents to frames.
    pub decoder: VaeDecoder,
    /// What the diffusion model's latents are normalised with; the class itself does not use it.
    pub stats: LatentStats,
}

impl Vae {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            encoder: VaeEncoder::load(w, config)?,
            decoder: VaeDecoder::load(w, config)?,
            stats: LatentStats::new(config.latents_mean.clone(), &config.latents_std, 1.0),
        })
    }
}

//! The video autoencoder as a whole.

use super::{VaeConfig, VaeDecoder, VaeEncoder};
use crate::error::Result;
use crate::models::LatentStats;
use crate::nn::Weights;

/// `AutoencoderKLLTXVideo`.
pub struct Vae {
    /// Its configuration.
    pub config: VaeConfig,
    /// Frames to latents.
    pub encoder: VaeEncoder,
    /// Latents to frames.
    pub decoder: VaeDecoder,
    /// What the diffusion model's latents are normalised with.
    pub stats: LatentStats,
}

impl Vae {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType), [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            encoder: VaeEncoder::load(&w.scope("encoder"), config)?,
            decoder: VaeDecoder::load(&w.scope("decoder"), config)?,
            stats: latent_stats(w, config)?,
        })
    }
}

/// `latents_mean` and `latents_std` of this scope; 0 and 1 if the checkpoint has none.
fn latent_stats(w: &Weights<'_>, config: &VaeConfig) -> Result<LatentStats> {
    let channels = config.latent_channels;
    let buffer = |name: &str, absent: f32| if w.contains(name) { w.values(name, &[channels]) } else { Ok(vec![absent; channels]) };
    Ok(LatentStats::new(buffer("latents_mean", 0.0)?, &buffer("latents_std", 1.0)?, config.scaling_factor))
}

//! The video autoencoder as a whole.

use serde::Deserialize;

use super::{VaeConfig, VaeDecoder, VaeEncoder};
use crate::error::Result;
use crate::manifest::Index;
use crate::models::LatentStats;
use crate::nn::Weights;

/// What the `kinora` object of `model_index.json` may say of decoding: arguments of the reference's pipelines, for a decoder that is
/// conditioned on the noise left in the latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Decoding {
    /// The level of noise it is told, from 0 to 1.
    pub decode_timestep: f32,
    /// The share of noise that the latents get; the level it is told, if absent.
    pub decode_noise_scale: Option<f32>,
}

impl Decoding {
    /// What `index` says.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn of(index: &Index) -> Result<Self> {
        let own: Self = index.kinora()?;
        let found = [own.decode_timestep, own.decode_noise_scale.unwrap_or_default()];
        if found.iter().all(|share| (0.0..=1.0).contains(share)) {
            return Ok(own);
        }
        Err(index.invalid(format!("`kinora.decode_timestep` and `kinora.decode_noise_scale`: expected 0 to 1, found {found:?}")))
    }
}

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
    /// How it decodes.
    pub decoding: Decoding,
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
            decoding: Decoding::default(),
        })
    }
}

/// `latents_mean` and `latents_std` of this scope; 0 and 1 if the checkpoint has none.
fn latent_stats(w: &Weights<'_>, config: &VaeConfig) -> Result<LatentStats> {
    let channels = config.latent_channels;
    let buffer = |name: &str, absent: f32| if w.contains(name) { w.values(name, &[channels]) } else { Ok(vec![absent; channels]) };
    Ok(LatentStats::new(buffer("latents_mean", 0.0)?, &buffer("latents_std", 1.0)?, config.scaling_factor))
}

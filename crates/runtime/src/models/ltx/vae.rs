//! The video autoencoder as a whole, and the statistics its latents are normalised with.

use kinora_kernels::{Plan, Tensor};

use super::{VaeConfig, VaeDecoder, VaeEncoder};
use crate::error::Result;
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
            stats: LatentStats::load(w, config)?,
        })
    }
}

/// Mean and scale per latent channel: the diffusion model works on `(z − mean) / std · scaling_factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentStats {
    mean: Vec<f32>,
    /// `std / scaling_factor`.
    scale: Vec<f32>,
}

impl LatentStats {
    /// `latents_mean` and `latents_std` of this scope; 0 and 1 if the checkpoint has none.
    ///
    /// # Errors
    /// [`WrongShape`](crate::Error::WrongShape), [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let channels = config.latent_channels;
        let buffer = |name: &str, absent: f32| if w.contains(name) { w.values(name, &[channels]) } else { Ok(vec![absent; channels]) };
        let std = buffer("latents_std", 1.0)?;
        Ok(Self { mean: buffer("latents_mean", 0.0)?, scale: std.iter().map(|s| s / config.scaling_factor).collect() })
    }

    /// Latents of the autoencoder `[.., C]`, channels last, to those of the diffusion model, on the host.
    pub fn normalize(&self, z: &mut [f32]) {
        for pixel in z.chunks_exact_mut(self.mean.len()) {
            for ((z, mean), scale) in pixel.iter_mut().zip(&self.mean).zip(&self.scale) {
                *z = (*z - mean) / scale;
            }
        }
    }

    /// Latents of the diffusion model `[.., C]` to those of the autoencoder, recorded on the plan.
    pub fn denormalize<'p>(&self, plan: &'p Plan, z: Tensor<'p>) -> Tensor<'p> {
        let row = |values: &[f32]| plan.constant(&[1, values.len()], values);
        plan.scope("denormalize", || z * row(&self.scale) + row(&self.mean))
    }
}

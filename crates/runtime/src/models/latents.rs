//! [`LatentStats`]: how latents of an autoencoder become those of a diffusion model, and back.

use kinora_kernels::{Plan, Tensor};

/// Mean and scale per latent channel: the diffusion model works on `(z − mean) / std · scaling_factor`.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentStats {
    mean: Vec<f32>,
    /// `std / scaling_factor`.
    scale: Vec<f32>,
}

impl LatentStats {
    /// Means and standard deviations of as many channels, and the factor of what is normalised by them.
    pub fn new(mean: Vec<f32>, std: &[f32], scaling_factor: f32) -> Self {
        Self { mean, scale: std.iter().map(|s| s / scaling_factor).collect() }
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

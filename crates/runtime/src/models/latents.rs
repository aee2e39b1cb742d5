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

    /// Latents of the diffusion model `[C, F, H, W]` of which a `share` becomes noise once they are those of the autoencoder.
    pub fn add_noise(&self, latents: &mut [f32], share: f32, noise: &[f32]) {
        let of_channel = (latents.len() / self.mean.len()).max(1);
        let channels = latents.chunks_exact_mut(of_channel).zip(noise.chunks_exact(of_channel));
        for (((latents, noise), mean), scale) in channels.zip(&self.mean).zip(&self.scale) {
            for (x, noise) in latents.iter_mut().zip(noise) {
                *x = (1.0 - share) * *x + share * (noise - mean) / scale;
            }
        }
    }

    /// Latents of the diffusion model `[.., C]` to those of the autoencoder, recorded on the plan.
    pub fn denormalize<'p>(&self, plan: &'p Plan, z: Tensor<'p>) -> Tensor<'p> {
        let row = |values: &[f32]| plan.constant(&[1, values.len()], values);
        plan.scope("denormalize", || z * row(&self.scale) + row(&self.mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_takes_a_share_of_what_the_autoencoder_sees() {
        let stats = LatentStats::new(vec![1.0, -2.0], &[2.0, 0.5], 1.0);
        let (mut latents, noise) = (vec![3.0, -1.0, 2.0, 0.0], [0.5, 1.5, -1.0, 4.0]);
        // (1 − s) · (x · std + mean) + s · noise, in the reference.
        let seen = |x: f32, at: usize| x * [2.0, 0.5][at / 2] + [1.0, -2.0][at / 2];
        let expected: Vec<f32> = latents.iter().zip(&noise).enumerate().map(|(at, (x, n))| 0.75 * seen(*x, at) + 0.25 * n).collect();
        stats.add_noise(&mut latents, 0.25, &noise);
        let found: Vec<f32> = latents.iter().enumerate().map(|(at, x)| seen(*x, at)).collect();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, {expected:?}");
    }
}

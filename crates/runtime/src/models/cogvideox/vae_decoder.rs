//! The decoder of the video autoencoder, latents to frames (`CogVideoXDecoder3D` of diffusers).

use kinora_kernels::{Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{Latents, NORM_EPS, Norm, Norms, Resnets, Upsampler, causal};
use crate::error::Result;
use crate::nn::{Carry, Conv3d, Weights};

/// Latents to frames.
pub struct VaeDecoder {
    conv_in: Conv3d,
    mid_block: Resnets,
    up_blocks: Vec<(Resnets, Option<Upsampler>)>,
    norm_out: Norm,
    conv_out: Conv3d,
}

impl VaeDecoder {
    /// Takes every tensor of the scope `decoder`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let w = w.scope("decoder");
        let norms = Norms { groups: config.norm_num_groups, eps: NORM_EPS, latents: Some(config.latent_channels) };
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let block = |i: usize| -> Result<_> {
            let (w, inputs) = (w.scope("up_blocks").scope(i), widths[i.saturating_sub(1)]);
            let resnets = Resnets::load(&w, norms, inputs, widths[i], config.layers_per_block + 1)?;
            let upsampler = || Upsampler::load(&w, widths[i], i < config.temporal_halvings());
            Ok((resnets, (i + 1 < widths.len()).then(upsampler).transpose()?))
        };
        Ok(Self {
            conv_in: causal(&w, "conv_in", config.latent_channels, first)?,
            mid_block: Resnets::load(&w.scope("mid_block"), norms, first, first, 2)?,
            up_blocks: (0..widths.len()).map(block).collect::<Result<_>>()?,
            norm_out: norms.load(&w, "norm_out", last)?,
            conv_out: causal(&w, "conv_out", last, config.out_channels)?,
        })
    }

    /// A batch of latents `z [B, F, H, W, C]` → frames `[B, F', H', W', 3]`, four for each latent; of an odd number, one for the
    /// first.
    pub fn forward<'p>(&self, plan: &'p Plan, z: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let latents = Latents::new(z);
        let latents = Some(&latents);
        plan.scope("decoder", || {
            let x = self.conv_in.forward_chunk(z, carry);
            let mut x = plan.scope("mid_block", || self.mid_block.forward(x, latents, carry));
            for (i, (resnets, upsampler)) in self.up_blocks.iter().enumerate() {
                x = plan.scope(format!("up_blocks.{i}"), || {
                    let x = resnets.forward(x, latents, carry);
                    upsampler.as_ref().map_or(x, |upsampler| upsampler.forward(x))
                });
            }
            self.conv_out.forward_chunk(self.norm_out.forward(x, latents), carry)
        })
    }
}

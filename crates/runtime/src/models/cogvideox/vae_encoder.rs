//! The encoder of the video autoencoder, frames to latents (`CogVideoXEncoder3D` of diffusers).

use kinora_kernels::{Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{Downsampler, NORM_EPS, Norm, Norms, Resnets, causal};
use crate::error::Result;
use crate::nn::{Carry, Conv3d, Weights};

/// Frames to latents.
pub struct VaeEncoder {
    conv_in: Conv3d,
    down_blocks: Vec<(Resnets, Option<Downsampler>)>,
    mid_block: Resnets,
    norm_out: Norm,
    conv_out: Conv3d,
}

impl VaeEncoder {
    /// Takes every tensor of the scope `encoder`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let w = w.scope("encoder");
        let norms = Norms { groups: config.norm_num_groups, eps: config.norm_eps, latents: None };
        let widths = &config.block_out_channels;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let block = |i: usize| -> Result<_> {
            let (w, inputs) = (w.scope("down_blocks").scope(i), widths[i.saturating_sub(1)]);
            let resnets = Resnets::load(&w, norms, inputs, widths[i], config.layers_per_block)?;
            let downsampler = || Downsampler::load(&w, widths[i], i < config.temporal_halvings());
            Ok((resnets, (i + 1 < widths.len()).then(downsampler).transpose()?))
        };
        Ok(Self {
            conv_in: causal(&w, "conv_in", config.in_channels, first)?,
            down_blocks: (0..widths.len()).map(block).collect::<Result<_>>()?,
            mid_block: Resnets::load(&w.scope("mid_block"), norms, last, last, 2)?,
            norm_out: Norms { eps: NORM_EPS, ..norms }.load(&w, "norm_out", last)?,
            conv_out: causal(&w, "conv_out", last, config.latent_channels.saturating_mul(2))?,
        })
    }

    /// A batch of frames `[B, F, H, W, 3]` in −1..1 → `[B, F', H', W', 2·C]`: the means of the C latent channels, then their log
    /// variances. Of an odd number of frames, the first has a latent of its own.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        plan.scope("encoder", || {
            let mut x = self.conv_in.forward_chunk(frames, carry);
            for (i, (resnets, downsampler)) in self.down_blocks.iter().enumerate() {
                x = plan.scope(format!("down_blocks.{i}"), || {
                    let x = resnets.forward(x, None, carry);
                    downsampler.as_ref().map_or(x, |downsampler| downsampler.forward(x))
                });
            }
            let x = plan.scope("mid_block", || self.mid_block.forward(x, None, carry));
            self.conv_out.forward_chunk(self.norm_out.forward(x, None), carry)
        })
    }
}

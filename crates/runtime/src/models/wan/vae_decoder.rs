//! The decoder of the video autoencoder, latents to frames (`WanDecoder3d` of diffusers; arXiv 2503.20314 §4.1).

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{Conv, MidBlock, RepeatedShortcut, Resnets, Upsampler, norm};
use crate::error::Result;
use crate::nn::{Carry, Conv3d, RmsNorm, Weights};

/// Latents to frames.
pub struct VaeDecoder {
    patch: usize,
    post_quant_conv: Conv3d,
    conv_in: Conv3d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    norm_out: RmsNorm,
    conv_out: Conv3d,
}

impl VaeDecoder {
    /// Takes every tensor of the scopes `decoder` and `post_quant_conv`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let (decoder, stages) = (w.scope("decoder"), config.dim_mult.len());
        let ([channels, _], [_, last]) = (config.decoder_widths(stages - 1), config.decoder_widths(0));
        let block = |i: usize| UpBlock::load(&decoder.scope("up_blocks").scope(i), config, stages - 1 - i);
        Ok(Self {
            patch: config.patch(),
            post_quant_conv: Conv::POINT.load(w, "post_quant_conv", config.z_dim, config.z_dim)?,
            conv_in: Conv::CAUSAL.load(&decoder, "conv_in", config.z_dim, channels)?,
            mid_block: MidBlock::load(&decoder.scope("mid_block"), channels)?,
            up_blocks: (0..stages).map(block).collect::<Result<_>>()?,
            norm_out: norm(&decoder, "norm_out", last)?,
            conv_out: Conv::CAUSAL.load(&decoder, "conv_out", last, config.out_channels)?,
        })
    }

    /// Latents `z [B, F, H, W, C]` → frames `[B, F', H', W', 3]`, which the reference limits to −1..1 afterwards; of a chunk that is
    /// not the first, four for each latent.
    pub fn forward<'p>(&self, plan: &'p Plan, z: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let z = self.post_quant_conv.forward(z);
        let y = plan.scope("decoder", || {
            let x = self.conv_in.forward_chunk(z, carry);
            let mut x = plan.scope("mid_block", || self.mid_block.forward(x, carry));
            for (i, block) in self.up_blocks.iter().enumerate() {
                x = plan.scope(format!("up_blocks.{i}"), || block.forward(x, carry));
            }
            self.conv_out.forward_chunk(self.norm_out.forward(x).silu(), carry)
        });
        let patch = [1, self.patch, self.patch];
        if self.patch == 1 { y } else { y.pixel_shuffle_3d(patch, PatchOrder::TimeWidthHeight) }
    }
}

/// `WanUpBlock` and `WanResidualUpBlock`.
struct UpBlock {
    resnets: Resnets,
    upsampler: Option<Upsampler>,
    shortcut: Option<RepeatedShortcut>,
}

impl UpBlock {
    /// `stage` counts from the pixels.
    fn load(w: &Weights<'_>, config: &VaeConfig, stage: usize) -> Result<Self> {
        let [inputs, outputs] = config.decoder_widths(stage);
        let resampled = stage.checked_sub(1).map(|below| config.factors(below));
        // Wan 2.1 halves the width here.
        let (name, upsampled) = if config.is_residual { ("upsampler", outputs) } else { ("upsamplers.0", outputs / 2) };
        let upsampler = |factors| Upsampler::load(&w.scope(name), outputs, upsampled, factors);
        Ok(Self {
            resnets: Resnets::load(w, inputs, outputs, config.num_res_blocks + 1)?,
            upsampler: resampled.map(upsampler).transpose()?,
            shortcut: resampled.filter(|_| config.is_residual).map(|factors| RepeatedShortcut::new(inputs, outputs, factors)),
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        let mut y = self.resnets.forward(x, carry);
        if let Some(upsampler) = &self.upsampler {
            y = plan.scope("upsampler", || upsampler.forward(y, carry));
        }
        match &self.shortcut {
            Some(shortcut) => y + plan.scope("avg_shortcut", || shortcut.forward(x, carry)),
            None => y,
        }
    }
}

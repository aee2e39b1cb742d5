//! The encoder of the video autoencoder, frames to latents (`WanEncoder3d` of diffusers; arXiv 2503.20314 §4.1).

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{AveragedShortcut, Conv, Downsampler, MidBlock, ResidualBlock, Resnets, norm};
use crate::error::Result;
use crate::nn::{Carry, Conv3d, RmsNorm, Weights};

/// Frames to latents.
pub struct VaeEncoder {
    patch: usize,
    conv_in: Conv3d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    norm_out: RmsNorm,
    conv_out: Conv3d,
    quant_conv: Conv3d,
}

impl VaeEncoder {
    /// Takes every tensor of the scopes `encoder` and `quant_conv`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let (encoder, stages) = (w.scope("encoder"), config.dim_mult.len());
        let [_, channels] = config.encoder_widths(stages - 1);
        let mut down_blocks = Vec::new();
        for stage in 0..stages {
            DownBlock::load_stage(&encoder.scope("down_blocks"), config, stage, &mut down_blocks)?;
        }
        let moments = config.z_dim.saturating_mul(2);
        Ok(Self {
            patch: config.patch(),
            conv_in: Conv::CAUSAL.load(&encoder, "conv_in", config.in_channels, config.base_dim)?,
            down_blocks,
            mid_block: MidBlock::load(&encoder.scope("mid_block"), channels)?,
            norm_out: norm(&encoder, "norm_out", channels)?,
            conv_out: Conv::CAUSAL.load(&encoder, "conv_out", channels, moments)?,
            quant_conv: Conv::POINT.load(w, "quant_conv", moments, moments)?,
        })
    }

    /// Frames `[B, F, H, W, 3]` in −1..1 → `[B, F', H', W', 2·C]`: the means of the C latent channels, then their log
    /// variances. A chunk that is not the first has four frames for each latent.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let patch = [1, self.patch, self.patch];
        let frames = if self.patch == 1 { frames } else { frames.pixel_unshuffle_3d(patch, PatchOrder::TimeWidthHeight) };
        let moments = plan.scope("encoder", || {
            let mut x = self.conv_in.forward_chunk(frames, carry);
            for (i, block) in self.down_blocks.iter().enumerate() {
                x = plan.scope(format!("down_blocks.{i}"), || block.forward(x, carry));
            }
            let x = plan.scope("mid_block", || self.mid_block.forward(x, carry));
            self.conv_out.forward_chunk(self.norm_out.forward(x).silu(), carry)
        });
        self.quant_conv.forward(moments)
    }
}

/// An entry of `down_blocks`: Wan 2.1 lists the parts of all stages, Wan 2.2 the stages.
enum DownBlock {
    Resnet(ResidualBlock),
    Downsampler(Downsampler),
    Stage { resnets: Resnets, downsampler: Option<Downsampler>, shortcut: AveragedShortcut },
}

impl DownBlock {
    /// Appends the entries of a stage.
    fn load_stage(w: &Weights<'_>, config: &VaeConfig, stage: usize, blocks: &mut Vec<Self>) -> Result<()> {
        let ([inputs, outputs], factors) = (config.encoder_widths(stage), config.factors(stage));
        let resampled = stage + 1 < config.dim_mult.len();
        if config.is_residual {
            let w = w.scope(stage);
            blocks.push(Self::Stage {
                resnets: Resnets::load(&w, inputs, outputs, config.num_res_blocks)?,
                downsampler: resampled.then(|| Downsampler::load(&w.scope("downsampler"), outputs, factors)).transpose()?,
                shortcut: AveragedShortcut::new(inputs, outputs, factors),
            });
            return Ok(());
        }
        for i in 0..config.num_res_blocks {
            let width = if i == 0 { inputs } else { outputs };
            blocks.push(Self::Resnet(ResidualBlock::load(&w.scope(blocks.len()), width, outputs)?));
        }
        if resampled {
            blocks.push(Self::Downsampler(Downsampler::load(&w.scope(blocks.len()), outputs, factors)?));
        }
        Ok(())
    }

    fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        match self {
            Self::Resnet(resnet) => resnet.forward(x, carry),
            Self::Downsampler(downsampler) => downsampler.forward(x, None, carry),
            Self::Stage { resnets, downsampler, shortcut } => {
                let y = resnets.forward(x, carry);
                let shortcut = x.plan().scope("avg_shortcut", || shortcut.forward(x, carry));
                match downsampler {
                    Some(downsampler) => x.plan().scope("downsampler", || downsampler.forward(y, Some(shortcut), carry)),
                    None => y + shortcut,
                }
            }
        }
    }
}

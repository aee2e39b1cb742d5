//! The encoder of the video autoencoder, frames to latents (`LTXVideoEncoder3d` of diffusers; arXiv 2501.00103 §2).

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{Common, Downsampler, ResnetBlock, ResnetStack, norm};
use crate::error::{Error, Result};
use crate::nn::{Conv3d, Conv3dConfig, RmsNorm, TimePadding, Weights};

/// Frames to latents.
pub struct VaeEncoder {
    patch: [usize; 3],
    conv_in: Conv3d,
    down_blocks: Vec<DownBlock>,
    mid_block: ResnetStack,
    norm_out: RmsNorm,
    conv_out: Conv3d,
}

impl VaeEncoder {
    /// Takes every tensor of the scope, which is `encoder` in a checkpoint.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`], [`Error::InvalidConfig`].
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let time = TimePadding::from_causal(config.encoder_causal);
        let common = Common { time, norm_eps: config.resnet_norm_eps, timestep_conditioning: false };
        let blocks = config.num_down_blocks();
        let mut channels = config.block_out_channels[0];
        let pixels = config.in_channels * config.patch_size * config.patch_size;
        let conv_in = w.conv3d("conv_in.conv", &Conv3dConfig::new(pixels, channels, 3, time))?;
        let mut down_blocks = Vec::with_capacity(blocks);
        for i in 0..blocks {
            // From 0.9.5 on the first width belongs to the input convolution alone; before, the last block keeps its width.
            let outputs = config.block_out_channels[(i + 1).min(config.block_out_channels.len() - 1)];
            down_blocks.push(DownBlock::load(&w.scope("down_blocks").scope(i), config, i, [channels, outputs], &common)?);
            channels = outputs;
        }
        let layers = config.layers_per_block[config.layers_per_block.len() - 1];
        Ok(Self {
            patch: [config.patch_size_t, config.patch_size, config.patch_size],
            conv_in,
            down_blocks,
            mid_block: ResnetStack::load(&w.scope("mid_block"), channels, layers, &common)?,
            norm_out: norm("norm_out"),
            conv_out: w.conv3d("conv_out.conv", &Conv3dConfig::new(channels, config.latent_channels + 1, 3, time))?,
        })
    }

    /// Frames `[B, F, H, W, 3]` in −1..1 → `[B, F', H', W', C + 1]`: the means of the C latent channels and one log
    /// variance for all of them.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>) -> Tensor<'p> {
        let mut x = self.conv_in.forward(frames.pixel_unshuffle_3d(self.patch, PatchOrder::TimeWidthHeight));
        for (i, block) in self.down_blocks.iter().enumerate() {
            x = plan.scope(format!("down_blocks.{i}"), || block.forward(x));
        }
        let x = plan.scope("mid_block", || self.mid_block.forward(x, None));
        self.conv_out.forward(self.norm_out.forward(x).silu())
    }
}

/// `LTXVideoDownBlock3D` and `LTXVideo095DownBlock3D`.
struct DownBlock {
    resnets: ResnetStack,
    downsampler: Option<Down>,
    conv_out: Option<ResnetBlock>,
}

enum Down {
    Strided(Conv3d),
    Averaged(Downsampler),
}

impl DownBlock {
    fn load(w: &Weights<'_>, config: &VaeConfig, index: usize, [inputs, outputs]: [usize; 2], common: &Common) -> Result<Self> {
        let invalid = |problem: String| Error::InvalidConfig { file: w.label().into(), problem };
        let is_095 = match config.down_block_types[index].as_str() {
            "LTXVideoDownBlock3D" => false,
            "LTXVideo095DownBlock3D" => true,
            other => {
                let known = "LTXVideoDownBlock3D or LTXVideo095DownBlock3D";
                return Err(invalid(format!("down_block_types: expected {known}, found {other}")));
            }
        };
        let down = w.scope("downsamplers.0");
        let averaged = |stride| Ok(Down::Averaged(Downsampler::load(&down, inputs, outputs, stride, common.time)?));
        let downsampler =
            config.spatio_temporal_scaling[index].then(|| match if is_095 { config.downsample_type[index].as_str() } else { "conv" } {
                "conv" => {
                    let strided = Conv3dConfig { stride: [2; 3], ..Conv3dConfig::new(inputs, inputs, 3, common.time) };
                    Ok(Down::Strided(down.conv3d("conv", &strided)?))
                }
                "spatial" => averaged([1, 2, 2]),
                "temporal" => averaged([2, 1, 1]),
                "spatiotemporal" => averaged([2, 2, 2]),
                other => Err(invalid(format!("downsample_type: expected conv, spatial, temporal or spatiotemporal, found {other}"))),
            });
        let widens = !is_095 && inputs != outputs;
        Ok(Self {
            resnets: ResnetStack::load(w, inputs, config.layers_per_block[index], common)?,
            downsampler: downsampler.transpose()?,
            conv_out: widens.then(|| ResnetBlock::load(&w.scope("conv_out"), inputs, outputs, common)).transpose()?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        let mut x = self.resnets.forward(x, None);
        if let Some(down) = &self.downsampler {
            x = plan.scope("downsamplers.0", || match down {
                Down::Strided(conv) => conv.forward(x),
                Down::Averaged(downsampler) => downsampler.forward(x),
            });
        }
        if let Some(resnet) = &self.conv_out {
            x = plan.scope("conv_out", || resnet.forward(x, None));
        }
        x
    }
}

//! Encoder and decoder of the autoencoder of images (`AutoencoderKL` of diffusers; arXiv 2112.10752 appendix G), which treat
//! each frame `[B, F, H, W, C]` by itself.

use kinora_kernels::{AttentionOptions, Plan, Tensor, dense_sequences};

use super::VaeConfig;
use crate::error::Result;
use crate::nn::{Conv2d, Conv3d, GroupNorm, Linear, Weights};

/// Added to the variance in all norms.
const NORM_EPS: f32 = 1e-6;

/// A norm over each frame, and `SiLU`.
fn activated<'p>(norm: &GroupNorm, x: Tensor<'p>) -> Tensor<'p> {
    norm.forward(x, frames(x)).silu()
}

/// Frames of all batch entries.
fn frames(x: Tensor<'_>) -> usize {
    x.shape().dims().iter().take(2).product()
}

/// `ResnetBlock2D`: twice norm, `SiLU` and convolution, and a shortcut.
struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv3d,
    norm2: GroupNorm,
    conv2: Conv3d,
    shortcut: Option<Linear>,
}

impl ResidualBlock {
    fn load(w: &Weights<'_>, groups: usize, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            norm1: w.group_norm("norm1", groups, inputs, NORM_EPS)?,
            conv1: w.conv2d("conv1", inputs, outputs, Conv2d::Around)?,
            norm2: w.group_norm("norm2", groups, outputs, NORM_EPS)?,
            conv2: w.conv2d("conv2", outputs, outputs, Conv2d::Around)?,
            shortcut: (inputs != outputs).then(|| w.pointwise("conv_shortcut", inputs, outputs, 4)).transpose()?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let h = self.conv1.forward(activated(&self.norm1, x));
        let h = self.conv2.forward(activated(&self.norm2, h));
        h + self.shortcut.as_ref().map_or(x, |linear| linear.forward(x))
    }
}

/// The pixels of each frame attend to each other, with one head.
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
}

impl Attention {
    fn load(w: &Weights<'_>, groups: usize, channels: usize) -> Result<Self> {
        // Files of the first versions have the names of those.
        let [q, k, v, out] =
            if w.contains("query.weight") { ["query", "key", "value", "proj_attn"] } else { ["to_q", "to_k", "to_v", "to_out.0"] };
        Ok(Self {
            norm: w.group_norm("group_norm", groups, channels, NORM_EPS)?,
            qkv: w.linear_stack(&[q, k, v], channels, channels, true)?,
            out: w.linear(out, channels, channels)?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let (channels, pixels) = (x.channels(), x.rows() / frames(x));
        let [q, k, v] = self.qkv.forward(self.norm.forward(x, frames(x))).split();
        let sequences = dense_sequences(frames(x), pixels, pixels);
        let options = AttentionOptions { heads: 1, scale: 1.0 / (channels as f32).sqrt(), sequences, mask: None, bias: None };
        x + self.out.forward(q.flash_attention(k, v, &options))
    }
}

/// `UNetMidBlock2D`.
struct MidBlock {
    before: ResidualBlock,
    attention: Option<Attention>,
    after: ResidualBlock,
}

impl MidBlock {
    fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let (groups, channels) = (config.norm_num_groups, config.block_out_channels[config.block_out_channels.len() - 1]);
        let resnet = |i: usize| ResidualBlock::load(&w.scope("resnets").scope(i), groups, channels, channels);
        let attention = || Attention::load(&w.scope("attentions.0"), groups, channels);
        Ok(Self { before: resnet(0)?, attention: config.mid_block_add_attention.then(attention).transpose()?, after: resnet(1)? })
    }

    fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        plan.scope("mid_block", || {
            let x = plan.scope("resnets.0", || self.before.forward(x));
            let x = self.attention.as_ref().map_or(x, |attention| plan.scope("attentions.0", || attention.forward(x)));
            plan.scope("resnets.1", || self.after.forward(x))
        })
    }
}

/// Residual blocks, and a convolution where the next stage has other pixels.
struct Stage {
    resnets: Vec<ResidualBlock>,
    resampler: Option<Conv3d>,
}

impl Stage {
    fn load(
        w: &Weights<'_>,
        groups: usize,
        [inputs, outputs]: [usize; 2],
        count: usize,
        resampler: Option<(&str, Conv2d)>,
    ) -> Result<Self> {
        let resnet = |i: usize| ResidualBlock::load(&w.scope("resnets").scope(i), groups, if i == 0 { inputs } else { outputs }, outputs);
        Ok(Self {
            resnets: (0..count).map(resnet).collect::<Result<_>>()?,
            resampler: resampler.map(|(name, kind)| w.conv2d(name, outputs, outputs, kind)).transpose()?,
        })
    }

    fn forward<'p>(&self, mut x: Tensor<'p>, factors: [usize; 3]) -> Tensor<'p> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = x.plan().scope(format!("resnets.{i}"), || resnet.forward(x));
        }
        match &self.resampler {
            Some(conv) if factors == [1; 3] => conv.forward(x),
            Some(conv) => conv.forward(x.upsample_nearest(factors)),
            None => x,
        }
    }
}

/// Frames to latents.
pub struct Encoder {
    conv_in: Conv3d,
    stages: Vec<Stage>,
    mid_block: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv3d,
    quant_conv: Option<Linear>,
}

impl Encoder {
    /// Takes every tensor of the scopes `encoder` and `quant_conv`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let (encoder, widths, groups) = (w.scope("encoder"), &config.block_out_channels, config.norm_num_groups);
        let (last, moments) = (widths[widths.len() - 1], config.latent_channels.saturating_mul(2));
        let stage = |i: usize| {
            let resampler = (i + 1 < widths.len()).then_some(("downsamplers.0.conv", Conv2d::Halve));
            let channels = [widths[i.saturating_sub(1)], widths[i]];
            Stage::load(&encoder.scope("down_blocks").scope(i), groups, channels, config.layers_per_block, resampler)
        };
        Ok(Self {
            conv_in: encoder.conv2d("conv_in", config.in_channels, widths[0], Conv2d::Around)?,
            stages: (0..widths.len()).map(stage).collect::<Result<_>>()?,
            mid_block: MidBlock::load(&encoder.scope("mid_block"), config)?,
            norm_out: encoder.group_norm("conv_norm_out", groups, last, NORM_EPS)?,
            conv_out: encoder.conv2d("conv_out", last, moments, Conv2d::Around)?,
            quant_conv: config.use_quant_conv.then(|| w.pointwise("quant_conv", moments, moments, 4)).transpose()?,
        })
    }

    /// Frames `[B, F, H, W, 3]` in −1..1 → `[B, F, H', W', 2·C]`: the means of the C latent channels, then their log variances.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>) -> Tensor<'p> {
        let moments = plan.scope("encoder", || {
            let mut x = self.conv_in.forward(frames);
            for (i, stage) in self.stages.iter().enumerate() {
                x = plan.scope(format!("down_blocks.{i}"), || stage.forward(x, [1; 3]));
            }
            self.conv_out.forward(activated(&self.norm_out, self.mid_block.forward(x)))
        });
        self.quant_conv.as_ref().map_or(moments, |linear| linear.forward(moments))
    }
}

/// Latents to frames.
pub struct Decoder {
    post_quant_conv: Option<Linear>,
    conv_in: Conv3d,
    mid_block: MidBlock,
    stages: Vec<Stage>,
    norm_out: GroupNorm,
    conv_out: Conv3d,
}

impl Decoder {
    /// Takes every tensor of the scopes `decoder` and `post_quant_conv`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let (decoder, latents, groups) = (w.scope("decoder"), config.latent_channels, config.norm_num_groups);
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let last = widths[widths.len() - 1];
        let stage = |i: usize| {
            let resampler = (i + 1 < widths.len()).then_some(("upsamplers.0.conv", Conv2d::Around));
            let channels = [widths[i.saturating_sub(1)], widths[i]];
            Stage::load(&decoder.scope("up_blocks").scope(i), groups, channels, config.layers_per_block + 1, resampler)
        };
        Ok(Self {
            post_quant_conv: config.use_post_quant_conv.then(|| w.pointwise("post_quant_conv", latents, latents, 4)).transpose()?,
            conv_in: decoder.conv2d("conv_in", latents, widths[0], Conv2d::Around)?,
            mid_block: MidBlock::load(&decoder.scope("mid_block"), config)?,
            stages: (0..widths.len()).map(stage).collect::<Result<_>>()?,
            norm_out: decoder.group_norm("conv_norm_out", groups, last, NORM_EPS)?,
            conv_out: decoder.conv2d("conv_out", last, config.out_channels, Conv2d::Around)?,
        })
    }

    /// Latents `z [B, F, H, W, C]` → frames `[B, F, H', W', 3]`.
    pub fn forward<'p>(&self, plan: &'p Plan, z: Tensor<'p>) -> Tensor<'p> {
        let z = self.post_quant_conv.as_ref().map_or(z, |linear| linear.forward(z));
        plan.scope("decoder", || {
            let mut x = self.mid_block.forward(self.conv_in.forward(z));
            for (i, stage) in self.stages.iter().enumerate() {
                x = plan.scope(format!("up_blocks.{i}"), || stage.forward(x, [1, 2, 2]));
            }
            self.conv_out.forward(activated(&self.norm_out, x))
        })
    }
}

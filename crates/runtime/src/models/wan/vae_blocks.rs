//! What encoder and decoder of the video autoencoder are made of (`AutoencoderKLWan` of diffusers).
//!
//! Frames are `[B, F, H, W, C]`. The reference runs through a clip in pieces and keeps, for each convolution, the frames
//! that the next piece needs, which is what a [`Carry`] does here. What follows is the same for a whole clip: convolutions are
//! causal, with zeros before the first frame, and the first frame, which is a piece of its own, is left out where time is
//! resampled.

use kinora_kernels::op::Padding;
use kinora_kernels::{AttentionOptions, Conv3dOptions, PatchOrder, Plan, Tensor, dense_sequences};

use crate::error::Result;
use crate::nn::{Carry, Conv3d, Linear, RmsNorm, Weights};

/// Extents, steps and padding of a convolution; axes are time, height, width.
#[derive(Clone, Copy)]
pub(super) struct Conv {
    kernel: [usize; 3],
    stride: [usize; 3],
    front: [usize; 3],
    back: [usize; 3],
}

impl Conv {
    /// A pixel alone.
    pub(super) const POINT: Self = Self { kernel: [1; 3], stride: [1; 3], front: [0; 3], back: [0; 3] };
    /// The pixels around, and those of the two frames before.
    pub(super) const CAUSAL: Self = Self { kernel: [3; 3], front: [2, 1, 1], back: [0, 1, 1], ..Self::POINT };
    /// The pixel in the two frames before.
    const PAST: Self = Self { kernel: [3, 1, 1], front: [2, 0, 0], ..Self::POINT };
    /// Every second frame from the third on, with the two before it.
    const HALVE_TIME: Self = Self { kernel: [3, 1, 1], stride: [2, 1, 1], ..Self::POINT };
    /// The pixels around.
    const AROUND: Self = Self { kernel: [1, 3, 3], front: [0, 1, 1], back: [0, 1, 1], ..Self::POINT };
    /// Every second pixel, with those to the right and below.
    const HALVE_SPACE: Self = Self { kernel: [1, 3, 3], stride: [1, 2, 2], back: [0, 1, 1], ..Self::POINT };

    /// The convolution `name`; in the file one over space alone has two axes.
    pub(super) fn load(self, w: &Weights<'_>, name: &str, inputs: usize, outputs: usize) -> Result<Conv3d> {
        let Self { kernel: [kt, kh, kw], stride, front, back } = self;
        let dims = [outputs, inputs, kt, kh, kw];
        let file_dims = if kt == 1 && kh > 1 { vec![outputs, inputs, kh, kw] } else { dims.to_vec() };
        let weight = w.tensor_as(&format!("{name}.weight"), &file_dims, &dims)?;
        let bias = w.tensor(&format!("{name}.bias"), &[outputs])?;
        let options = Conv3dOptions { stride, front, back, time_padding: Padding::Zero, space_padding: Padding::Zero };
        Ok(Conv3d::new(name, weight, bias, options))
    }
}

/// `WanRMS_norm`: a gain, and no more than a guard against the division by zero.
pub(super) fn norm(w: &Weights<'_>, name: &str, channels: usize) -> Result<RmsNorm> {
    norm_of(w, name, &[channels, 1, 1, 1])
}

fn norm_of(w: &Weights<'_>, name: &str, file_dims: &[usize]) -> Result<RmsNorm> {
    let channels = file_dims[0];
    // The reference divides by max(‖x‖, 10⁻¹²).
    let eps = 1e-24 / channels as f32;
    Ok(RmsNorm::new(name, w.tensor_as(&format!("{name}.gamma"), file_dims, &[channels])?, eps))
}

/// `WanResidualBlock`: twice norm, `SiLU` and convolution, and a shortcut.
pub(super) struct ResidualBlock {
    norm1: RmsNorm,
    conv1: Conv3d,
    norm2: RmsNorm,
    conv2: Conv3d,
    shortcut: Option<Conv3d>,
}

impl ResidualBlock {
    pub(super) fn load(w: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            norm1: norm(w, "norm1", inputs)?,
            conv1: Conv::CAUSAL.load(w, "conv1", inputs, outputs)?,
            norm2: norm(w, "norm2", outputs)?,
            conv2: Conv::CAUSAL.load(w, "conv2", outputs, outputs)?,
            shortcut: (inputs != outputs).then(|| Conv::POINT.load(w, "conv_shortcut", inputs, outputs)).transpose()?,
        })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let h = self.conv1.forward_chunk(self.norm1.forward(x).silu(), carry);
        let h = self.conv2.forward_chunk(self.norm2.forward(h).silu(), carry);
        h + self.shortcut.as_ref().map_or(x, |conv| conv.forward(x))
    }
}

/// Several residual blocks in the scope `resnets`, the first of which changes the width.
pub(super) struct Resnets(Vec<ResidualBlock>);

impl Resnets {
    pub(super) fn load(w: &Weights<'_>, inputs: usize, outputs: usize, count: usize) -> Result<Self> {
        let block = |i| ResidualBlock::load(&w.scope("resnets").scope(i), if i == 0 { inputs } else { outputs }, outputs);
        Ok(Self((0..count).map(block).collect::<Result<_>>()?))
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        for (i, block) in self.0.iter().enumerate() {
            x = x.plan().scope(format!("resnets.{i}"), || block.forward(x, carry));
        }
        x
    }
}

/// `WanAttentionBlock`: the pixels of each frame attend to each other, with one head.
struct Attention {
    norm: RmsNorm,
    qkv: Linear,
    proj: Linear,
}

impl Attention {
    fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        let linear = |name: &str, outputs: usize| -> Result<Linear> {
            let weight = w.tensor_as(&format!("{name}.weight"), &[outputs, channels, 1, 1], &[outputs, channels])?;
            Ok(Linear::new(name, weight, Some(w.tensor(&format!("{name}.bias"), &[outputs])?)))
        };
        Ok(Self { norm: norm_of(w, "norm", &[channels, 1, 1])?, qkv: linear("to_qkv", 3 * channels)?, proj: linear("proj", channels)? })
    }

    fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let &[batch, frames, height, width, channels] = x.shape().dims() else {
            x.plan().fail("attention", "[B, F, H, W, C]", x.shape().to_string());
            return x;
        };
        let [q, k, v] = self.qkv.forward(self.norm.forward(x)).split();
        let options = AttentionOptions {
            heads: 1,
            scale: 1.0 / (channels as f32).sqrt(),
            sequences: dense_sequences(batch * frames, height * width, height * width),
            mask: None,
            bias: None,
        };
        x + self.proj.forward(q.flash_attention(k, v, &options))
    }
}

/// `WanMidBlock`.
pub(super) struct MidBlock {
    before: ResidualBlock,
    attention: Attention,
    after: ResidualBlock,
}

impl MidBlock {
    pub(super) fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        let resnets = w.scope("resnets");
        Ok(Self {
            before: ResidualBlock::load(&resnets.scope(0), channels, channels)?,
            attention: Attention::load(&w.scope("attentions.0"), channels)?,
            after: ResidualBlock::load(&resnets.scope(1), channels, channels)?,
        })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        let x = plan.scope("resnets.0", || self.before.forward(x, carry));
        let x = plan.scope("attentions.0", || self.attention.forward(x));
        plan.scope("resnets.1", || self.after.forward(x, carry))
    }
}

/// All frames but the first.
fn later_frames(x: Tensor<'_>) -> Option<Tensor<'_>> {
    let later = x.shape().dims().get(1)? - 1;
    (later > 0).then(|| x.slice_frames(1, later))
}

/// `WanResample` in the encoder: space is halved and then, if `factors` say so, time.
pub(super) struct Downsampler {
    space: Conv3d,
    time: Option<Conv3d>,
}

impl Downsampler {
    pub(super) fn load(w: &Weights<'_>, channels: usize, factors: [usize; 3]) -> Result<Self> {
        Ok(Self {
            space: Conv::HALVE_SPACE.load(w, "resample.1", channels, channels)?,
            time: (factors[0] > 1).then(|| Conv::HALVE_TIME.load(w, "time_conv", channels, channels)).transpose()?,
        })
    }

    /// `shortcut` is added to the result: here, so that it joins the convolution of a whole clip as it joins that of a chunk.
    pub(super) fn forward<'p>(&self, x: Tensor<'p>, shortcut: Option<Tensor<'p>>, carry: &Carry<'p>) -> Tensor<'p> {
        let x = self.space.forward(x);
        let add = |y: Tensor<'p>, part: &dyn Fn(Tensor<'p>) -> Tensor<'p>| shortcut.map_or(y, |shortcut| y + part(shortcut));
        let Some(conv) = &self.time else { return add(x, &|all| all) };
        let (x, missing) = x.plan().scope("time_conv", || carry.extend(x, 1, Padding::Zero));
        if missing == 0 {
            return add(conv.forward(x), &|all| all);
        }
        let first = add(x.slice_frames(0, 1), &|all| all.slice_frames(0, 1));
        if x.shape().dims().get(1) == Some(&1) {
            return first;
        }
        first.concat_frames(add(conv.forward(x), &|all| later_frames(all).unwrap_or(all)))
    }
}

/// `WanResample` in the decoder: time is doubled, if `factors` say so, and then space.
pub(super) struct Upsampler {
    time: Option<Conv3d>,
    space: Conv3d,
}

impl Upsampler {
    /// `inputs` → `outputs` channels.
    pub(super) fn load(w: &Weights<'_>, inputs: usize, outputs: usize, factors: [usize; 3]) -> Result<Self> {
        Ok(Self {
            time: (factors[0] > 1).then(|| Conv::PAST.load(w, "time_conv", inputs, 2 * inputs)).transpose()?,
            space: Conv::AROUND.load(w, "resample.1", inputs, outputs)?,
        })
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        if let Some(conv) = &self.time {
            let doubled = |x| conv.forward_chunk(x, carry).pixel_shuffle_3d([2, 1, 1], PatchOrder::ChannelInnermost);
            // The later frames do not see the first one here: in its place they see zeros.
            if !carry.is_first() {
                x = doubled(x);
            } else if let Some(later) = later_frames(x) {
                x = x.slice_frames(0, 1).concat_frames(doubled(later));
            } else {
                x.plan().scope("time_conv", || carry.leave_zeros(x, 2));
            }
        }
        self.space.forward(x.upsample_nearest([1, 2, 2]))
    }
}

/// `AvgDown3D`: blocks of positions moved into the channels, of which groups are averaged. Time starts half a block early,
/// with a frame of zeros, so that the first frame has a block of its own.
pub(super) struct AveragedShortcut {
    factors: [usize; 3],
    group: usize,
}

impl AveragedShortcut {
    pub(super) fn new(inputs: usize, outputs: usize, factors: [usize; 3]) -> Self {
        Self { factors, group: inputs * factors.iter().product::<usize>() / outputs }
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let [time, height, width] = self.factors;
        let blocks = |x: Tensor<'p>| x.pixel_unshuffle_3d(self.factors, PatchOrder::TimeHeightWidth);
        let blocks = if time == 1 || !carry.is_first() {
            if self.group == 1 && time * height * width == 1 {
                return x;
            }
            blocks(x)
        } else {
            // The first frame twice; then the earlier of the two is made zero.
            let first = blocks(x.slice_frames(0, 1).upsample_nearest([time, 1, 1]));
            let kept: Vec<f32> = (0..first.channels()).map(|c| if c / (height * width) % time + 1 == time { 1.0 } else { 0.0 }).collect();
            let first = first * x.plan().constant(&[1, kept.len()], &kept);
            later_frames(x).map_or(first, |later| first.concat_frames(blocks(later)))
        };
        if self.group == 1 { blocks } else { blocks.group_mean(self.group) }
    }
}

/// `DupUp3D`: channels repeated and moved into blocks of positions; the first frame is not doubled.
pub(super) struct RepeatedShortcut {
    factors: [usize; 3],
    repeats: usize,
}

impl RepeatedShortcut {
    pub(super) fn new(inputs: usize, outputs: usize, factors: [usize; 3]) -> Self {
        Self { factors, repeats: outputs * factors.iter().product::<usize>() / inputs }
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let y = x.repeat_each_channel(self.repeats).pixel_shuffle_3d(self.factors, PatchOrder::TimeHeightWidth);
        let early = if carry.is_first() { self.factors[0] - 1 } else { 0 };
        match y.shape().dims().get(1) {
            Some(frames) if early > 0 => y.slice_frames(early, frames - early),
            _ => y,
        }
    }
}

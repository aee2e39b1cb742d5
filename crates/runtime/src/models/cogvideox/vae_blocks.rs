//! What encoder and decoder of the video autoencoder are made of (`AutoencoderKLCogVideoX` of diffusers; arXiv 2408.06072 §2.1).
//!
//! Frames are `[B, F, H, W, C]`: a batch of a clip, as the reference cuts it. Convolutions see the last frames of the batch
//! before; norms see their batch alone.

use std::cell::RefCell;

use kinora_kernels::op::ModulationColumns;
use kinora_kernels::{PatchOrder, Shape, Tensor, Weight, WeightFormat};

use crate::error::Result;
use crate::nn::{Carry, Conv2d, Conv3d, Conv3dConfig, GroupNorm, Linear, TimePadding, Weights};

/// Added to the variance in the norms of the decoder and behind the encoder.
pub(super) const NORM_EPS: f32 = 1e-6;

/// `CogVideoXCausalConv3d`: the pixels around, in this frame and the two before.
pub(super) fn causal(w: &Weights<'_>, name: &str, inputs: usize, outputs: usize) -> Result<Conv3d> {
    w.conv3d(&format!("{name}.conv"), &Conv3dConfig::new(inputs, outputs, 3, TimePadding::Causal))
}

/// What norms of the decoder are modulated by: the latents of the batch.
pub(super) struct Latents<'p> {
    z: Tensor<'p>,
    /// For extents of frames the row of the latents that each of their rows sees.
    index: RefCell<Vec<(Shape, Tensor<'p>)>>,
}

impl<'p> Latents<'p> {
    pub(super) fn new(z: Tensor<'p>) -> Self {
        Self { z, index: RefCell::default() }
    }

    /// The nearest latent of each row of frames `[B, F, H, W, ..]`. Of an odd number of frames, the first has the first latent
    /// frame for itself.
    fn index(&self, frames: Shape) -> Option<Tensor<'p>> {
        let (&[batch, n, height, width, _], &[_, m, rows, columns, _]) = (frames.dims(), self.z.shape().dims()) else { return None };
        let extents = Shape::new(&[batch, n, height, width]);
        if let Some((_, index)) = self.index.borrow().iter().find(|(known, _)| *known == extents) {
            return Some(*index);
        }
        let apart = usize::from(n > 1 && n % 2 == 1);
        let frame = |i: usize| if i < apart { i } else { apart + (i - apart) * (m - apart) / (n - apart) };
        let mut index = Vec::with_capacity(batch * n * height * width);
        for row in 0..batch * n * height {
            let (entry, i, y) = (row / (n * height), row / height % n, row % height);
            let start = ((entry * m + frame(i)) * rows + y * rows / height) * columns;
            index.extend((0..width).map(|x| (start + x * columns / width) as u32));
        }
        let index = self.z.plan().index_constant(&index);
        self.index.borrow_mut().push((extents, index));
        Some(index)
    }
}

/// A group norm, in the decoder followed by a scale and a shift that convolutions make of the latents
/// (`CogVideoXSpatialNorm3D`, arXiv 2209.09002).
pub(super) struct Norm {
    name: String,
    norm: GroupNorm,
    modulation: Option<Linear>,
}

impl Norm {
    pub(super) fn plain(w: &Weights<'_>, name: &str, groups: usize, channels: usize, eps: f32) -> Result<Self> {
        Ok(Self { name: String::new(), norm: w.group_norm(name, groups, channels, eps)?, modulation: None })
    }

    /// A convolution of one pixel before the latents are enlarged is one behind.
    pub(super) fn modulated(w: &Weights<'_>, name: &str, groups: usize, channels: usize, latents: usize) -> Result<Self> {
        let w = w.scope(name);
        let weight = |part: &str| w.tensor_as(&format!("{part}.conv.weight"), &[channels, latents, 1, 1, 1], &[channels, latents]);
        let weights = Weight::stack(&[weight("conv_y")?, weight("conv_b")?]).expect("both have these extents");
        // The modulation multiplies by one more than the scale in its table.
        let mut bias: Vec<f32> = w.values("conv_y.conv.bias", &[channels])?.iter().map(|scale| scale - 1.0).collect();
        bias.extend(w.values("conv_b.conv.bias", &[channels])?);
        let bias = Weight::from_f32("conv_y.conv.bias − 1", Shape::new(&[2 * channels]), &bias, WeightFormat::F32);
        Ok(Self {
            name: name.into(),
            norm: w.group_norm("norm_layer", groups, channels, NORM_EPS)?,
            modulation: Some(Linear::new("conv_y+conv_b", weights, Some(bias))),
        })
    }

    /// With `SiLU`, which follows every norm here.
    pub(super) fn forward<'p>(&self, x: Tensor<'p>, latents: Option<&Latents<'p>>) -> Tensor<'p> {
        let batch = x.shape().dims()[0];
        let Some(((linear, latents), index)) =
            self.modulation.as_ref().zip(latents).and_then(|both| Some((both, both.1.index(x.shape())?)))
        else {
            return self.norm.forward(x, batch).silu();
        };
        x.plan().scope(self.name.as_str(), || {
            let table = linear.forward(latents.z);
            self.norm.forward(x, batch).modulate(table, index, ModulationColumns { scale: 0, shift: x.channels() }).silu()
        })
    }
}

/// How the norms of a coder are: of so many groups, and modulated by so many latent channels or of this eps.
#[derive(Clone, Copy)]
pub(super) struct Norms {
    pub(super) groups: usize,
    pub(super) eps: f32,
    pub(super) latents: Option<usize>,
}

impl Norms {
    pub(super) fn load(self, w: &Weights<'_>, name: &str, channels: usize) -> Result<Norm> {
        match self.latents {
            Some(latents) => Norm::modulated(w, name, self.groups, channels, latents),
            None => Norm::plain(w, name, self.groups, channels, self.eps),
        }
    }
}

/// `CogVideoXResnetBlock3D`: twice norm, `SiLU` and convolution, and a shortcut.
struct ResidualBlock {
    norm1: Norm,
    conv1: Conv3d,
    norm2: Norm,
    conv2: Conv3d,
    shortcut: Option<Linear>,
}

impl ResidualBlock {
    fn load(w: &Weights<'_>, norms: Norms, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self {
            norm1: norms.load(w, "norm1", inputs)?,
            conv1: causal(w, "conv1", inputs, outputs)?,
            norm2: norms.load(w, "norm2", outputs)?,
            conv2: causal(w, "conv2", outputs, outputs)?,
            shortcut: (inputs != outputs).then(|| w.pointwise("conv_shortcut", inputs, outputs, 5)).transpose()?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, latents: Option<&Latents<'p>>, carry: &Carry<'p>) -> Tensor<'p> {
        let h = self.conv1.forward_chunk(self.norm1.forward(x, latents), carry);
        let h = self.conv2.forward_chunk(self.norm2.forward(h, latents), carry);
        h + self.shortcut.as_ref().map_or(x, |linear| linear.forward(x))
    }
}

/// Several residual blocks in the scope `resnets`, the first of which changes the width.
pub(super) struct Resnets(Vec<ResidualBlock>);

impl Resnets {
    pub(super) fn load(w: &Weights<'_>, norms: Norms, inputs: usize, outputs: usize, count: usize) -> Result<Self> {
        let block = |i| ResidualBlock::load(&w.scope("resnets").scope(i), norms, if i == 0 { inputs } else { outputs }, outputs);
        Ok(Self((0..count).map(block).collect::<Result<_>>()?))
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>, latents: Option<&Latents<'p>>, carry: &Carry<'p>) -> Tensor<'p> {
        for (i, block) in self.0.iter().enumerate() {
            x = x.plan().scope(format!("resnets.{i}"), || block.forward(x, latents, carry));
        }
        x
    }
}

/// The first frame and the others, if there are an odd number of several: where time is resampled the first is left out.
fn parted(x: Tensor<'_>) -> Option<(Tensor<'_>, Tensor<'_>)> {
    let frames = *x.shape().dims().get(1)?;
    (frames > 1 && frames % 2 == 1).then(|| (x.slice_frames(0, 1), x.slice_frames(1, frames - 1)))
}

/// `CogVideoXDownsample3D`: time is averaged by pairs, if it is halved, and then space is halved.
pub(super) struct Downsampler {
    conv: Conv3d,
    time: bool,
}

impl Downsampler {
    pub(super) fn load(w: &Weights<'_>, channels: usize, time: bool) -> Result<Self> {
        Ok(Self { conv: w.conv2d("downsamplers.0.conv", channels, channels, Conv2d::Halve)?, time })
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>) -> Tensor<'p> {
        let halved = |x: Tensor<'p>| x.pixel_unshuffle_3d([2, 1, 1], PatchOrder::TimeHeightWidth).group_mean(2);
        if self.time && x.shape().dims()[1] > 1 {
            x = parted(x).map_or_else(|| halved(x), |(first, others)| first.concat_frames(halved(others)));
        }
        self.conv.forward(x)
    }
}

/// `CogVideoXUpsample3D`: space is doubled, with time if that is.
pub(super) struct Upsampler {
    conv: Conv3d,
    time: bool,
}

impl Upsampler {
    pub(super) fn load(w: &Weights<'_>, channels: usize, time: bool) -> Result<Self> {
        Ok(Self { conv: w.conv2d("upsamplers.0.conv", channels, channels, Conv2d::Around)?, time })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let (in_space, in_both) = ([1, 2, 2], [2, 2, 2]);
        let x = match parted(x) {
            Some((first, others)) if self.time => first.upsample_nearest(in_space).concat_frames(others.upsample_nearest(in_both)),
            _ if self.time && x.shape().dims()[1] > 1 => x.upsample_nearest(in_both),
            _ => x.upsample_nearest(in_space),
        };
        self.conv.forward(x)
    }
}

//! 3-D convolutions over channels-last frames that repeat the first (and last) frame in time and pad space with zeros.

use kinora_kernels::op::Padding;
use kinora_kernels::{Conv3dOptions, Tensor, Weight};

use super::{Carry, Weights};
use crate::error::Result;

/// Where a convolution looks for frames beyond the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePadding {
    /// Only in the past: the first frame repeated.
    Causal,
    /// As far into the past as into the future: first and last frame repeated.
    Symmetric,
}

impl TimePadding {
    /// [`Causal`](Self::Causal) if `causal`.
    pub fn from_causal(causal: bool) -> Self {
        if causal { Self::Causal } else { Self::Symmetric }
    }
}

/// The extents of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dConfig {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Edge of the cubic kernel, odd.
    pub kernel: usize,
    /// Steps in time, height and width.
    pub stride: [usize; 3],
    /// Frames beyond the clip.
    pub time: TimePadding,
    /// Repeats of the first frame before the padding.
    pub extra_front: usize,
}

impl Conv3dConfig {
    /// A convolution of stride 1.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, time: TimePadding) -> Self {
        Self { inputs, outputs, kernel, stride: [1; 3], time, extra_front: 0 }
    }
}

/// A 3-D convolution.
pub struct Conv3d {
    name: String,
    weight: Weight,
    bias: Option<Weight>,
    options: Conv3dOptions,
}

impl Weights<'_> {
    /// The convolution `name`, with bias.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn conv3d(&self, name: &str, config: &Conv3dConfig) -> Result<Conv3d> {
        let &Conv3dConfig { inputs, outputs, kernel, stride, time, extra_front } = config;
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs, kernel, kernel, kernel])?;
        let bias = self.tensor(&format!("{name}.bias"), &[outputs])?;
        let half = kernel / 2;
        let (before, after) = match time {
            TimePadding::Causal => (kernel - 1, 0),
            TimePadding::Symmetric => (half, half),
        };
        let options = Conv3dOptions {
            stride,
            front: [before + extra_front, half, half],
            back: [after, half, half],
            time_padding: Padding::Replicate,
            space_padding: Padding::Zero,
        };
        Ok(Conv3d { name: name.into(), weight, bias: Some(bias), options })
    }
}

impl Conv3d {
    /// A convolution of this weight `[Cout, Cin, kt, kh, kw]` and bias `[Cout]`, if it has one.
    pub fn new(name: &str, weight: Weight, bias: impl Into<Option<Weight>>, options: Conv3dOptions) -> Self {
        Self { name: name.into(), weight, bias: bias.into(), options }
    }

    /// `[B, F, H, W, Cin]` → `[B, F', H', W', Cout]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.conv3d(&self.weight, self.bias.as_ref(), &self.options))
    }

    /// [`forward`](Self::forward) of a chunk of a clip, for a convolution that looks back alone and steps by one frame.
    pub fn forward_chunk<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let Conv3dOptions { front: [past, height, width], time_padding, .. } = self.options;
        x.plan().scope(self.name.as_str(), || {
            let (x, missing) = carry.extend(x, past, time_padding);
            let options = Conv3dOptions { front: [missing, height, width], ..self.options };
            x.conv3d(&self.weight, self.bias.as_ref(), &options)
        })
    }
}

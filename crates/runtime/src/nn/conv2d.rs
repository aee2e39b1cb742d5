//! Convolutions over the pixels of frames, each frame by itself.

use kinora_kernels::Conv3dOptions;
use kinora_kernels::op::Padding;

use super::{Conv3d, Linear, Weights};
use crate::error::Result;

/// Steps and zeros around of a convolution of 3×3 pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conv2d {
    /// Every pixel, with one around.
    Around,
    /// Every second pixel, with those to the right and below.
    Halve,
}

impl Weights<'_> {
    /// The convolution `name` of 3×3 pixels, with bias.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn conv2d(&self, name: &str, inputs: usize, outputs: usize, kind: Conv2d) -> Result<Conv3d> {
        let weight = self.tensor_as(&format!("{name}.weight"), &[outputs, inputs, 3, 3], &[outputs, inputs, 1, 3, 3])?;
        let (stride, before) = match kind {
            Conv2d::Around => (1, 1),
            Conv2d::Halve => (2, 0),
        };
        let options = Conv3dOptions {
            stride: [1, stride, stride],
            front: [0, before, before],
            back: [0, 1, 1],
            time_padding: Padding::Zero,
            space_padding: Padding::Zero,
        };
        Ok(Conv3d::new(name, weight, self.tensor(&format!("{name}.bias"), &[outputs])?, options))
    }

    /// The convolution `name` of one pixel, with bias, whose weight has the axes `[N, C, 1, ..]`, as a linear layer.
    ///
    /// # Errors
    /// As [`conv2d`](Self::conv2d).
    pub fn pointwise(&self, name: &str, inputs: usize, outputs: usize, axes: usize) -> Result<Linear> {
        let mut dims = vec![1; axes];
        dims[..2].copy_from_slice(&[outputs, inputs]);
        let weight = self.tensor_as(&format!("{name}.weight"), &dims, &[outputs, inputs])?;
        Ok(Linear::new(name, weight, Some(self.tensor(&format!("{name}.bias"), &[outputs])?)))
    }
}

//! Norms over the channels.

use kinora_kernels::{Tensor, Weight};

use super::Weights;
use super::linear::stack;
use crate::error::Result;

/// `y = x · rsqrt(mean(x²) + eps) · gain`, for each of a number of equal groups of channels.
pub struct RmsNorm {
    name: String,
    groups: usize,
    gain: Option<Weight>,
    eps: f32,
}

impl RmsNorm {
    /// A norm without weights.
    pub fn plain(name: &str, eps: f32) -> Self {
        Self { name: name.into(), groups: 1, gain: None, eps }
    }

    /// A norm with this gain `[C]`.
    pub fn new(name: &str, gain: Weight, eps: f32) -> Self {
        Self { name: name.into(), groups: 1, gain: Some(gain), eps }
    }
}

impl Weights<'_> {
    /// The RMS norm `name` over `channels`, with a gain.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn rms_norm(&self, name: &str, channels: usize, eps: f32) -> Result<RmsNorm> {
        self.rms_norm_stack(&[name], channels, eps)
    }

    /// The RMS norms of tensors that lie side by side, `channels` each, as one.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn rms_norm_stack(&self, names: &[&str], channels: usize, eps: f32) -> Result<RmsNorm> {
        let gains = names.iter().map(|n| self.tensor(&format!("{n}.weight"), &[channels])).collect::<Result<Vec<_>>>()?;
        Ok(RmsNorm { name: names.join("+"), groups: names.len(), gain: Some(stack(&gains)?), eps })
    }

    /// The layer norm `name` over `channels`, with gain and bias.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn layer_norm(&self, name: &str, channels: usize, eps: f32) -> Result<LayerNorm> {
        let vector = |suffix: &str| self.tensor(&format!("{name}.{suffix}"), &[channels]);
        Ok(LayerNorm { name: name.into(), gain: Some(vector("weight")?), bias: Some(vector("bias")?), eps })
    }
}

impl RmsNorm {
    /// `[.., C]` → `[.., C]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.grouped_rms_norm(self.groups, self.gain.as_ref(), self.eps))
    }
}

/// `y = (x − mean) · rsqrt(var + eps) · gain + bias`.
pub struct LayerNorm {
    name: String,
    gain: Option<Weight>,
    bias: Option<Weight>,
    eps: f32,
}

impl LayerNorm {
    /// A norm without weights.
    pub fn plain(name: &str, eps: f32) -> Self {
        Self { name: name.into(), gain: None, bias: None, eps }
    }

    /// `[.., C]` → `[.., C]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.layer_norm(self.gain.as_ref(), self.bias.as_ref(), self.eps))
    }
}

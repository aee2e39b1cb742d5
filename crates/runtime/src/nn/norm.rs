//! Norms over the channels, alone or with the positions of a batch entry.

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
        self.layer_norm_heads(&[name], 1, channels, eps)
    }

    /// The layer norms of tensors that lie side by side, of `heads` heads of `channels` each, which share gain and bias.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn layer_norm_heads(&self, names: &[&str], heads: usize, channels: usize, eps: f32) -> Result<LayerNorm> {
        let vectors = |suffix: &str| -> Result<Weight> {
            let mut all = Vec::with_capacity(names.len() * heads);
            for name in names {
                let one = self.tensor(&format!("{name}.{suffix}"), &[channels])?;
                all.extend(std::iter::repeat_n(one, heads));
            }
            stack(&all)
        };
        let (gain, bias) = (Some(vectors("weight")?), Some(vectors("bias")?));
        Ok(LayerNorm { name: names.join("+"), groups: names.len() * heads, gain, bias, eps })
    }

    /// The group norm `name` over `groups` parts of `channels`, with gain and bias.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm).
    pub fn group_norm(&self, name: &str, groups: usize, channels: usize, eps: f32) -> Result<GroupNorm> {
        let vector = |suffix: &str| self.tensor(&format!("{name}.{suffix}"), &[channels]);
        Ok(GroupNorm { name: name.into(), groups, gain: vector("weight")?, bias: vector("bias")?, eps })
    }
}

impl RmsNorm {
    /// `[.., C]` → `[.., C]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.grouped_rms_norm(self.groups, self.gain.as_ref(), self.eps))
    }
}

/// `y = (x − mean) · rsqrt(var + eps) · gain + bias`, for each of a number of equal groups of channels.
pub struct LayerNorm {
    name: String,
    groups: usize,
    gain: Option<Weight>,
    bias: Option<Weight>,
    eps: f32,
}

impl LayerNorm {
    /// A norm without weights.
    pub fn plain(name: &str, eps: f32) -> Self {
        Self { name: name.into(), groups: 1, gain: None, bias: None, eps }
    }

    /// `[.., C]` → `[.., C]`.
    pub fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.grouped_layer_norm(self.groups, self.gain.as_ref(), self.bias.as_ref(), self.eps))
    }
}

/// The same with mean and variance over groups of channels and all positions of a batch entry.
pub struct GroupNorm {
    name: String,
    groups: usize,
    gain: Weight,
    bias: Weight,
    eps: f32,
}

impl GroupNorm {
    /// `[.., C]` → `[.., C]`, each of `batch` equal parts of the rows by itself.
    pub fn forward<'p>(&self, x: Tensor<'p>, batch: usize) -> Tensor<'p> {
        x.plan().scope(self.name.as_str(), || x.group_norm(batch, self.groups, Some(&self.gain), Some(&self.bias), self.eps))
    }
}

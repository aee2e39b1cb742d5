//! Embeddings: sinusoidal timestep features and rows of token tables, both computed on the host.

use kinora_kernels::{Tensor, Weight};

use super::{Linear, Weights};
use crate::error::{Error, Result};

/// Number of sinusoidal features of a timestep.
pub const TIMESTEP_FEATURES: usize = 256;

/// Sinusoidal features `[T, 256]` of timesteps, see [`sinusoids`].
pub fn timestep_features(timesteps: &[f32]) -> Vec<f32> {
    sinusoids(timesteps, TIMESTEP_FEATURES)
}

/// The same with frequencies that reach their lowest at the last of them, `t · 10000^(−i/(H − 1))`: what diffusers calls a
/// `downscale_freq_shift` of 1.
#[cfg(feature = "images")]
pub fn shifted_timestep_features(timesteps: &[f32]) -> Vec<f32> {
    waves(timesteps, TIMESTEP_FEATURES, TIMESTEP_FEATURES / 2 - 1)
}

/// Sinusoidal features `[T, 2·H]`: cosines, then sines, of `t · 10000^(−i/H)` (the embedding of DDPM, cosines first);
/// `features` is even.
///
/// Rounded to f32 where the reference rounds: exponent, frequency, angle.
pub fn sinusoids(timesteps: &[f32], features: usize) -> Vec<f32> {
    waves(timesteps, features, features / 2)
}

/// Cosines, then sines, of `t · 10000^(−i/divisor)`.
fn waves(timesteps: &[f32], features: usize, divisor: usize) -> Vec<f32> {
    let half = features / 2;
    let frequency = |i: usize| {
        let exponent = -(10000f64.ln() as f32) * i as f32 / divisor as f32;
        f64::from(exponent).exp() as f32
    };
    let mut out = Vec::with_capacity(timesteps.len() * features);
    for t in timesteps {
        let angle = |i| f64::from(t * frequency(i));
        out.extend((0..half).map(|i| angle(i).cos() as f32));
        out.extend((0..half).map(|i| angle(i).sin() as f32));
    }
    out
}

/// The MLP over sinusoidal features, `linear_2(silu(linear_1(x)))`.
pub struct TimestepEmbedder {
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedder {
    /// Puts the MLP together.
    pub fn new(linear_1: Linear, linear_2: Linear) -> Self {
        Self { linear_1, linear_2 }
    }

    /// `linear_1` and `linear_2` of this scope.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`].
    pub fn load(w: &Weights<'_>, width: usize) -> Result<Self> {
        Self::load_from(w, TIMESTEP_FEATURES, width)
    }

    /// The same over another number of features.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_from(w: &Weights<'_>, features: usize, width: usize) -> Result<Self> {
        Ok(Self { linear_1: w.linear("linear_1", features, width)?, linear_2: w.linear("linear_2", width, width)? })
    }

    /// Features `[T, 256]`, or as many as it was loaded for, → `[T, D]`.
    pub fn forward<'p>(&self, features: Tensor<'p>) -> Tensor<'p> {
        self.linear_2.forward(self.linear_1.forward(features).silu())
    }
}

/// A table of rows looked up by id on the host, straight from the file: the device never holds a vocabulary.
#[derive(Clone)]
pub struct Embedding(Weight);

impl Weights<'_> {
    /// The table `name [rows, width]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`].
    pub fn embedding(&self, name: &str, rows: usize, width: usize) -> Result<Embedding> {
        Ok(Embedding(self.tensor(name, &[rows, width])?))
    }
}

impl Embedding {
    /// The rows of `ids`, `[ids, D]`.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an id beyond the table, [`Error::Kernels`] if it cannot be read.
    pub fn rows(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for &id in ids {
            out.extend(self.0.row(id as usize)?.ok_or_else(|| Error::InvalidRequest {
                parameter: format!("token id for `{}`", self.0.name()),
                found: id.to_string(),
                expected: format!("an id below {}", self.0.shape().dims()[0]),
            })?);
        }
        Ok(out)
    }
}

//! Adaptive norms with a timestep per token (adaLN-single of PixArt-α, arXiv 2310.00426 §2.3).
//!
//! A table holds one row per *distinct* timestep and an index says which row a token uses. The table of all steps of a
//! run does not change between them, so the MLP behind it runs once.

use kinora_kernels::op::ModulationColumns;
use kinora_kernels::{Plan, Tensor};

use super::{Linear, TimestepEmbedder, Weights};
use crate::error::Result;

/// The distinct values of `timesteps` in order of appearance, and for each timestep the index of its value.
pub fn distinct(timesteps: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let mut values: Vec<f32> = Vec::new();
    let index = timesteps.iter().map(|t| match values.iter().position(|v| v.to_bits() == t.to_bits()) {
        Some(at) => at as u32,
        None => {
            values.push(*t);
            values.len() as u32 - 1
        }
    });
    let index = index.collect();
    (values, index)
}

/// The parts of a modulation table, `width` columns each, as seen by the tokens.
#[derive(Clone, Copy, Debug)]
pub struct Modulation<'p> {
    table: Tensor<'p>,
    index: Tensor<'p>,
    width: usize,
}

impl<'p> Modulation<'p> {
    /// `table [T, P·width]` with a row index per token.
    pub fn new(table: Tensor<'p>, index: Tensor<'p>, width: usize) -> Self {
        Self { table, index, width }
    }

    /// First columns of the parts.
    pub fn parts<const P: usize>(&self) -> [usize; P] {
        std::array::from_fn(|i| i * self.width)
    }

    /// `x · (1 + scale) + shift`; the parts are given by their first columns.
    #[track_caller]
    pub fn scale_shift(self, x: Tensor<'p>, shift: usize, scale: usize) -> Tensor<'p> {
        x.modulate(self.table, self.index, ModulationColumns { shift, scale })
    }

    /// `residual + gate · x`; the part is given by its first column.
    #[track_caller]
    pub fn gated_add(self, x: Tensor<'p>, residual: Tensor<'p>, gate: usize) -> Tensor<'p> {
        x.gated_add(residual, self.table, self.index, gate)
    }
}

/// A learned offset of a modulation table.
pub struct ScaleShiftTable {
    values: Vec<f32>,
}

impl ScaleShiftTable {
    /// The tensor `scale_shift_table [parts, width]` of this scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape).
    pub fn load(w: &Weights<'_>, parts: usize, width: usize) -> Result<Self> {
        Ok(Self { values: w.values("scale_shift_table", &[parts, width])? })
    }

    /// The same of a checkpoint that has a batch axis, `[1, parts, width]`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_batched(w: &Weights<'_>, parts: usize, width: usize) -> Result<Self> {
        Ok(Self { values: w.values("scale_shift_table", &[1, parts, width])? })
    }

    /// `[T, parts·width]` → the same, shifted.
    pub fn forward<'p>(&self, plan: &'p Plan, table: Tensor<'p>) -> Tensor<'p> {
        table + plan.constant(&[1, self.values.len()], &self.values)
    }
}

/// The timestep MLP that all blocks of a transformer share.
pub struct AdaLayerNormSingle {
    embedder: TimestepEmbedder,
    linear: Linear,
}

impl AdaLayerNormSingle {
    /// `emb.timestep_embedder` and `linear` of this scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape).
    pub fn load(w: &Weights<'_>, width: usize) -> Result<Self> {
        let embedder = TimestepEmbedder::load(&w.scope("emb.timestep_embedder"), width)?;
        Ok(Self { embedder, linear: w.linear("linear", width, 6 * width)? })
    }

    /// Sinusoidal features `[T, 256]` → six parts `[T, 6·D]` for the blocks, and the embedding `[T, D]` itself.
    pub fn forward<'p>(&self, features: Tensor<'p>) -> (Tensor<'p>, Tensor<'p>) {
        let embedded = self.embedder.forward(features);
        (self.linear.forward(embedded.silu()), embedded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distinct_timestep_has_one_row() {
        let (values, index) = distinct(&[0.0, 731.25, 0.0, 12.5, 731.25]);
        assert_eq!(values, [0.0, 731.25, 12.5], "in order of appearance");
        assert_eq!(index, [0, 1, 0, 2, 1], "rows of the values");
    }
}

//! RMS and layer norms of rows, and the rotary embedding.

use crate::op::{Norm, NormKind, Op};
use crate::plan::Elem;
use crate::tensor::Tensor;
use crate::weight::Weight;

impl<'p> Tensor<'p> {
    /// Root-mean-square norm over the channels: `y = x · rsqrt(mean(x²) + eps) · gain`.
    ///
    /// | tensor | shape     | access |
    /// |--------|-----------|--------|
    /// | `self` | `[.., C]` | read   |
    /// | `gain` | `[C]`     | read   |
    /// | result | `[.., C]` | write  |
    #[track_caller]
    pub fn rms_norm(self, gain: Option<&Weight>, eps: f32) -> Self {
        self.grouped_rms_norm(1, gain, eps)
    }

    /// [`rms_norm`](Self::rms_norm) of `groups` equal parts of the channels, each by itself, with one gain `[C]`:
    /// stacked queries and keys in one pass.
    #[track_caller]
    pub fn grouped_rms_norm(self, groups: usize, gain: Option<&Weight>, eps: f32) -> Self {
        self.norm(NormKind::Rms, groups, gain, None, eps)
    }

    /// Layer norm over the channels: `y = (x − mean) · rsqrt(var + eps) · gain + bias`.
    ///
    /// | tensor         | shape     | access |
    /// |----------------|-----------|--------|
    /// | `self`         | `[.., C]` | read   |
    /// | `gain`, `bias` | `[C]`     | read   |
    /// | result         | `[.., C]` | write  |
    #[track_caller]
    pub fn layer_norm(self, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        self.norm(NormKind::Layer, 1, gain, bias, eps)
    }

    #[track_caller]
    fn norm(self, kind: NormKind, groups: usize, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        let c = self.channels();
        if groups == 0 || c % groups != 0 || (groups > 1 && (c / groups) % 4 != 0) {
            self.plan().fail("norm", "groups of a multiple of four channels", format!("{c} channels in {groups} groups"));
        }
        for weight in [gain, bias].into_iter().flatten() {
            if weight.shape().elements() != c {
                self.plan().fail("norm", format!("`{}` [{c}]", weight.name()), weight.shape().to_string());
            }
        }
        let op = Norm { kind, groups, eps, gain: gain.cloned(), bias: bias.cloned(), modulation: None, rope: false, silu: false };
        self.plan().record(Op::Norm(op), vec![self.operand()], self.shape(), Elem::F32)
    }

    /// Rotary embedding of neighbouring pairs (x₀, x₁) → (x₀·cos − x₁·sin, x₁·cos + x₀·sin).
    ///
    /// | tensor  | shape                                             | access |
    /// |---------|---------------------------------------------------|--------|
    /// | `self`  | `[.., C]`                                         | read   |
    /// | `table` | `[L, Cr]`, pairs (cos, sin); row `r mod L`, column `c mod Cr` | read |
    /// | result  | `[.., C]`                                         | write  |
    #[track_caller]
    pub fn rope(self, table: Self) -> Self {
        table.need_contiguous("rope");
        let cr = table.channels();
        if cr % 4 != 0 || self.channels() % cr != 0 || table.rows() == 0 || self.rows() % table.rows() != 0 {
            self.plan().fail(
                "rope",
                format!("a table [L, Cr] that divides {}, Cr a multiple of four", self.shape()),
                table.shape().to_string(),
            );
        }
        self.plan().record(Op::Rope, vec![self.operand(), table.operand()], self.shape(), Elem::F32)
    }
}

//! Linear layers.

use crate::op::{Activation, Gemm, Op};
use crate::plan::Elem;
use crate::tensor::Tensor;
use crate::weight::Weight;

impl<'p> Tensor<'p> {
    /// Linear layer `y = x · wᵀ + bias`.
    ///
    /// | tensor   | shape     | access |
    /// |----------|-----------|--------|
    /// | `self`   | `[.., K]` | read   |
    /// | `weight` | `[N, K]`  | read   |
    /// | `bias`   | `[N]`     | read   |
    /// | result   | `[.., N]` | write  |
    #[track_caller]
    pub fn linear(self, weight: &Weight, bias: Option<&Weight>) -> Self {
        let dims = weight.shape();
        if dims.rank() != 2 || dims.channels() != self.channels() {
            self.plan().fail("gemm", format!("weight `{}` [N, {}]", weight.name(), self.channels()), dims.to_string());
        }
        let n = dims.dims()[0];
        if let Some(bias) = bias.filter(|b| b.shape().elements() != n) {
            self.plan().fail("gemm", format!("bias `{}` [{n}]", bias.name()), bias.shape().to_string());
        }
        let gemm = Gemm { weight: weight.clone(), bias: bias.cloned(), activation: Activation::None, residual: false, gate: None };
        self.plan().record(Op::Gemm(gemm), vec![self.operand()], self.shape().with_channels(n), Elem::F32)
    }
}

pub(super) fn lower(_op: &Gemm, _cx: &mut crate::lower::Lowering<'_>) {}

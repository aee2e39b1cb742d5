//! 3-D convolution over channels-last frames.

use crate::op::{Conv3d, Op, Padding};
use crate::plan::Elem;
use crate::tensor::Tensor;
use crate::weight::Weight;

/// Strides and padding of a convolution; axes are time, height, width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dOptions {
    /// Steps.
    pub stride: [usize; 3],
    /// Positions before the first.
    pub front: [usize; 3],
    /// Positions after the last.
    pub back: [usize; 3],
    /// How time outside the clip is read.
    pub time_padding: Padding,
    /// How space outside a frame is read.
    pub space_padding: Padding,
}

impl Conv3dOptions {
    /// Output extents for input extents `[F, H, W]`; `None` if the padded input is smaller than the kernel.
    pub fn output_extents(&self, input: [usize; 3], kernel: [usize; 3]) -> Option<[usize; 3]> {
        let mut out = [0; 3];
        for axis in 0..3 {
            let padded = input[axis] + self.front[axis] + self.back[axis];
            out[axis] = padded.checked_sub(kernel[axis])? / self.stride[axis].max(1) + 1;
        }
        Some(out)
    }
}

impl<'p> Tensor<'p> {
    /// `y[b, f, h, w, n] = bias[n] + Σ w[n, c, i, j, k] · x[b, f·st + i − front, …, c]` (a cross-correlation, as in PyTorch).
    ///
    /// | tensor   | shape                      | access |
    /// |----------|----------------------------|--------|
    /// | `self`   | `[B, F, H, W, Cin]`        | read   |
    /// | `weight` | `[Cout, Cin, kt, kh, kw]`  | read   |
    /// | `bias`   | `[Cout]`                   | read   |
    /// | result   | `[B, F', H', W', Cout]`    | write  |
    #[track_caller]
    pub fn conv3d(self, weight: &Weight, bias: Option<&Weight>, options: &Conv3dOptions) -> Self {
        let (plan, shape, w) = (self.plan(), self.shape(), weight.shape());
        self.need_contiguous("conv3d");
        let (&[b, f, h, wd, c], &[n, cin, kt, kh, kw]) = (shape.dims(), w.dims()) else {
            plan.fail("conv3d", "x [B, F, H, W, C] and a weight [N, C, kt, kh, kw]", format!("{shape} and {w}"));
            return self;
        };
        if c != cin {
            plan.fail("conv3d", format!("weight `{}` with {c} input channels", weight.name()), w.to_string());
        }
        if let Some(bias) = bias.filter(|b| b.shape().elements() != n) {
            plan.fail("conv3d", format!("bias `{}` [{n}]", bias.name()), bias.shape().to_string());
        }
        let Some([f, h, wd]) = options.output_extents([f, h, wd], [kt, kh, kw]) else {
            plan.fail("conv3d", format!("a padded input of at least {kt}×{kh}×{kw}"), shape.to_string());
            return self;
        };
        let &Conv3dOptions { stride, front, back, time_padding, space_padding } = options;
        let op = Conv3d { weight: weight.clone(), bias: bias.cloned(), stride, front, back, time_padding, space_padding, residual: false };
        plan.record(Op::Conv3d(op), vec![self.operand()], crate::Shape::new(&[b, f, h, wd, n]), Elem::F32)
    }
}

pub(super) fn lower(_op: &Conv3d, _cx: &mut crate::lower::Lowering<'_>) {}

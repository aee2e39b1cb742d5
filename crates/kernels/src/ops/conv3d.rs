//! 3-D convolution over channels-last frames.

use super::gemm::soft_lane_columns;
use crate::generated::{conv3d_gpu, conv3d_soft};
use crate::gpu::Family;
use crate::lower::{Binding, Lowering};
use crate::op::{Conv3d, Op, Padding};
use crate::plan::Elem;
use crate::tensor::Tensor;
use crate::weight::{Weight, WeightFormat};

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

pub(super) fn lower(op: &Conv3d, cx: &mut Lowering<'_>) {
    let bias = op.bias.as_ref().map(|b| Binding::Weight(b.clone()));
    let residual = op.residual.then(|| cx.input(1));
    let bindings = [cx.input(0), Binding::Weight(op.weight.clone())].into_iter().chain(bias).chain(residual).chain([cx.output()]).collect();
    let flops = 2.0 * cx.output_shape().rows() as f64 * op.weight.shape().elements() as f64;
    match cx.family {
        Family::Soft => lower_soft(op, bindings, flops, cx),
        Family::Gpu => lower_gpu(op, bindings, flops, cx),
    }
}

fn lower_soft(op: &Conv3d, bindings: Vec<Binding>, flops: f64, cx: &mut Lowering<'_>) {
    use conv3d_soft::{Epilogue, Params, ROWS, Variant, Weights};
    let (x, y, w) = (cx.shape(0), cx.output_shape(), op.weight.shape());
    let panels = y.channels4().div_ceil(4);
    let blocks = y.rows().div_ceil(ROWS as usize);
    let lane_cols = soft_lane_columns(blocks, panels);
    let replicate = u32::from(op.time_padding == Padding::Replicate) + 2 * u32::from(op.space_padding == Padding::Replicate);
    let four = |axes: &[usize], last: u32| [axes[0] as u32, axes[1] as u32, axes[2] as u32, last];
    let params = Params {
        input: four(&x.dims()[1..4], x.channels4() as u32),
        output: four(&y.dims()[1..4], y.channels4() as u32),
        kernel: four(&w.dims()[2..5], 0),
        stride: four(&op.stride, 0),
        front: four(&op.front, replicate),
        rows: y.rows() as u32,
        lane_cols: lane_cols as u32,
        ..Default::default()
    };
    let weights = match op.weight.format() {
        WeightFormat::F32 => Weights::F32,
        WeightFormat::F16 => Weights::F16,
    };
    let epilogue = if op.residual { Epilogue::Residual } else { Epilogue::None };
    let kernel = Variant { weights, bias: op.bias.is_some(), epilogue }.kernel();
    let items = blocks.div_ceil(8 / lane_cols) * panels.div_ceil(lane_cols);
    cx.dispatch(kernel, items, flops, bindings, |first, end| Params { first, end, ..params });
}

/// Pixels and output channels of the tile a workgroup of `conv3d_gpu` owns.
const GPU_TILE: usize = 64;

fn lower_gpu(op: &Conv3d, bindings: Vec<Binding>, flops: f64, cx: &mut Lowering<'_>) {
    use conv3d_gpu::{Epilogue, Params, Variant, Weights};
    let (x, y, w) = (cx.shape(0), cx.output_shape(), op.weight.shape());
    let axes = |v: &[usize]| std::array::from_fn(|i| v.get(i).map_or(0, |v| *v as u32));
    let signed = |v: &[usize]| axes(v).map(|v: u32| v as i32);
    let replicate = |padding| usize::from(padding == Padding::Replicate);
    let (time, space) = (replicate(op.time_padding), replicate(op.space_padding));
    let params = Params {
        input: signed(&x.dims()[1..4]),
        output: axes(&y.dims()[1..4]),
        kernel: axes(&w.dims()[2..]),
        stride: signed(&op.stride),
        front: signed(&op.front),
        replicate: axes(&[time, space, space]),
        pixels: y.rows() as u32,
        cin4: x.channels4() as u32,
        n4: y.channels4() as u32,
        ..Default::default()
    };
    let weights = match op.weight.format() {
        WeightFormat::F32 => Weights::F32,
        WeightFormat::F16 => Weights::F16,
    };
    let epilogue = if op.residual { Epilogue::Residual } else { Epilogue::None };
    let kernel = Variant { weights, bias: op.bias.is_some(), epilogue }.kernel();
    let items = y.rows().div_ceil(GPU_TILE) * y.channels().div_ceil(GPU_TILE);
    cx.dispatch(kernel, items, flops, bindings, |first, end| Params { first, end, ..params });
}

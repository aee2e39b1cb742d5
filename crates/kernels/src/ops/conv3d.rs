//! 3-D convolution over channels-last frames.

use super::gemm::{NARROW, SoftGrid, lanes_tiles, soft_grid};
use crate::generated::{conv3d_gpu, conv3d_gpu_wide, conv3d_lanes, conv3d_soft};
use crate::lower::{Binding, Lowering};
use crate::op::{Conv3d, Op, Padding};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::shape::Shape;
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
        plan.record(Op::Conv3d(op), vec![self.operand()], Shape::new(&[b, f, h, wd, n]), Elem::F32)
    }
}

/// Rows (output positions) and columns (output channels) of the tile a workgroup of `conv3d_gpu` owns.
const GPU_TILE: usize = 64;

/// Height and width in positions, and columns, of the tile of `conv3d_gpu_wide`.
const WIDE_TILE: [usize; 3] = [8, 16, 96];

/// Fewest tiles for the wide kernel: with less, large GPUs would have multiprocessors without one.
const WIDE_TILES: usize = 64;

/// The variant of one preset's kernel; the generated types of the presets are distinct, their common axes equal.
macro_rules! variant {
    ($kernel:ident, $op:expr $(, $axis:ident: $value:expr)*) => {{
        use $kernel::{Epilogue, Variant, Weights};
        let weights = match $op.weight.format() {
            WeightFormat::F32 => Weights::F32,
            WeightFormat::F16 => Weights::F16,
        };
        let epilogue = if $op.residual { Epilogue::Residual } else { Epilogue::None };
        Variant { weights, epilogue $(, $axis: $value)* }
    }};
}

pub(super) fn lower(op: &Conv3d, cx: &mut Lowering<'_>) {
    let (shape, x, w) = (cx.output_shape(), cx.shape(0), op.weight.shape());
    let (rows, n, n4) = (shape.rows(), shape.channels(), shape.channels4());
    let has_bias = op.bias.is_some();
    // Only `conv3d_lanes` has texts without a bias.
    let bias = (has_bias || cx.preset != Preset::Lanes).then(|| Lowering::vector(op.bias.as_ref(), 0.0, n));
    let residual = op.residual.then(|| cx.input(1));
    let bindings = [cx.input(0), Binding::Weight(op.weight.clone())].into_iter().chain(bias).chain(residual).chain([cx.output()]).collect();
    let flops = 2.0 * rows as f64 * w.elements() as f64;
    // The fields that all presets have.
    macro_rules! params {
        ($kernel:ident) => {
            $kernel::Params {
                input: four(&x.dims()[1..4], x.channels4()),
                output: four(&shape.dims()[1..4], n4),
                kernel: four(&w.dims()[2..5], 0),
                stride: four(&op.stride, 0),
                front: four(&op.front, replicate_bits(op)),
                rows: rows as u32,
                ..Default::default()
            }
        };
    }
    match cx.preset {
        Preset::Lanes => {
            let params = params!(conv3d_lanes);
            let kernel = variant!(conv3d_lanes, op, bias: has_bias, narrow: n <= NARROW).kernel();
            let items = lanes_tiles(rows, n);
            cx.dispatch(kernel, items, flops, bindings, params);
        }
        Preset::Soft | Preset::Quads => {
            let quads = cx.preset == Preset::Quads;
            let SoftGrid { lane_cols, items } = soft_grid(rows, n, quads);
            let params = conv3d_soft::Params { lane_cols, ..params!(conv3d_soft) };
            let kernel = variant!(conv3d_soft, op, quads: quads).kernel();
            cx.dispatch(kernel, items, flops, bindings, params);
        }
        Preset::Gpu => {
            let tiles = wide_tiles(shape, n);
            if w.dims()[3..] == [3, 3] && op.stride[1..] == [1, 1] && tiles >= WIDE_TILES && n > GPU_TILE {
                let params = params!(conv3d_gpu_wide);
                let kernel = variant!(conv3d_gpu_wide, op).kernel();
                cx.dispatch(kernel, tiles, flops, bindings, params);
            } else {
                let params = params!(conv3d_gpu);
                let items = rows.div_ceil(GPU_TILE) * n.div_ceil(GPU_TILE);
                let kernel = variant!(conv3d_gpu, op).kernel();
                cx.dispatch(kernel, items, flops, bindings, params);
            }
        }
    }
}

/// Tiles of `conv3d_gpu_wide` for an output `[B, F, H, W, N]`: of a frame each.
fn wide_tiles(shape: Shape, n: usize) -> usize {
    let [high, wide, columns] = WIDE_TILE;
    let &[batch, frames, height, width, _] = shape.dims() else { return 0 };
    batch * frames * height.div_ceil(high) * width.div_ceil(wide) * n.div_ceil(columns)
}

/// Time, height and width, and a fourth number.
fn four(axes: &[usize], last: usize) -> [u32; 4] {
    [axes[0] as u32, axes[1] as u32, axes[2] as u32, last as u32]
}

/// 1 if time is replicated, plus 2 if space is.
fn replicate_bits(op: &Conv3d) -> usize {
    usize::from(op.time_padding == Padding::Replicate) + 2 * usize::from(op.space_padding == Padding::Replicate)
}

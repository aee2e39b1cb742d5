//! Linear layers.

use crate::generated::{gemm_gpu, gemm_gpu_wide, gemm_lanes, gemm_soft};
use crate::lower::{Binding, Lowering};
use crate::op::{Activation, Gemm, Op};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::tensor::Tensor;
use crate::weight::{Weight, WeightFormat};

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

/// The variant of one preset's kernel; the generated types of the presets are distinct, their common axes equal.
macro_rules! variant {
    ($kernel:ident, $op:expr $(, $axis:ident: $value:expr)*) => {{
        use $kernel::{Epilogue, Variant, Weights};
        let weights = match $op.weight.format() {
            WeightFormat::F32 => Weights::F32,
            WeightFormat::F16 => Weights::F16,
        };
        let epilogue = match ($op.gate, $op.residual, $op.activation) {
            (Some(_), ..) => Epilogue::Gate,
            (None, true, _) => Epilogue::Residual,
            // Fusion leaves `tanh` a step of its own.
            (None, false, Activation::None | Activation::Tanh) => Epilogue::None,
            (None, false, Activation::GeluTanh) => Epilogue::GeluTanh,
            (None, false, Activation::GeluErf) => Epilogue::GeluErf,
            (None, false, Activation::Silu) => Epilogue::Silu,
            (None, false, Activation::Relu) => Epilogue::Relu,
        };
        Variant { weights, epilogue $(, $axis: $value)* }
    }};
}

pub(super) fn lower(op: &Gemm, cx: &mut Lowering<'_>) {
    let (shape, x) = (cx.output_shape(), cx.shape(0));
    let (rows, n, n4) = (shape.rows(), shape.channels(), shape.channels4());
    let has_bias = op.bias.is_some();
    // Only `gemm_lanes` has texts without a bias.
    let bias = (has_bias || cx.preset != Preset::Lanes).then(|| Lowering::vector(op.bias.as_ref(), 0.0, n));
    // Residual, gate table and gate index are inputs 1 to 3, as many as there are.
    let extra = (1..cx.step.inputs.len()).map(|i| cx.input(i));
    let bindings = [cx.input(0), Binding::Weight(op.weight.clone())].into_iter().chain(bias).chain(extra).chain([cx.output()]).collect();
    // Products of extents pass 2³², where `usize` ends in browsers.
    let flops = 2.0 * rows as f64 * n as f64 * x.channels() as f64;
    // The fields that all presets have.
    macro_rules! params {
        ($kernel:ident) => {
            $kernel::Params {
                rows: rows as u32,
                k4: x.channels4() as u32,
                n4: n4 as u32,
                x_row_stride4: cx.stride4(0),
                x_base4: cx.base4(0),
                gate_row_stride4: if op.gate.is_some() { cx.stride4(2) } else { 0 },
                gate_base4: (op.gate.unwrap_or(0) / 4) as u32,
                ..Default::default()
            }
        };
    }
    match cx.preset {
        Preset::Lanes => {
            let params = params!(gemm_lanes);
            let items = lanes_tiles(rows, n);
            cx.dispatch(variant!(gemm_lanes, op, bias: has_bias, narrow: n <= NARROW).kernel(), items, flops, bindings, params);
        }
        Preset::Soft | Preset::Quads => {
            let quads = cx.preset == Preset::Quads;
            let SoftGrid { lane_cols, items } = soft_grid(rows, n, quads);
            let params = gemm_soft::Params { lane_cols, ..params!(gemm_soft) };
            let kernel = variant!(gemm_soft, op, quads: quads).kernel();
            cx.dispatch(kernel, items, flops, bindings, params);
        }
        Preset::Gpu => {
            let tiles = |side: usize| rows.div_ceil(side) * n.div_ceil(side);
            if tiles(WIDE_TILE) >= WIDE_TILES {
                let params = params!(gemm_gpu_wide);
                let kernel = variant!(gemm_gpu_wide, op).kernel();
                cx.dispatch(kernel, tiles(WIDE_TILE), flops, bindings, params);
            } else {
                let params = params!(gemm_gpu);
                let kernel = variant!(gemm_gpu, op).kernel();
                cx.dispatch(kernel, tiles(GPU_TILE), flops, bindings, params);
            }
        }
    }
}

/// Rows and columns of the tile a workgroup of `gemm_gpu` owns, and of that of `gemm_gpu_wide`.
const GPU_TILE: usize = 64;
const WIDE_TILE: usize = 128;

/// Fewest tiles for the wide kernel: with less, large GPUs would have multiprocessors without one.
const WIDE_TILES: usize = 128;

/// Widest output that takes the narrow `*_lanes` kernels.
pub(super) const NARROW: usize = 32;

/// Tiles of the `*_lanes` kernels: of 32 rows × 64 columns or, narrow, 32.
pub(super) fn lanes_tiles(rows: usize, n: usize) -> usize {
    rows.div_ceil(gemm_lanes::ROWS as usize) * n.div_ceil(64)
}

/// How the lanes of the `*_soft` kernels are arranged.
pub(super) struct SoftGrid {
    /// Blocks of 8 columns side by side in the eight lanes of a workgroup; rows are blocks of [`gemm_soft::ROWS`].
    pub(super) lane_cols: u32,
    pub(super) items: usize,
}

/// The arrangement that leaves the fewest lanes idle, and of those the widest. The lanes of a quad share rows.
pub(super) fn soft_grid(rows: usize, n: usize, quads: bool) -> SoftGrid {
    let (row_blocks, col_blocks) = (rows.div_ceil(gemm_soft::ROWS as usize), n.div_ceil(8));
    let items = |cols: usize| row_blocks.div_ceil(8 / cols) * col_blocks.div_ceil(cols);
    let widths = if quads { &[8, 4][..] } else { &[8, 4, 2, 1] };
    let lane_cols = widths.iter().copied().min_by_key(|&cols| items(cols)).unwrap_or(8);
    SoftGrid { lane_cols: lane_cols as u32, items: items(lane_cols) }
}

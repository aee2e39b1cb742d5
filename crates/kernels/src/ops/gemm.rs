//! Linear layers.

use crate::generated::{gemm_gpu, gemm_lanes, gemm_soft};
use crate::gpu::Family;
use crate::lower::{Binding, Lowering};
use crate::op::{Activation, Gemm, Op};
use crate::plan::Elem;
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

/// The variant of one family's kernel; the generated types of the families are distinct, their axes equal.
macro_rules! variant {
    ($kernel:ident, $op:expr) => {{
        use $kernel::{Epilogue, Variant, Weights};
        let weights = match $op.weight.format() {
            WeightFormat::F32 => Weights::F32,
            WeightFormat::F16 => Weights::F16,
        };
        let epilogue = match ($op.gate, $op.residual, $op.activation) {
            (Some(_), ..) => Epilogue::Gate,
            (None, true, _) => Epilogue::Residual,
            (None, false, Activation::None) => Epilogue::None,
            (None, false, Activation::GeluTanh) => Epilogue::GeluTanh,
            (None, false, Activation::GeluErf) => Epilogue::GeluErf,
            (None, false, Activation::Silu) => Epilogue::Silu,
            (None, false, Activation::Relu) => Epilogue::Relu,
        };
        Variant { weights, bias: $op.bias.is_some(), epilogue }
    }};
}

pub(super) fn lower(op: &Gemm, cx: &mut Lowering<'_>) {
    let (shape, x) = (cx.output_shape(), cx.shape(0));
    let (rows, n, n4) = (shape.rows(), shape.channels(), shape.channels4());
    let bias = op.bias.as_ref().map(|b| Binding::Weight(b.clone()));
    // Residual, gate table and gate index are inputs 1 to 3, as many as there are.
    let extra = (1..cx.step.inputs.len()).map(|i| cx.input(i));
    let bindings = [cx.input(0), Binding::Weight(op.weight.clone())].into_iter().chain(bias).chain(extra).chain([cx.output()]).collect();
    let flops = 2.0 * (rows * n * x.channels()) as f64;
    // The fields that all families have.
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
    match cx.family {
        Family::Lanes if fills_lanes(n) => {
            let params = params!(gemm_lanes);
            let items = rows.div_ceil(gemm_lanes::ROWS as usize) * n.div_ceil(gemm_lanes::COLS as usize);
            cx.dispatch(variant!(gemm_lanes, op).kernel(), items, flops, bindings, |first, end| gemm_lanes::Params {
                first,
                end,
                ..params
            });
        }
        Family::Soft | Family::Lanes => {
            let panels = n4.div_ceil(4);
            let lane_cols = soft_lane_columns(rows.div_ceil(gemm_soft::ROWS as usize), panels);
            let params = gemm_soft::Params { lane_cols: lane_cols as u32, ..params!(gemm_soft) };
            let items = rows.div_ceil(gemm_soft::ROWS as usize).div_ceil(8 / lane_cols) * panels.div_ceil(lane_cols);
            cx.dispatch(variant!(gemm_soft, op).kernel(), items, flops, bindings, |first, end| gemm_soft::Params { first, end, ..params });
        }
        Family::Gpu => {
            let params = params!(gemm_gpu);
            let items = rows.div_ceil(GPU_TILE) * n.div_ceil(GPU_TILE);
            cx.dispatch(variant!(gemm_gpu, op).kernel(), items, flops, bindings, |first, end| gemm_gpu::Params { first, end, ..params });
        }
    }
}

/// Rows and columns of the tile a workgroup of `gemm_gpu` owns.
const GPU_TILE: usize = 64;

/// Whether `n` output columns keep enough of the lanes of a 64-column tile busy to gain from sharing loads.
pub(super) fn fills_lanes(n: usize) -> bool {
    n >= 48
}

/// Panels side by side in the eight lanes of a workgroup: the arrangement that leaves the fewest lanes idle, and of
/// those the widest, which shares loads of x.
pub(super) fn soft_lane_columns(row_blocks: usize, panels: usize) -> usize {
    let groups = |cols: usize| row_blocks.div_ceil(8 / cols) * panels.div_ceil(cols);
    [8, 4, 2, 1].into_iter().min_by_key(|&cols| groups(cols)).unwrap_or(8)
}

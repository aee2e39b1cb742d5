//! The operators of [`Tensor`](crate::Tensor), one file per operation: shape rule and recording.

mod attention;
mod conv3d;
mod elementwise;
mod gemm;
mod group_norm;
mod modulate;
mod norm;
mod reindex;
mod sample;

pub use attention::{AttentionOptions, HEAD_SIZES, dense_sequences};
pub use conv3d::Conv3dOptions;
pub use reindex::PatchOrder;
pub use sample::{LinearStepInputs, Rescale};

use crate::lower::{Dispatch, Lowering};
use crate::op::Op;
use crate::plan::{Elem, Graph, Step};
use crate::preset::Preset;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
    /// Records an error unless the rows are stored one after another.
    #[track_caller]
    fn need_contiguous(self, op: &'static str) {
        if !self.is_contiguous() {
            self.plan().fail(op, "a tensor with all its columns (call `contiguous`)", format!("a view of {} columns", self.channels()));
        }
    }

    /// Records an error unless this is an index vector with one entry for each of `rows`.
    #[track_caller]
    fn need_index(self, op: &'static str, rows: usize) {
        if self.elem() != Elem::U32 || self.shape().elements() != rows {
            self.plan().fail(op, format!("{rows} row indices"), format!("{:?} {}", self.elem(), self.shape()));
        }
    }

    /// Records an error unless `self` has the extents of `other`.
    #[track_caller]
    fn need_same_shape(self, op: &'static str, other: Self) {
        if self.rows() != other.rows() || self.channels() != other.channels() {
            self.plan().fail(op, other.shape().to_string(), self.shape().to_string());
        }
    }
}

/// The dispatches of one step.
pub(crate) fn lower(graph: &Graph, step: &Step, preset: Preset) -> Vec<Dispatch> {
    let mut lowering = Lowering { graph, step, preset, dispatches: Vec::new() };
    let cx = &mut lowering;
    match &step.op {
        Op::Gemm(gemm) => gemm::lower(gemm, cx),
        Op::Attention(attention) => attention::lower(attention, cx),
        Op::Conv3d(conv) => conv3d::lower(conv, cx),
        Op::Norm(norm) => norm::lower_norm(norm, cx),
        Op::Moments(moments) => group_norm::lower_moments(*moments, cx),
        Op::GroupScale(scale) => group_norm::lower_group_scale(scale, cx),
        Op::GroupNorm(norm) => group_norm::lower_group_norm(norm, cx),
        Op::Modulate(columns) => modulate::lower_modulate(*columns, cx),
        Op::GatedAdd { gate } => modulate::lower_gated_add(*gate, cx),
        Op::Rope => norm::lower_rope(cx),
        Op::Binary(op, broadcast) => elementwise::lower_binary(*op, *broadcast, cx),
        &Op::Unary { activation, scale, offset } => elementwise::lower_unary(activation, scale, offset, cx),
        Op::Reindex(reindex) => reindex::lower_reindex(reindex, 0, cx),
        Op::WriteState(reindex) => reindex::lower_reindex(reindex, 1, cx),
        Op::Concat => elementwise::lower_concat(cx),
        Op::ConcatRows { batch } => elementwise::lower_concat_rows(*batch, cx),
        Op::GatherRows => elementwise::lower_gather_rows(cx),
        Op::GatherIndices => elementwise::lower_gather_indices(cx),
        Op::GroupMean { group } => elementwise::lower_group_mean(*group, cx),
        &Op::Guide { guided_channels, rescaled } => sample::lower_guide(guided_channels, rescaled, cx),
        Op::LinearStep(step) => sample::lower_linear_step(step, cx),
        Op::Rgba => sample::lower_rgba(cx),
    }
    lowering.dispatches
}

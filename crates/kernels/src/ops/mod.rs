//! The operators of [`Tensor`](crate::Tensor), one file per operation: shape rule and recording.

mod attention;
mod conv3d;
mod elementwise;
mod gemm;
mod modulate;
mod norm;
mod reindex;
mod sample;

pub use attention::{AttentionOptions, dense_sequences};
pub use conv3d::Conv3dOptions;
pub use reindex::PatchOrder;

use crate::plan::Elem;
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

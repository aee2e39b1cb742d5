//! CPU twins: every operation as plain loops with f64 accumulators. They are the oracle of the kernels and, through
//! [`Executable`](crate::Executable), an executor without a GPU.

mod attention;
mod conv3d;
mod elementwise;
mod gemm;
mod group_norm;
mod norm;
mod sample;

pub(crate) use conv3d::source;
pub use elementwise::activate;

use crate::executable::CancelToken;
use crate::op::Op;
use crate::plan::{Elem, Graph, Operand, Step};
use crate::shape::Shape;
use crate::weight::Weight;

/// Whether the twins of the operations that [`host`](crate::host) computes are there: pages are spared what only tests compare with, and
/// run a plan for twins as one for the processor.
pub(crate) const HEAVY: bool = cfg!(any(not(target_arch = "wasm32"), feature = "twins"));

/// A stored tensor on the host: rows padded to a multiple of four values.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Floats.
    F32(Vec<f32>),
    /// Indices or pixels.
    U32(Vec<u32>),
}

impl Data {
    /// Zeros for a stored tensor.
    pub fn zeros(shape: Shape, elem: Elem) -> Self {
        let len = shape.rows() * shape.channels4() * 4;
        match elem {
            Elem::F32 => Self::F32(vec![0.0; len]),
            Elem::U32 => Self::U32(vec![0; len]),
        }
    }

    /// The floats; empty for indices.
    pub fn f32(&self) -> &[f32] {
        if let Self::F32(v) = self { v } else { &[] }
    }

    /// The indices; empty for floats.
    pub fn u32(&self) -> &[u32] {
        if let Self::U32(v) = self { v } else { &[] }
    }
}

/// Rows of floats inside a stored tensor.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    column: usize,
    rows: usize,
    channels: usize,
}

impl<'a> Rows<'a> {
    /// Row `r` without its padding.
    pub fn row(&self, r: usize) -> &'a [f32] {
        let start = r * self.stride + self.column;
        &self.data[start..start + self.channels]
    }

    /// Number of rows, R.
    pub fn count(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// The operands of one step on the host.
pub struct Operands<'a> {
    graph: &'a Graph,
    values: &'a [Option<Data>],
    inputs: &'a [Operand],
    stop: &'a CancelToken,
}

impl<'a> Operands<'a> {
    /// `inputs` of a step, with all values of its plan; a result that `stop` leaves unfinished is not used.
    pub(crate) fn new(graph: &'a Graph, values: &'a [Option<Data>], inputs: &'a [Operand], stop: &'a CancelToken) -> Self {
        Self { graph, values, inputs, stop }
    }

    /// What ends a step early.
    pub(crate) fn stop(&self) -> &'a CancelToken {
        self.stop
    }

    /// The stored rows of an output, without their padding.
    fn rows_mut<'y>(&self, y: &'y mut [f32], shape: Shape) -> impl Iterator<Item = &'y mut [f32]> + use<'y, 'a> {
        let (channels, stop) = (shape.channels(), self.stop);
        y.chunks_exact_mut(shape.channels4() * 4).take_while(|_| !stop.is_cancelled()).map(move |row| &mut row[..channels])
    }

    /// Floats of input `i`.
    pub fn rows(&self, i: usize) -> Rows<'a> {
        let operand = self.inputs[i];
        let stride = self.graph.values[operand.value].shape.channels4() * 4;
        Rows { data: self.stored(i), stride, column: operand.column, rows: operand.shape.rows(), channels: operand.shape.channels() }
    }

    /// Indices of input `i`.
    pub fn indices(&self, i: usize) -> &'a [u32] {
        let operand = self.inputs[i];
        let all = self.values[operand.value].as_ref().map(Data::u32).unwrap_or_default();
        &all[..operand.shape.elements()]
    }

    /// All stored floats of input `i`, with padding and neighbouring columns.
    pub fn stored(&self, i: usize) -> &'a [f32] {
        self.values[self.inputs[i].value].as_ref().map(Data::f32).unwrap_or_default()
    }

    /// The shape of input `i`.
    pub fn shape(&self, i: usize) -> Shape {
        self.inputs[i].shape
    }
}

/// Runs one step on the host, to its end or until `stop`. Every input must have been computed or written.
pub fn run_step(graph: &Graph, step: &Step, values: &[Option<Data>], stop: &CancelToken) -> Data {
    let shape = graph.values[step.output].shape;
    let inputs = Operands::new(graph, values, &step.inputs, stop);
    let mut out = Data::zeros(shape, graph.values[step.output].elem);
    match (&step.op, &mut out) {
        (Op::Rgba, out) => *out = Data::U32(sample::rgba(&inputs, shape)),
        (Op::GatherIndices, Data::U32(y)) => elementwise::gather_indices(&inputs, y),
        (_, Data::U32(_)) => {}
        (op, Data::F32(y)) => run_float(op, &inputs, shape, y),
    }
    out
}

fn run_float(op: &Op, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    match op {
        Op::Gemm(gemm) if HEAVY => gemm::gemm(gemm, inputs, shape, y),
        Op::Attention(attention) if HEAVY => attention::flash_attention(attention, inputs, shape, y),
        Op::Conv3d(conv) if HEAVY => conv3d::conv3d(conv, inputs, shape, y),
        Op::Norm(norm) => norm::norm(norm, inputs, shape, y),
        Op::Moments(moments) => group_norm::moments(*moments, inputs, shape, y),
        Op::GroupScale(scale) => group_norm::group_scale(scale, inputs, shape, y),
        Op::GroupNorm(norm) => group_norm::group_norm(norm, inputs, shape, y),
        Op::Modulate(columns) => norm::modulate(*columns, inputs, shape, y),
        Op::GatedAdd { gate } => elementwise::gated_add(*gate, inputs, shape, y),
        Op::Rope => norm::rope(inputs, shape, y),
        Op::Binary(op, broadcast) => elementwise::binary(*op, *broadcast, inputs, shape, y),
        &Op::Unary { activation, scale, offset } => elementwise::unary(activation, scale, offset, inputs, shape, y),
        Op::Reindex(reindex) => elementwise::reindex(reindex, inputs, 0, y),
        Op::WriteState(reindex) => elementwise::reindex(reindex, inputs, 1, y),
        Op::Concat => elementwise::concat(inputs, shape, y),
        Op::ConcatRows { batch } => elementwise::concat_rows(*batch, inputs, shape, y),
        Op::GatherRows => elementwise::gather_rows(inputs, shape, y),
        Op::GroupMean { group } => elementwise::group_mean(*group, inputs, shape, y),
        &Op::Guide { guided_channels, rescaled } => sample::guide(guided_channels, rescaled, inputs, shape, y),
        Op::LinearStep(step) => sample::linear_step(step, inputs, shape, y),
        Op::GatherIndices | Op::Rgba => {}
        // Loud, where this would otherwise hand on zeros: whoever gets here has built a page and asked for twins.
        Op::Gemm(_) | Op::Attention(_) | Op::Conv3d(_) => unreachable!("without twins the processor computes it"),
    }
}

/// The values of an optional vector, or `fill` for each channel.
pub(crate) fn vector(weight: Option<&Weight>, channels: usize, fill: f32) -> Vec<f32> {
    weight.map_or_else(|| vec![fill; channels], Weight::values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn a_stop_is_seen_after_a_row() -> crate::error::Result<()> {
        let (graph, stop) = (Plan::new().finish()?, CancelToken::default());
        let mut y = [0.0; 40];
        let rows = Operands::new(&graph, &[], &[], &stop).rows_mut(&mut y, Shape::new(&[10, 3])).map(|_| stop.cancel()).count();
        assert_eq!(rows, 1);
        Ok(())
    }
}

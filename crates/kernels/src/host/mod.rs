//! The machine's own processor without a graphics API: the operations that take the time as blocked products in single precision,
//! all others as their twins do them. Checked against the twins like a kernel.

mod attention;
mod conv3d;
mod gemm;
mod lanes;
mod tiles;

use crate::executable::CancelToken;
use crate::op::Op;
use crate::plan::{Graph, Step};
use crate::reference::{Data, Operands, run_step};
use crate::weight::Weight;
use tiles::Packed;

/// As much of packed weights is kept between steps; where there are more, all are packed again and again.
const KEPT_BYTES: usize = 512 << 20;

/// After so many values others get a turn: one large convolution, or a few layers of a transformer, which take some 100 ms.
const TURN: usize = 1 << 20;

/// The packed weights of a plan.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// By the numbers of the weights.
    packed: Vec<(u64, Packed)>,
    bytes: usize,
    /// Values that were computed since the last turn of others.
    work: usize,
}

impl Host {
    /// Runs one step, to its end or until `stop`. Every input must have been computed or written.
    pub(crate) fn run_step(&mut self, graph: &Graph, step: &Step, values: &[Option<Data>], stop: &CancelToken) -> Data {
        let shape = graph.values[step.output].shape;
        self.work += shape.elements();
        if !matches!(step.op, Op::Gemm(_) | Op::Conv3d(_) | Op::Attention(_)) {
            return run_step(graph, step, values, stop);
        }
        let inputs = Operands::new(graph, values, &step.inputs, stop);
        let mut y = vec![0.0; shape.rows() * shape.channels4() * 4];
        match &step.op {
            Op::Gemm(op) => gemm::gemm(op, self.packed(&op.weight), &inputs, shape, &mut y),
            Op::Conv3d(op) => conv3d::conv3d(op, self.packed(&op.weight), &inputs, shape, &mut y),
            Op::Attention(op) => attention::attention(op, &inputs, shape, &mut y),
            _ => {}
        }
        Data::F32(y)
    }

    /// Whether others should get a turn before the next step.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.work >= TURN;
        if due {
            self.work = 0;
        }
        due
    }

    fn packed(&mut self, weight: &Weight) -> &Packed {
        let known = self.packed.iter().position(|(id, _)| *id == weight.id());
        let at = known.unwrap_or_else(|| {
            let dims = weight.shape();
            let (columns, depth) = (dims.dims()[0], dims.dims()[1]);
            let taps: usize = dims.dims()[2..].iter().product();
            let values = weight.values();
            let packed = Packed::new([columns, taps, depth], &|column, tap, k| values[(column * depth + k) * taps + tap]);
            if self.bytes + packed.bytes() > KEPT_BYTES {
                self.packed.clear();
                self.bytes = 0;
            }
            self.bytes += packed.bytes();
            self.packed.push((weight.id(), packed));
            self.packed.len() - 1
        });
        &self.packed[at].1
    }
}

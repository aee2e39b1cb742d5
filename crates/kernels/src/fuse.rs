//! The closed list of rewrites of a finished plan. Each joins a step with the only reader of its result.
//!
//! 1. norm without affine, or group norm → modulate ⇒ norm with modulation
//! 2. gemm → activation ⇒ epilogue
//! 3. gemm → gated add ⇒ epilogue
//! 4. gemm or conv3d → add of an equal shape ⇒ epilogue
//! 5. norm without bias → rope ⇒ norm with rotation
//! 6. norm or group norm → silu ⇒ norm with activation
//! 7. guide → linear step ⇒ linear step with guidance

use crate::op::{Activation, BinaryOp, Broadcast, Conv3d, Gemm, GroupNorm, LinearStep, Norm, Op};
use crate::plan::{Graph, Operand, Source, Step};

/// Applies the rules until none fits.
pub fn fuse(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.steps.len() {
        match try_fuse(graph, index) {
            Some(producer) => {
                graph.steps.remove(producer);
                renumber(graph);
                index = index.saturating_sub(1);
            }
            None => index += 1,
        }
    }
}

fn renumber(graph: &mut Graph) {
    for (i, step) in graph.steps.iter().enumerate() {
        graph.values[step.output].source = Source::Step(i);
    }
}

/// Joins step `consumer` with one of its producers; returns the index of the producer, now superfluous.
fn try_fuse(graph: &mut Graph, consumer: usize) -> Option<usize> {
    for position in 0..graph.steps[consumer].inputs.len().min(2) {
        let Some(producer) = sole_producer(graph, consumer, position) else { continue };
        if let Some(step) = join(graph, &graph.steps[producer], &graph.steps[consumer], position) {
            graph.steps[consumer] = step;
            return Some(producer);
        }
    }
    None
}

/// The step that makes input `position` of `consumer`, if it is read whole and nowhere else, at the same cadence.
fn sole_producer(graph: &Graph, consumer: usize, position: usize) -> Option<usize> {
    let operand = graph.steps[consumer].inputs[position];
    let Source::Step(producer) = graph.values[operand.value].source else { return None };
    let whole = operand.column == 0 && operand.shape.elements() == graph.values[operand.value].shape.elements();
    let uses =
        graph.steps.iter().flat_map(|s| &s.inputs).chain(graph.outputs.iter().map(|(_, o)| o)).filter(|o| o.value == operand.value).count();
    let same_cadence = graph.cadence(&graph.steps[producer]) == graph.cadence(&graph.steps[consumer]);
    // What is written in place in between must not be read afterwards instead of before.
    let changed = graph.steps[producer..consumer].iter().filter(|step| step.op.in_place()).map(|step| step.inputs[0].value);
    let stale = changed.into_iter().any(|value| graph.steps[producer].inputs.iter().any(|input| input.value == value));
    (whole && uses == 1 && same_cadence && !stale).then_some(producer)
}

/// The step that does what `first` and then `second` do, where `second` reads the result of `first` at `position`.
fn join(graph: &Graph, first: &Step, second: &Step, position: usize) -> Option<Step> {
    if let (&Op::Guide { guided_channels, rescaled: false }, Op::LinearStep(linear), 1) = (&first.op, &second.op, position) {
        // Done in place on its first input, which therefore stays the first.
        let mut inputs = second.inputs.clone();
        inputs[1] = first.inputs[0];
        inputs.extend(&first.inputs[1..]);
        let op = Op::LinearStep(LinearStep { guided: Some(guided_channels), ..*linear });
        return Some(Step { op, inputs, ..second.clone() });
    }
    let rest: Vec<Operand> = second.inputs.iter().enumerate().filter(|(i, _)| *i != position).map(|(_, o)| *o).collect();
    let op = match (&first.op, &second.op, position) {
        (Op::Norm(norm), Op::Modulate(columns), 0) if plain(norm) && norm.gain.is_none() && norm.bias.is_none() && norm.groups == 1 => {
            Op::Norm(Norm { modulation: Some(*columns), ..norm.clone() })
        }
        (Op::Norm(norm), Op::Rope, 0)
            if plain(norm)
                && norm.bias.is_none()
                && graph.values[rest[0].value].shape.channels() * norm.groups == first_channels(graph, first) =>
        {
            Op::Norm(Norm { rope: true, ..norm.clone() })
        }
        (Op::Norm(norm), Op::Unary { activation: Activation::Silu, scale: 1.0, offset: 0.0 }, 0) if !norm.silu => {
            Op::Norm(Norm { silu: true, ..norm.clone() })
        }
        (Op::GroupNorm(norm), Op::Modulate(columns), 0) if norm.modulation.is_none() && !norm.silu => {
            Op::GroupNorm(GroupNorm { modulation: Some(*columns), ..norm.clone() })
        }
        (Op::GroupNorm(norm), Op::Unary { activation: Activation::Silu, scale: 1.0, offset: 0.0 }, 0) if !norm.silu => {
            Op::GroupNorm(GroupNorm { silu: true, ..norm.clone() })
        }
        (Op::Gemm(gemm), &Op::Unary { activation, scale: 1.0, offset: 0.0 }, 0) if bare(gemm) && activation != Activation::Tanh => {
            Op::Gemm(Gemm { activation, ..gemm.clone() })
        }
        (Op::Gemm(gemm), &Op::GatedAdd { gate }, 0) if bare(gemm) => Op::Gemm(Gemm { residual: true, gate: Some(gate), ..gemm.clone() }),
        (Op::Gemm(gemm), Op::Binary(BinaryOp::Add, Broadcast { divide: 1 }), _) if bare(gemm) && same_size(graph, second) => {
            Op::Gemm(Gemm { residual: true, ..gemm.clone() })
        }
        (Op::Conv3d(conv), Op::Binary(BinaryOp::Add, Broadcast { divide: 1 }), _) if !conv.residual && same_size(graph, second) => {
            Op::Conv3d(Conv3d { residual: true, ..conv.clone() })
        }
        _ => return None,
    };
    let inputs = first.inputs.iter().copied().chain(rest).collect();
    Some(Step { op, inputs, output: second.output, label: first.label.clone() })
}

/// A gemm without an epilogue beyond its bias; it takes one.
fn bare(gemm: &Gemm) -> bool {
    gemm.activation == Activation::None && !gemm.residual && gemm.gate.is_none()
}

/// A norm that nothing has been joined to yet.
fn plain(norm: &Norm) -> bool {
    norm.modulation.is_none() && !norm.rope && !norm.silu
}

fn first_channels(graph: &Graph, step: &Step) -> usize {
    graph.values[step.output].shape.channels()
}

fn same_size(graph: &Graph, add: &Step) -> bool {
    let stored = |o: &Operand| o.shape.rows() == graph.values[add.output].shape.rows();
    add.inputs.iter().all(stored)
}

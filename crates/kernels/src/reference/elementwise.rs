//! Twins of the pointwise and copying kernels.

use super::Operands;
use crate::op::{Activation, Axis, BinaryOp, Broadcast, Reindex};
use crate::shape::Shape;

/// An activation in f64.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
        Activation::GeluErf => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        // Not `max`, which turns NaN into 0.
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
    }
}

pub(super) fn unary(activation: Activation, scale: f32, offset: f32, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        for (out, value) in out.iter_mut().zip(x.row(r)) {
            *out = activate(activation, f64::from(*value) * f64::from(scale) + f64::from(offset)) as f32;
        }
    }
}

pub(super) fn binary(op: BinaryOp, broadcast: Broadcast, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (a, b) = (inputs.rows(0), inputs.rows(1));
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let other = b.row(r / broadcast.divide % b.count());
        for (out, (a, b)) in out.iter_mut().zip(a.row(r).iter().zip(other)) {
            *out = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Mul => a * b,
            };
        }
    }
}

pub(super) fn gated_add(gate: usize, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, residual, table, index) = (inputs.rows(0), inputs.rows(1), inputs.rows(2), inputs.indices(3));
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let gates = &table.row(index[r] as usize)[gate..];
        for (c, out) in out.iter_mut().enumerate() {
            *out = (f64::from(residual.row(r)[c]) + f64::from(gates[c]) * f64::from(x.row(r)[c])) as f32;
        }
    }
}

pub(super) fn reindex(op: &Reindex, inputs: &Operands<'_>, input: usize, y: &mut [f32]) {
    // A single value has no loops.
    let once = Axis { extent: 1, input_stride: 0, output_stride: 0 };
    let (inner, outer) = op.axes.split_last().unwrap_or((&once, &[]));
    let total: usize = outer.iter().map(|a| a.extent).product();
    let x = inputs.stored(input);
    for i in (0..total).take_while(|_| !inputs.stop().is_cancelled()) {
        let (mut rest, mut from, mut to) = (i, op.input_base, 0);
        for axis in outer.iter().rev() {
            from += rest % axis.extent * axis.input_stride;
            to += rest % axis.extent * axis.output_stride;
            rest /= axis.extent;
        }
        for j in 0..inner.extent {
            y[to + j * inner.output_stride] = x[from + j * inner.input_stride];
        }
    }
}

pub(super) fn gather_indices(inputs: &Operands<'_>, y: &mut [u32]) {
    let [source, index, offset] = [0, 1, 2].map(|i| inputs.indices(i));
    for (y, (index, offset)) in y.iter_mut().zip(index.iter().zip(offset)) {
        *y = source[*index as usize] + offset;
    }
}

pub(super) fn concat(inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (a, b) = (inputs.rows(0), inputs.rows(1));
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let (left, right) = out.split_at_mut(a.channels());
        left.copy_from_slice(a.row(r));
        right.copy_from_slice(b.row(r));
    }
}

pub(super) fn concat_rows(batch: usize, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (a, b) = (inputs.rows(0), inputs.rows(1));
    let (a_rows, b_rows) = (a.count() / batch, b.count() / batch);
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let (entry, at) = (r / (a_rows + b_rows), r % (a_rows + b_rows));
        out.copy_from_slice(if at < a_rows { a.row(entry * a_rows + at) } else { b.row(entry * b_rows + at - a_rows) });
    }
}

pub(super) fn gather_rows(inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (table, index) = (inputs.rows(0), inputs.indices(1));
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        out.copy_from_slice(table.row(index[r] as usize));
    }
}

pub(super) fn group_mean(group: usize, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        for (out, values) in out.iter_mut().zip(x.row(r).chunks_exact(group)) {
            *out = (values.iter().map(|v| f64::from(*v)).sum::<f64>() / group as f64) as f32;
        }
    }
}

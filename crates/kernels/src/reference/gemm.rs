//! Twin of the gemm kernels.

use super::{Operands, activate, vector};
use crate::op::Gemm;
use crate::shape::Shape;

pub(super) fn gemm(op: &Gemm, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, w) = (inputs.rows(0), op.weight.values());
    let k = x.channels();
    let bias = vector(op.bias.as_ref(), shape.channels(), 0.0);
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let row = x.row(r);
        for (n, out) in out.iter_mut().enumerate() {
            let sum: f64 = row.iter().zip(&w[n * k..(n + 1) * k]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let mut value = activate(op.activation, sum + f64::from(bias[n]));
            if let Some(gate) = op.gate {
                value *= f64::from(inputs.rows(2).row(inputs.indices(3)[r] as usize)[gate + n]);
            }
            if op.residual {
                value += f64::from(inputs.rows(1).row(r)[n]);
            }
            *out = value as f32;
        }
    }
}

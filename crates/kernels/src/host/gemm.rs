//! Linear layers.

use super::tiles::{Packed, side_by_side};
use crate::op::Gemm;
use crate::reference::{Operands, activate, vector};
use crate::shape::Shape;

pub(super) fn gemm(op: &Gemm, packed: &Packed, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let bias = vector(op.bias.as_ref(), shape.channels(), 0.0);
    let stride = shape.channels4() * 4;
    side_by_side(y, stride, &|first, own| {
        packed.multiply([first, own.len() / stride], inputs.stop(), &|row, _| Some(x.row(row)), &mut |row, column, sums| {
            let at = (row - first) * stride + column;
            for (i, (out, sum)) in own[at..at + sums.len()].iter_mut().zip(sums).enumerate() {
                let n = column + i;
                let mut value = activate(op.activation, f64::from(*sum) + f64::from(bias[n]));
                if let Some(gate) = op.gate {
                    value *= f64::from(inputs.rows(2).row(inputs.indices(3)[row] as usize)[gate + n]);
                }
                if op.residual {
                    value += f64::from(inputs.rows(1).row(row)[n]);
                }
                *out = value as f32;
            }
        });
    });
}

//! Convolutions, as sums of products over their taps.

use super::tiles::{Packed, side_by_side};
use crate::op::Conv3d;
use crate::reference::{Operands, source, vector};
use crate::shape::Shape;

pub(super) fn conv3d(op: &Conv3d, packed: &Packed, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let input = inputs.shape(0);
    let (&[_, f, h, w, _], &[_, fo, ho, wo, n]) = (input.dims(), shape.dims()) else { return };
    let &[_, _, _, kh, kw] = op.weight.shape().dims() else { return };
    let bias = vector(op.bias.as_ref(), n, 0.0);
    let stride = shape.channels4() * 4;
    let pixel = |row: usize, tap: usize| {
        let (b, out) = (row / (fo * ho * wo), [row / (ho * wo) % fo, row / wo % ho, row % wo]);
        let tap = [tap / (kh * kw), tap / kw % kh, tap % kw];
        let at = |axis: usize, extent, padding| {
            source((out[axis] * op.stride[axis] + tap[axis]) as isize - op.front[axis] as isize, extent, padding)
        };
        let (t, i, j) = (at(0, f, op.time_padding)?, at(1, h, op.space_padding)?, at(2, w, op.space_padding)?);
        Some(x.row(((b * f + t) * h + i) * w + j))
    };
    side_by_side(y, stride, &|first, own| {
        packed.multiply([first, own.len() / stride], inputs.stop(), &pixel, &mut |row, column, sums| {
            let at = (row - first) * stride + column;
            for (i, (out, sum)) in own[at..at + sums.len()].iter_mut().zip(sums).enumerate() {
                let residual = if op.residual { inputs.rows(1).row(row)[column + i] } else { 0.0 };
                *out = sum + bias[column + i] + residual;
            }
        });
    });
}

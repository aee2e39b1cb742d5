//! Twin of the conv3d kernels.

use super::{Operands, vector};
use crate::op::{Conv3d, Padding};
use crate::shape::Shape;

/// The position read for `position` on an axis of `extent`, or `None` for a zero.
pub(crate) fn source(position: isize, extent: usize, padding: Padding) -> Option<usize> {
    match padding {
        Padding::Zero => usize::try_from(position).ok().filter(|p| *p < extent),
        Padding::Replicate => Some(position.clamp(0, extent as isize - 1) as usize),
    }
}

pub(super) fn conv3d(op: &Conv3d, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let input = inputs.shape(0);
    let (&[_, f, h, w, c], &[batch, fo, ho, wo, n]) = (input.dims(), shape.dims()) else { return };
    let &[_, _, kt, kh, kw] = op.weight.shape().dims() else { return };
    let (weight, bias) = (op.weight.values(), vector(op.bias.as_ref(), n, 0.0));
    let taps = kt * kh * kw;
    // [Cout][taps][Cin], so that the inner loop runs over neighbours on both sides.
    let mut by_tap = vec![0.0f32; weight.len()];
    for (i, value) in weight.iter().enumerate() {
        let (row, c_in, tap) = (i / (c * taps), i / taps % c, i % taps);
        by_tap[(row * taps + tap) * c + c_in] = *value;
    }
    for (out_row, out) in inputs.rows_mut(y, shape).take(batch * fo * ho * wo).enumerate() {
        let (b, t, i, j) = (out_row / (fo * ho * wo), out_row / (ho * wo) % fo, out_row / wo % ho, out_row % wo);
        let mut sums: Vec<f64> = bias.iter().map(|b| f64::from(*b)).collect();
        for tap in 0..taps {
            let (dt, dh, dw) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let at = |o: usize, axis: usize, d: usize| (o * op.stride[axis] + d) as isize - op.front[axis] as isize;
            let (Some(t), Some(i), Some(j)) = (
                source(at(t, 0, dt), f, op.time_padding),
                source(at(i, 1, dh), h, op.space_padding),
                source(at(j, 2, dw), w, op.space_padding),
            ) else {
                continue;
            };
            let pixel = x.row(((b * f + t) * h + i) * w + j);
            for (row, sum) in sums.iter_mut().enumerate() {
                let w = &by_tap[(row * taps + tap) * c..(row * taps + tap + 1) * c];
                *sum += pixel.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            }
        }
        for (channel, sum) in sums.iter().enumerate() {
            let residual = if op.residual { f64::from(inputs.rows(1).row(out_row)[channel]) } else { 0.0 };
            out[channel] = (sum + residual) as f32;
        }
    }
}

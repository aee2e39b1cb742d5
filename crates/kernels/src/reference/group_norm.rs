//! Twins of the three kernels of a group norm.

use super::norm::modulate_row;
use super::{Operands, activate, vector};
use crate::op::{Activation, GroupNorm, GroupScale, Moments};
use crate::shape::Shape;

pub(super) fn moments(op: Moments, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let (rows, slices) = (x.count() / op.batch, shape.rows() / op.batch);
    let stored = shape.channels() / 2;
    for (part, out) in inputs.rows_mut(y, shape).enumerate() {
        let begin = part % slices * op.slice;
        let end = (begin + op.slice).min(rows);
        let slice = || (begin..end).map(|row| x.row(part / slices * rows + row));
        for c in 0..x.channels() {
            let values = || slice().map(|row| f64::from(row[c]));
            let mean = values().sum::<f64>() / (end - begin) as f64;
            out[c] = mean as f32;
            out[stored + c] = values().map(|v| (v - mean).powi(2)).sum::<f64>() as f32;
        }
    }
}

pub(super) fn group_scale(op: &GroupScale, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let (slices, stored, size) = (x.count() / shape.rows(), shape.channels() / 2, op.channels / op.groups);
    let gain = vector(op.gain.as_ref(), op.channels, 1.0);
    let total = (op.rows * size) as f64;
    for (entry, out) in inputs.rows_mut(y, shape).enumerate() {
        for group in 0..op.groups {
            let channels = || group * size..(group + 1) * size;
            let parts = || {
                (0..slices).flat_map(|slice| {
                    let count = op.slice.min(op.rows - slice * op.slice) as f64;
                    let row = x.row(entry * slices + slice);
                    channels().map(move |c| (count, f64::from(row[c]), f64::from(row[stored + c])))
                })
            };
            let mean = parts().map(|(count, mean, _)| count * mean).sum::<f64>() / total;
            let squares = parts().map(|(count, own, squares)| squares + count * (own - mean).powi(2)).sum::<f64>();
            let scale = 1.0 / (squares / total + f64::from(op.eps)).sqrt();
            for c in channels() {
                out[c] = mean as f32;
                out[stored + c] = (scale * f64::from(gain[c])) as f32;
            }
        }
    }
}

pub(super) fn group_norm(op: &GroupNorm, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, scales) = (inputs.rows(0), inputs.rows(1));
    let (rows, stored) = (x.count() / scales.count(), scales.channels() / 2);
    let bias = vector(op.bias.as_ref(), shape.channels(), 0.0);
    let activation = if op.silu { Activation::Silu } else { Activation::None };
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let (row, scales) = (x.row(r), scales.row(r / rows));
        let normed = |c: usize| (f64::from(row[c]) - f64::from(scales[c])) * f64::from(scales[stored + c]) + f64::from(bias[c]);
        let mut normed: Vec<f64> = (0..shape.channels()).map(normed).collect();
        if let Some(columns) = op.modulation {
            modulate_row(&mut normed, inputs.rows(2).row(inputs.indices(3)[r] as usize), columns);
        }
        for (out, value) in out.iter_mut().zip(normed) {
            *out = activate(activation, value) as f32;
        }
    }
}

//! Twins of the norm, modulation and rotary kernels.

use super::{Operands, activate, vector};
use crate::op::{Activation, ModulationColumns, Norm, NormKind};
use crate::shape::Shape;

pub(super) fn norm(op: &Norm, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let x = inputs.rows(0);
    let c = shape.channels();
    let (gain, bias) = (vector(op.gain.as_ref(), c, 1.0), vector(op.bias.as_ref(), c, 0.0));
    let size = c / op.groups;
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        let row = x.row(r);
        let mut normed = vec![0.0f64; c];
        for group in 0..op.groups {
            let values = &row[group * size..(group + 1) * size];
            let mean = match op.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => values.iter().map(|v| f64::from(*v)).sum::<f64>() / size as f64,
            };
            let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / size as f64;
            let scale = 1.0 / (variance + f64::from(op.eps)).sqrt();
            for (i, value) in values.iter().enumerate() {
                let channel = group * size + i;
                normed[channel] = (f64::from(*value) - mean) * scale * f64::from(gain[channel]) + f64::from(bias[channel]);
            }
        }
        if let Some(columns) = op.modulation {
            modulate_row(&mut normed, inputs.rows(1).row(inputs.indices(2)[r] as usize), columns);
        }
        if op.rope {
            let table = inputs.rows(1 + if op.modulation.is_some() { 2 } else { 0 });
            rotate_row(&mut normed, table.row(r % table.count()));
        }
        let activation = if op.silu { Activation::Silu } else { Activation::None };
        for (out, value) in out.iter_mut().zip(normed) {
            *out = activate(activation, value) as f32;
        }
    }
}

pub(super) fn modulate_row(row: &mut [f64], table: &[f32], columns: ModulationColumns) {
    for (i, value) in row.iter_mut().enumerate() {
        *value = *value * (1.0 + f64::from(table[columns.scale + i])) + f64::from(table[columns.shift + i]);
    }
}

fn rotate_row(row: &mut [f64], table: &[f32]) {
    for (i, pair) in row.chunks_exact_mut(2).enumerate() {
        let at = 2 * i % table.len();
        let (cos, sin) = (f64::from(table[at]), f64::from(table[at + 1]));
        (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin);
    }
}

pub(super) fn modulate(columns: ModulationColumns, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, table, index) = (inputs.rows(0), inputs.rows(1), inputs.indices(2));
    by_row(inputs, shape, y, |r, row| {
        row.extend(x.row(r).iter().map(|v| f64::from(*v)));
        modulate_row(row, table.row(index[r] as usize), columns);
    });
}

pub(super) fn rope(inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, table) = (inputs.rows(0), inputs.rows(1));
    by_row(inputs, shape, y, |r, row| {
        row.extend(x.row(r).iter().map(|v| f64::from(*v)));
        rotate_row(row, table.row(r % table.count()));
    });
}

fn by_row(inputs: &Operands<'_>, shape: Shape, y: &mut [f32], compute: impl Fn(usize, &mut Vec<f64>)) {
    let mut row = Vec::with_capacity(shape.channels());
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        row.clear();
        compute(r, &mut row);
        out.iter_mut().zip(&row).for_each(|(out, value)| *out = *value as f32);
    }
}

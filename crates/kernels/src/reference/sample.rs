//! Twins of guidance, of the step of a sampler and of the conversion to pixels.

use super::{Operands, Rows};
use crate::op::{Amplitude, LinearStep};
use crate::shape::Shape;

pub(super) fn guide(guided_channels: usize, rescaled: bool, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (x, unconditional, guidance) = (inputs.rows(0), inputs.indices(1), inputs.rows(2).row(0));
    let value = |r: usize, c| guided(x, [r, unconditional[r] as usize], c, guidance[r], guided_channels);
    let mut factors = vec![1.0; shape.rows()];
    if rescaled {
        let share = inputs.rows(3).row(0);
        for sequence in inputs.indices(4).windows(2) {
            let rows = sequence[0] as usize..sequence[1] as usize;
            let values: Vec<[f64; 2]> = rows.clone().flat_map(|r| (0..x.channels()).map(move |c| value(r, c))).collect();
            let [conditional, guided] = [0, 1].map(|i| variance(values.iter().map(|v| v[i])));
            let ratio = if guided <= 0.0 { 1.0 } else { (conditional / guided).sqrt() };
            for r in rows {
                factors[r] = 1.0 + f64::from(share[r]) * (ratio - 1.0);
            }
        }
    }
    for (r, out) in inputs.rows_mut(y, shape).enumerate() {
        for (c, out) in out.iter_mut().enumerate() {
            *out = (factors[r] * value(r, c)[1]) as f32;
        }
    }
}

/// Conditional and guided prediction of one channel, from the rows of the conditional and the unconditional one.
fn guided(x: Rows<'_>, rows: [usize; 2], channel: usize, guidance: f32, guided_channels: usize) -> [f64; 2] {
    let [conditional, unconditional] = rows.map(|row| f64::from(x.row(row)[channel]));
    let factor = if channel < guided_channels { f64::from(guidance) } else { 1.0 };
    [conditional, unconditional + factor * (conditional - unconditional)]
}

fn variance(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = values.len() as f64;
    let mean = values.clone().sum::<f64>() / count;
    values.map(|v| (v - mean).powi(2)).sum::<f64>() / count
}

pub(super) fn linear_step(step: &LinearStep, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (state, prediction, level, table) = (inputs.rows(0), inputs.rows(1), inputs.indices(2), inputs.rows(3));
    let rows = shape.rows() / (1 + step.history);
    let guidance = step.guided.map(|channels| {
        let first = 4 + usize::from(step.noise.is_some());
        (inputs.indices(first), inputs.rows(first + 1).row(0), channels)
    });
    let at = |k: usize, r: usize, c: usize| (k * rows + r) * shape.channels4() * 4 + c;
    for r in (0..rows).take_while(|_| !inputs.stop().is_cancelled()) {
        let t: Vec<f64> = table.row(level[r] as usize).iter().map(|v| f64::from(*v)).collect();
        for c in 0..shape.channels() {
            let past = |k: usize| f64::from(state.row(k * rows + r)[c]);
            let o = match guidance {
                Some((unconditional, guidance, channels)) => {
                    // Single precision, as if it had been stored: fused or not, the bits are the same.
                    f64::from(guided(prediction, [r, unconditional[r] as usize], c, guidance[r], channels)[1] as f32)
                }
                None => f64::from(prediction.row(r)[c]),
            };
            let clean = limited(t[8] * past(0) + t[9] * o, t[7]);
            let mut next = t[0] * past(0) + t[1] * o + t[2] * clean;
            next += (1..=step.history).map(|k| t[3 + k] * past(k)).sum::<f64>();
            if let Some(amplitude) = step.noise {
                let variance = || f64::from(prediction.row(r)[shape.channels() + c]);
                let amplitude = match amplitude {
                    Amplitude::One => 1.0,
                    Amplitude::Exponential => (t[10] * variance() + t[11]).exp(),
                    Amplitude::Root => {
                        if variance() < 0.0 {
                            0.0
                        } else {
                            variance().sqrt()
                        }
                    }
                };
                next += t[3] * amplitude * f64::from(inputs.rows(4).row(r)[c]);
            }
            y[at(0, r, c)] = next as f32;
            for k in 1..=step.history {
                y[at(k, r, c)] = if k == 1 { clean as f32 } else { past(k - 1) as f32 };
            }
        }
    }
}

/// Within ±`limit`. Unlike `clamp` it takes any limit.
fn limited(x: f64, limit: f64) -> f64 {
    let x = if x < -limit { -limit } else { x };
    if x > limit { limit } else { x }
}

pub(super) fn rgba(inputs: &Operands<'_>, shape: Shape) -> Vec<u32> {
    let x = inputs.rows(0);
    let (pixels, stride) = (shape.channels(), shape.channels4() * 4);
    let mut out = vec![0; shape.rows() * stride];
    for r in (0..x.count()).take_while(|_| !inputs.stop().is_cancelled()) {
        let byte = |v: f32| ((v * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0 + 0.5).floor() as u32;
        let p = x.row(r);
        let finite = p.iter().all(|v| v.is_finite());
        out[r / pixels * stride + r % pixels] = if finite { byte(p[0]) | byte(p[1]) << 8 | byte(p[2]) << 16 | 0xff00_0000 } else { 0 };
    }
    out
}

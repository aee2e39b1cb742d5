//! Twin of the attention kernels.

use super::Operands;
use crate::op::Attention;
use crate::shape::Shape;

pub(super) fn flash_attention(op: &Attention, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (q, k, v) = (inputs.rows(0), inputs.rows(1), inputs.rows(2));
    let mask = op.mask.then(|| inputs.rows(3).row(0));
    let bias = op.bias.then(|| (inputs.rows(3 + usize::from(op.mask)), inputs.shape(3 + usize::from(op.mask)).dims()[1]));
    let d = shape.channels() / op.heads;
    let stride = shape.channels4() * 4;
    for &[q_start, q_len, k_start, k_len] in &op.sequences {
        for i in (0..q_len as usize).take_while(|_| !inputs.stop().is_cancelled()) {
            for head in 0..op.heads {
                let columns = head * d..(head + 1) * d;
                let query = &q.row(q_start as usize + i)[columns.clone()];
                let score = |j: usize| {
                    let row = k_start as usize + j;
                    let dot: f64 = query.iter().zip(&k.row(row)[columns.clone()]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let masked = mask.map_or(0.0, |m| f64::from(m[row]));
                    let biased = bias.map_or(0.0, |(b, lq)| f64::from(b.row(head * lq + i)[j]));
                    dot * f64::from(op.scale) + masked + biased
                };
                let scores: Vec<f64> = (0..k_len as usize).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let total: f64 = weights.iter().sum();
                let out = (q_start as usize + i) * stride + head * d;
                for (c, out) in y[out..out + d].iter_mut().enumerate() {
                    let sum: f64 = weights.iter().enumerate().map(|(j, w)| w * f64::from(v.row(k_start as usize + j)[head * d + c])).sum();
                    *out = (sum / total) as f32;
                }
            }
        }
    }
}

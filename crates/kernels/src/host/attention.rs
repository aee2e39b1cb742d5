//! Attention: scores of a block of queries with all keys, their softmax, and its product with the values.

use super::tiles::{BLOCK, Packed, side_by_side};
use crate::op::Attention;
use crate::reference::Operands;
use crate::shape::Shape;

pub(super) fn attention(op: &Attention, inputs: &Operands<'_>, shape: Shape, y: &mut [f32]) {
    let (q, k, v) = (inputs.rows(0), inputs.rows(1), inputs.rows(2));
    let mask = op.mask.then(|| inputs.rows(3).row(0));
    let bias = op.bias.then(|| (inputs.rows(3 + usize::from(op.mask)), inputs.shape(3 + usize::from(op.mask)).dims()[1]));
    let d = shape.channels() / op.heads;
    let stride = shape.channels4() * 4;
    for sequence in &op.sequences {
        let [q_start, q_len, k_start, k_len] = sequence.map(|v| v as usize);
        for head in 0..op.heads {
            let keys = Packed::new([k_len, 1, d], &|key, _, c| k.row(k_start + key)[head * d + c]);
            let values = Packed::new([d, 1, k_len], &|c, _, key| v.row(k_start + key)[head * d + c]);
            let own = &mut y[q_start * stride..(q_start + q_len) * stride];
            side_by_side(own, stride, &|first, own| {
                let mut scores = vec![0.0f32; BLOCK * k_len];
                for (block, own) in own.chunks_mut(BLOCK * stride).enumerate() {
                    let (begin, rows) = (first + block * BLOCK, own.len() / stride);
                    let query = |i: usize, _| Some(&q.row(q_start + begin + i)[head * d..(head + 1) * d]);
                    keys.multiply([0, rows], inputs.stop(), &query, &mut |i, key, products| {
                        for (j, product) in (key..).zip(products) {
                            let masked = mask.map_or(0.0, |mask| mask[k_start + j]);
                            let biased = bias.map_or(0.0, |(bias, lq)| bias.row(head * lq + begin + i)[j]);
                            scores[i * k_len + j] = product * op.scale + masked + biased;
                        }
                    });
                    let mut totals = [0.0f64; BLOCK];
                    for (total, scores) in totals.iter_mut().zip(scores.chunks_exact_mut(k_len)).take(rows) {
                        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        for score in scores {
                            let weight = f64::from(*score - max).exp();
                            *score = weight as f32;
                            *total += weight;
                        }
                    }
                    let weights = |i: usize, _| Some(&scores[i * k_len..(i + 1) * k_len]);
                    values.multiply([0, rows], inputs.stop(), &weights, &mut |i, column, sums| {
                        let at = i * stride + head * d + column;
                        for (out, sum) in own[at..].iter_mut().zip(sums) {
                            *out = (f64::from(*sum) / totals[i]) as f32;
                        }
                    });
                }
            });
        }
    }
}

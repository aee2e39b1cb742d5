//! What the `forward` methods of text encoders in transformers have in common: ids and a mask in, hidden states out.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::{Evaluation, Inputs, Run};
use crate::error::Result;

/// Added to the scores of padding. The reference adds the most negative number of its type; this one swallows every
/// score just as well and leaves room for what a kernel multiplies it with.
pub(crate) const MASKED: f32 = -1e30;

/// `input_ids [B, L]` and their extents.
///
/// # Errors
/// As [`Inputs::indices`].
pub fn ids(inputs: &Inputs<'_>) -> Result<(Vec<u32>, [usize; 2])> {
    let (_, shape) = inputs.ranked("input_ids", "[B, L]")?;
    Ok((inputs.indices("input_ids", &shape)?, shape))
}

/// An encoder over embeddings `[B·L, D]`, with the argument `attention_mask [B, L]` → `last_hidden_state [B, L, D]`. `record`
/// is given the embeddings, the length of each sequence and what is added to the scores of each token.
///
/// # Errors
/// [`WrongShape`](crate::Error::WrongShape), [`Kernels`](crate::Error::Kernels).
pub fn states(
    inputs: &Inputs<'_>,
    [batch, length]: [usize; 2],
    embeddings: Vec<f32>,
    record: impl for<'p> Fn(&'p Plan, Tensor<'p>, &[usize], Option<Tensor<'p>>) -> Tensor<'p>,
) -> Result<Evaluation> {
    let mask = inputs.optional("attention_mask", &[batch, length])?;
    let plan = Plan::new();
    let width = embeddings.len() / (batch * length);
    let x = plan.input("embeddings", &[batch * length, width], Cadence::Once);
    let mask = mask.map(|mask| {
        let additive: Vec<f32> = mask.iter().map(|kept| if *kept == 0.0 { MASKED } else { 0.0 }).collect();
        plan.constant(&[additive.len()], &additive)
    });
    plan.output("last_hidden_state", record(&plan, x, &vec![length; batch], mask));
    let run = Run::new(plan.finish()?).write("embeddings", embeddings);
    Ok(run.output("last_hidden_state", &[batch, length, width]).into())
}

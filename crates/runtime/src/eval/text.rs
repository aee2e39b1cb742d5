//! `T5EncoderModel.forward` and `BertModel.forward`.

use kinora_kernels::{Cadence, Device, Executable, Plan, Tensor};

use super::{Inputs, Output, finite};
use crate::error::{Error, Result};
use crate::models::bert::Bert;
use crate::models::t5::T5Encoder;

/// Added to the scores of padding. The reference adds the most negative number of its type; this one swallows every
/// score just as well and leaves room for what a kernel multiplies it with.
const MASKED: f32 = -1e30;

pub(super) async fn t5(model: &T5Encoder, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&["input_ids", "attention_mask"])?;
    let (ids, shape) = ids(inputs)?;
    let embeddings = model.embed(&ids)?;
    run(inputs, shape, &embeddings, device, |plan, x, lengths, mask| model.forward(plan, x, lengths, mask)).await
}

pub(super) async fn bert(model: &Bert, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&["input_ids", "attention_mask", "token_type_ids"])?;
    let (ids, shape) = ids(inputs)?;
    let [batch, length] = shape;
    if length > model.max_tokens() {
        return Err(Error::InvalidRequest {
            parameter: "input_ids".into(),
            found: format!("{length} tokens"),
            expected: format!("at most {}", model.max_tokens()),
        });
    }
    let types = inputs.0.contains("token_type_ids").then(|| indices(inputs, "token_type_ids", shape)).transpose()?;
    let embeddings = model.embed(&ids, types.as_deref(), &vec![length; batch])?;
    run(inputs, shape, &embeddings, device, |plan, x, lengths, mask| model.forward(plan, x, lengths, mask)).await
}

fn ids(inputs: &Inputs<'_>) -> Result<(Vec<u32>, [usize; 2])> {
    let (_, shape) = inputs.ranked("input_ids", "[B, L]")?;
    Ok((indices(inputs, "input_ids", shape)?, shape))
}

/// A tensor of row numbers.
fn indices(inputs: &Inputs<'_>, name: &str, shape: [usize; 2]) -> Result<Vec<u32>> {
    let view = inputs.0.get(name)?;
    view.expect_shape(&shape)?;
    let index = |v: i64| {
        let expected = "an index from 0 on".into();
        u32::try_from(v).map_err(|_| Error::InvalidRequest { parameter: name.into(), found: v.to_string(), expected })
    };
    view.to_i64()?.into_iter().map(index).collect()
}

/// Runs an encoder over embeddings `[B·L, D]`.
async fn run(
    inputs: &Inputs<'_>,
    [batch, length]: [usize; 2],
    embeddings: &[f32],
    device: &Device,
    record: impl for<'p> Fn(&'p Plan, Tensor<'p>, &[usize], Option<Tensor<'p>>) -> Tensor<'p>,
) -> Result<Vec<Output>> {
    let mask = inputs.optional("attention_mask", &[batch, length])?;
    let plan = Plan::new();
    let width = embeddings.len() / (batch * length);
    let x = plan.input("embeddings", &[batch * length, width], Cadence::Once);
    let mask = mask.map(|mask| {
        let additive: Vec<f32> = mask.iter().map(|kept| if *kept == 0.0 { MASKED } else { 0.0 }).collect();
        plan.constant(&[additive.len()], &additive)
    });
    plan.output("last_hidden_state", record(&plan, x, &vec![length; batch], mask));

    let mut run = Executable::new(device, plan.finish()?)?;
    run.write("embeddings", embeddings)?;
    run.run().await?;
    let values = finite(&mut run, "last_hidden_state").await?;
    Ok(vec![Output { name: "last_hidden_state", shape: vec![batch, length, width], values }])
}

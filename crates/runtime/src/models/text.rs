//! The text encoder of a pipeline, whichever class it has: token ids to hidden states.

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, Plan};

use super::Model;
use super::bert::Bert;
use super::t5::T5Encoder;
use crate::error::Result;

/// A text encoder.
pub enum TextEncoder {
    /// `T5EncoderModel`.
    T5(T5Encoder),
    /// `BertModel`.
    Bert(Bert),
}

impl TextEncoder {
    /// `None` if the model encodes no text.
    pub fn new(model: Model) -> Option<Self> {
        match model {
            Model::T5(model) => Some(Self::T5(model)),
            Model::Bert(model) => Some(Self::Bert(model)),
            Model::LtxTransformer(_) | Model::LtxVae(_) | Model::Scheduler(_) => None,
        }
    }

    /// D.
    fn width(&self) -> usize {
        match self {
            Self::T5(model) => model.width(),
            Self::Bert(model) => model.width(),
        }
    }

    /// The plan from `embeddings [T, D]` to `last_hidden_state [T, D]` of sequences of these lengths, T tokens together,
    /// without padding.
    ///
    /// # Errors
    /// [`Kernels`](crate::Error::Kernels).
    pub fn plan(&self, lengths: &[usize]) -> Result<Graph> {
        let plan = Plan::new();
        let x = plan.input("embeddings", &[lengths.iter().sum(), self.width()], Cadence::Once);
        let states = plan.scope("text_encoder", || match self {
            Self::T5(model) => model.forward(&plan, x, lengths, None),
            Self::Bert(model) => model.forward(&plan, x, lengths, None),
        });
        plan.output("last_hidden_state", states);
        Ok(plan.finish()?)
    }

    /// Hidden states `[T, D]` of each of several sequences of ids without padding, all in one pass.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary, [`Kernels`](crate::Error::Kernels).
    pub async fn encode(&self, device: &Device, sequences: &[Vec<u32>], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let ids = sequences.concat();
        if ids.is_empty() {
            return Ok(vec![Vec::new(); sequences.len()]);
        }
        let embeddings = match self {
            Self::T5(model) => model.embed(&ids)?,
            Self::Bert(model) => model.embed(&ids, None, &lengths)?,
        };
        let mut exec = Executable::new(device, self.plan(&lengths)?)?.with_cancel(cancel.clone());
        exec.write("embeddings", &embeddings)?;
        exec.run().await?;
        let states = exec.read("last_hidden_state").await?;
        if states.iter().any(|v| !v.is_finite()) {
            exec.find_non_finite().await?;
        }
        let mut rest = states.as_slice();
        let split = lengths.iter().map(|length| {
            let (own, after) = rest.split_at(length * self.width());
            rest = after;
            own.to_vec()
        });
        Ok(split.collect())
    }
}

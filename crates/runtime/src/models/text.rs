//! The text encoder of a pipeline, whichever class it has: token ids to hidden states.

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Plan};

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

    /// Hidden states `[T, D]` of one sequence of T tokens without padding.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary, [`Kernels`](crate::Error::Kernels).
    pub async fn encode(&self, device: &Device, ids: &[u32], cancel: &CancelToken) -> Result<Vec<f32>> {
        let lengths = [ids.len()];
        let (embeddings, width) = match self {
            Self::T5(model) => (model.embed(ids)?, model.width()),
            Self::Bert(model) => (model.embed(ids, None, &lengths)?, model.width()),
        };
        let plan = Plan::new();
        let x = plan.input("embeddings", &[ids.len(), width], Cadence::Once);
        let states = plan.scope("text_encoder", || match self {
            Self::T5(model) => model.forward(&plan, x, &lengths, None),
            Self::Bert(model) => model.forward(&plan, x, &lengths, None),
        });
        plan.output("last_hidden_state", states);
        let mut exec = Executable::new(device, plan.finish()?)?.with_cancel(cancel.clone());
        exec.write("embeddings", &embeddings)?;
        exec.run().await?;
        let states = exec.read("last_hidden_state").await?;
        if states.iter().any(|v| !v.is_finite()) {
            exec.find_non_finite().await?;
        }
        Ok(states)
    }
}

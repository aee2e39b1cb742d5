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

    /// The plan from `embeddings [T, D]` to `last_hidden_state [T, D]` of one sequence of T tokens without padding.
    ///
    /// # Errors
    /// [`Kernels`](crate::Error::Kernels).
    pub fn plan(&self, tokens: usize) -> Result<Graph> {
        let width = match self {
            Self::T5(model) => model.width(),
            Self::Bert(model) => model.width(),
        };
        let plan = Plan::new();
        let x = plan.input("embeddings", &[tokens, width], Cadence::Once);
        let states = plan.scope("text_encoder", || match self {
            Self::T5(model) => model.forward(&plan, x, &[tokens], None),
            Self::Bert(model) => model.forward(&plan, x, &[tokens], None),
        });
        plan.output("last_hidden_state", states);
        Ok(plan.finish()?)
    }

    /// Hidden states `[T, D]` of one sequence of T tokens without padding.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary, [`Kernels`](crate::Error::Kernels).
    pub async fn encode(&self, device: &Device, ids: &[u32], cancel: &CancelToken) -> Result<Vec<f32>> {
        let embeddings = match self {
            Self::T5(model) => model.embed(ids)?,
            Self::Bert(model) => model.embed(ids, None, &[ids.len()])?,
        };
        let mut exec = Executable::new(device, self.plan(ids.len())?)?.with_cancel(cancel.clone());
        exec.write("embeddings", &embeddings)?;
        exec.run().await?;
        let states = exec.read("last_hidden_state").await?;
        if states.iter().any(|v| !v.is_finite()) {
            exec.find_non_finite().await?;
        }
        Ok(states)
    }
}

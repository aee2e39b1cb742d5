//! BERT, a text encoder.

mod encoder;
mod layouts;

pub use encoder::{Bert, BertConfig};

use kinora_kernels::{Plan, Tensor};

use super::component::Component;
use super::family::{ComponentClass, Evaluate, Family, TextEncoder};
use super::layout::known;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Inputs, text};

/// `BertModel`.
pub const FAMILY: Family = Family {
    name: "bert",
    layouts: known(layouts::LAYOUTS),
    pipelines: &[],
    components: &[ComponentClass {
        name: "BertModel",
        load: |source| {
            let config = BertConfig::parse(source.config, source.file)?;
            Ok(Component::TextEncoder(Box::new(Bert::load(&source.weights, &config)?)))
        },
    }],
};

impl TextEncoder for Bert {
    fn width(&self) -> usize {
        self.width()
    }

    fn embed(&self, ids: &[u32], lengths: &[usize]) -> Result<Vec<f32>> {
        self.embed(ids, None, lengths)
    }

    fn record<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p> {
        self.forward(plan, embeddings, lengths, mask)
    }
}

impl Evaluate for Bert {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `BertModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["input_ids", "attention_mask", "token_type_ids"])?;
        let (ids, shape) = text::ids(inputs)?;
        let [batch, length] = shape;
        if length > self.max_tokens() {
            return Err(Error::InvalidRequest {
                parameter: "input_ids".into(),
                found: format!("{length} tokens"),
                expected: format!("at most {}", self.max_tokens()),
            });
        }
        let types = inputs.contains("token_type_ids").then(|| inputs.indices("token_type_ids", &shape)).transpose()?;
        let embeddings = self.embed(&ids, types.as_deref(), &vec![length; batch])?;
        text::states(inputs, shape, embeddings, |plan, x, lengths, mask| self.forward(plan, x, lengths, mask))
    }
}

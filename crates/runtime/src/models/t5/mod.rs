//! T5 and UMT5, text encoders.

mod encoder;
mod layouts;

pub use encoder::{RelativeBias, T5Config, T5Encoder};

use kinora_kernels::{Plan, Tensor};

use super::component::Component;
use super::family::{ComponentClass, Evaluate, Family, Source, TextEncoder};
use super::layout::known;
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, text};

/// `T5EncoderModel` and `UMT5EncoderModel`.
pub const FAMILY: Family = Family {
    name: "t5",
    layouts: known(layouts::LAYOUTS),
    pipelines: &[],
    components: &[
        ComponentClass { name: "T5EncoderModel", load: |source| load(source, RelativeBias::Shared) },
        ComponentClass { name: "UMT5EncoderModel", load: |source| load(source, RelativeBias::PerBlock) },
    ],
};

fn load(source: &Source<'_>, bias: RelativeBias) -> Result<Component> {
    let config = T5Config::parse(source.config, source.file)?;
    Ok(Component::TextEncoder(Box::new(T5Encoder::load(&source.weights, &config, bias)?)))
}

impl TextEncoder for T5Encoder {
    fn width(&self) -> usize {
        self.width()
    }

    fn embed(&self, ids: &[u32], _: &[usize]) -> Result<Vec<f32>> {
        self.embed(ids)
    }

    fn record<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p> {
        self.forward(plan, embeddings, lengths, mask)
    }
}

impl Evaluate for T5Encoder {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `T5EncoderModel.forward` and `UMT5EncoderModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["input_ids", "attention_mask"])?;
        let (ids, shape) = text::ids(inputs)?;
        let embeddings = self.embed(&ids)?;
        text::states(inputs, shape, embeddings, |plan, x, lengths, mask| self.forward(plan, x, lengths, mask))
    }
}

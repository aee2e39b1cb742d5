//! How BERT was published: below `bert.`, with norms that have a gamma and a beta.

use crate::models::layout::{Layout, Tensors};

/// The layouts of the family. None implies a configuration: the number of heads is in no tensor.
pub(super) const LAYOUTS: &[Layout] = &[
    layout("embeddings.LayerNorm.gamma", &[SCOPES, ".LayerNorm .LayerNorm", ".gamma .weight\n.beta .bias"]),
    layout("embeddings.LayerNorm.weight", &[]),
];

const SCOPES: &str = "embeddings embeddings
encoder.layer.N.attention.output encoder.layer.N.attention.output
encoder.layer.N.output encoder.layer.N.output";

const fn layout(mark: &'static str, names: &'static [&'static str]) -> Layout {
    let config = |tensors: &Tensors<'_>| Err(tensors.invalid("BERT needs a config.json beside its weights"));
    Layout { prefixes: &["bert.", ""], mark, names, config, pipeline: |_| None }
}

//! How files name the tensors of both transformers, and the configuration that shapes imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family: with the scope of transformers before version 5, and without.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout { prefixes: &["vision_model.", ""], mark: "pre_layrnorm.weight", names: &[], config: vision, pipeline: |_| None },
    #[cfg(feature = "images")]
    Layout { prefixes: &["text_model.", ""], mark: "embeddings.token_embedding.weight", names: &[], config: text, pipeline: |_| None },
];

/// Channels of a head by the width of published models: that of ViT-H has 80, all others 64.
fn head(width: usize) -> usize {
    if width == 1280 { 80 } else { 64 }
}

#[cfg(feature = "images")]
fn text(tensors: &Tensors<'_>) -> Result<Value> {
    const TOKENS: &str = "embeddings.token_embedding.weight";
    let (vocabulary, width, layers) = (tensors.extent(TOKENS, 0)?, tensors.extent(TOKENS, 1)?, tensors.count("encoder.layers"));
    Ok(json!({
        "architectures": ["CLIPTextModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": tensors.extent("encoder.layers.0.mlp.fc1.weight", 0)?,
        "num_hidden_layers": layers,
        "num_attention_heads": width / 64,
        "max_position_embeddings": tensors.extent("embeddings.position_embedding.weight", 0)?,
        // OpenAI's own models, of 12 layers, have another one.
        "hidden_act": if layers > 12 { "gelu" } else { "quick_gelu" },
    }))
}

fn vision(tensors: &Tensors<'_>) -> Result<Value> {
    let width = tensors.extent("embeddings.class_embedding", 0)?;
    let (patch, rows) =
        (tensors.extent("embeddings.patch_embedding.weight", 2)?, tensors.extent("embeddings.position_embedding.weight", 0)?);
    let layers = tensors.count("encoder.layers");
    Ok(json!({
        "architectures": ["CLIPVisionModel"],
        "hidden_size": width,
        "intermediate_size": tensors.extent("encoder.layers.0.mlp.fc1.weight", 0)?,
        "num_hidden_layers": layers,
        "num_attention_heads": width / head(width),
        "image_size": patch * rows.saturating_sub(1).isqrt(),
        "patch_size": patch,
        // OpenAI's own models, of 12 and 24 layers, have another one.
        "hidden_act": if layers > 24 { "gelu" } else { "quick_gelu" },
    }))
}

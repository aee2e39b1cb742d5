//! How files of `DiffiT` are recognised, and the configuration that shapes of tensors imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::dit::layouts::{DDPM, official};
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[Layout {
    prefixes: &["transformer.", "model.", ""],
    mark: "blocks.0.attn.qkv_temb.weight",
    names: &[],
    config: transformer,
    pipeline: |_| Some([INDEX, DDPM]),
}];

/// Guided as in the official sampler of 256×256.
const INDEX: &str = r#"{"_class_name": "DiffiTPipeline", "kinora": {"default_guidance_channels": 3, "default_guidance_power": 4}}"#;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    let mut config = official(tensors)?;
    config["_class_name"] = json!("DiffiT");
    Ok(config)
}

//! How files of `MDTv2` are recognised, and the configuration that shapes of tensors imply.

use serde_json::{Value, json};

use super::config::DECODE_LAYER;
use crate::error::Result;
use crate::models::dit::layouts::{DDPM, official};
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[Layout {
    prefixes: &["transformer.", "model.", ""],
    mark: "decoder_pos_embed",
    names: &[],
    config: transformer,
    pipeline: |_| Some([INDEX, DDPM]),
}];

/// Guided as in the official sampler.
const INDEX: &str = r#"{"_class_name": "MDTPipeline", "kinora": {"default_guidance_channels": 3, "default_guidance_power": 4}}"#;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    let mut config = official(tensors)?;
    let decoder = tensors.count("de_blocks");
    config["_class_name"] = json!("MDTv2");
    config["decode_layer"] = json!(if decoder == 0 { DECODE_LAYER } else { decoder });
    config["depth"] = json!(tensors.count("en_inblocks") + tensors.count("en_outblocks") + decoder);
    Ok(config)
}

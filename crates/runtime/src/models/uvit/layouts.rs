//! How files of U-ViT are recognised, and the configuration that shapes of tensors imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[Layout {
    prefixes: &["transformer.", ""],
    mark: "out_blocks.0.skip_linear.weight",
    names: &[],
    config: transformer,
    pipeline: |tensors| Some([if tensors.contains("context_embed.weight") { TEXT_INDEX } else { INDEX }, SCHEDULER]),
}];

const INDEX: &str = r#"{"_class_name": "UViTPipeline"}"#;
const TEXT_INDEX: &str = r#"{"_class_name": "UViTTextPipeline"}"#;
/// The official sampler over the levels of Stable Diffusion.
const SCHEDULER: &str = r#"{"_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
    "beta_end": 0.012, "beta_schedule": "scaled_linear"}"#;

/// Heads of H (1152) are 72 wide, those of the others 64.
fn heads(width: usize) -> usize {
    if width == 1152 { 16 } else { (width / 64).max(1) }
}

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "patch_embed.proj.weight";
    let (width, channels, patch) = (tensors.extent(PATCHES, 0)?, tensors.extent(PATCHES, 1)?, tensors.extent(PATCHES, 2)?);
    let text = tensors.contains("context_embed.weight");
    // Of a text there are as many tokens as CLIP gives.
    let extras = if text { 78 } else { 2 };
    let places = tensors.extent("pos_embed", 1)?.saturating_sub(extras);
    let mut config = json!({
        "_class_name": "UViT",
        "img_size": places.isqrt() * patch,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": width,
        "depth": 2 * tensors.count("in_blocks"),
        "num_heads": heads(width),
        "mlp_ratio": tensors.extent("mid_block.mlp.fc1.weight", 0)? as f64 / width as f64,
        "qkv_bias": tensors.contains("mid_block.attn.qkv.bias"),
        "mlp_time_embed": tensors.contains("time_embed.0.weight"),
        "conv": tensors.contains("final_layer.weight"),
    });
    match text {
        true => config["clip_dim"] = tensors.extent("context_embed.weight", 1)?.into(),
        false => config["num_classes"] = tensors.extent("label_emb.weight", 0)?.into(),
    }
    Ok(config)
}

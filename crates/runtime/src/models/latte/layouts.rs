//! The configuration that shapes of tensors imply. No files are known that give them other names.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[Layout {
    prefixes: &["transformer.", ""],
    mark: "temporal_transformer_blocks.0.scale_shift_table",
    names: &[],
    config: transformer,
    pipeline: |_| None,
}];

/// Heads of the published model, which no tensor says.
const HEADS: usize = 16;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "pos_embed.proj.weight";
    let (width, patch) = (tensors.extent(PATCHES, 0)?, tensors.extent(PATCHES, 2)?);
    Ok(json!({
        "_class_name": "LatteTransformer3DModel",
        "num_attention_heads": HEADS,
        "attention_head_dim": width / HEADS,
        "in_channels": tensors.extent(PATCHES, 1)?,
        "out_channels": tensors.extent("proj_out.weight", 0)? / (patch * patch),
        "num_layers": tensors.count("transformer_blocks"),
        "cross_attention_dim": width,
        "attention_bias": tensors.contains("transformer_blocks.0.attn1.to_q.bias"),
        "patch_size": patch,
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": tensors.contains("transformer_blocks.0.norm1.weight"),
        "norm_eps": 1e-6,
        "caption_channels": tensors.extent("caption_projection.linear_1.weight", 1)?,
    }))
}

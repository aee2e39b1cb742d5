//! How files of `DiT` are recognised, and the configuration that shapes of tensors imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout {
        prefixes: &["transformer.", ""],
        mark: "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight",
        names: &[],
        config: transformer,
        pipeline: |_| Some([DIFFUSERS, DDIM]),
    },
    Layout {
        prefixes: &["transformer.", "model.", ""],
        mark: "blocks.0.adaLN_modulation.1.weight",
        names: &[],
        config: official,
        pipeline: |_| Some([OFFICIAL, DDPM]),
    },
];

/// Heads of XL, which no tensor says; those of the smaller ones are 64 wide.
const XL: (usize, usize) = (1152, 16);
const HEAD: usize = 64;

fn heads(width: usize) -> usize {
    if width == XL.0 { XL.1 } else { (width / HEAD).max(1) }
}

/// As published by diffusers.
const DIFFUSERS: &str = r#"{"_class_name": "DiTPipeline"}"#;
/// The official sampler guides three channels.
const OFFICIAL: &str = r#"{"_class_name": "DiTPipeline", "kinora": {"default_steps": 250, "default_guidance_channels": 3}}"#;
/// That of the published pipeline.
const DDIM: &str = r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02,
    "beta_schedule": "linear", "clip_sample": false}"#;
/// That of the official sampler: 250 steps from first to last, with the variance that the model predicts.
pub(crate) const DDPM: &str = r#"{"_class_name": "DDPMScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02,
    "beta_schedule": "linear", "clip_sample": false, "variance_type": "learned_range", "timestep_spacing": "linspace"}"#;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "pos_embed.proj.weight";
    let (width, patch) = (tensors.extent(PATCHES, 0)?, tensors.extent(PATCHES, 2)?);
    Ok(json!({
        "_class_name": "DiTTransformer2DModel",
        "num_attention_heads": heads(width),
        "attention_head_dim": width / heads(width),
        "in_channels": tensors.extent(PATCHES, 1)?,
        "out_channels": tensors.extent("proj_out_2.weight", 0)? / (patch * patch),
        "num_layers": tensors.count("transformer_blocks"),
        "attention_bias": tensors.contains("transformer_blocks.0.attn1.to_q.bias"),
        "patch_size": patch,
        "num_embeds_ada_norm": tensors.extent("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight", 0)? - 1,
        "norm_elementwise_affine": tensors.contains("transformer_blocks.0.norm3.weight"),
    }))
}

/// The configuration of the official class, or of one with its embeddings and last layer.
///
/// # Errors
/// Those of tensors that are not there.
pub(crate) fn official(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "x_embedder.proj.weight";
    let (width, channels, patch) = (tensors.extent(PATCHES, 0)?, tensors.extent(PATCHES, 1)?, tensors.extent(PATCHES, 2)?);
    // Places on a square.
    let edge = tensors.extent("pos_embed", 1)?.isqrt();
    Ok(json!({
        "_class_name": "DiT",
        "input_size": edge * patch,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": width,
        "depth": tensors.count("blocks"),
        "num_heads": heads(width),
        "num_classes": tensors.extent("y_embedder.embedding_table.weight", 0)? - 1,
        "learn_sigma": tensors.extent("final_layer.linear.weight", 0)? > channels * patch * patch,
    }))
}

//! The configurations that shapes of tensors imply. No files are known that give them other names.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout { prefixes: &["transformer.", ""], mark: "patch_embed.text_proj.weight", names: &[], config: transformer, pipeline: |_| None },
    Layout {
        prefixes: &["vae.", ""],
        mark: "decoder.mid_block.resnets.0.norm1.conv_y.conv.weight",
        names: &[],
        config: autoencoder,
        pipeline: |_| None,
    },
];

/// Blocks of the published model with fixed positions, which are no tensors; the others have rotary ones.
const FIXED_POSITIONS: usize = 30;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "patch_embed.proj.weight";
    let text = |axis| tensors.extent("patch_embed.text_proj.weight", axis);
    let (width, head) = (text(0)?, tensors.extent("transformer_blocks.0.attn1.norm_q.weight", 0)?);
    if tensors.shape(PATCHES)?.len() != 4 {
        // In time, height and width, which a linear layer does not tell apart.
        return Err(tensors.invalid("these are weights with patches in time; give the model in diffusers layout"));
    }
    let (patch, blocks) = (tensors.extent(PATCHES, 2)?, tensors.count("transformer_blocks"));
    Ok(json!({
        "_class_name": "CogVideoXTransformer3DModel",
        "num_attention_heads": width / head,
        "attention_head_dim": head,
        "in_channels": tensors.extent(PATCHES, 1)?,
        "out_channels": tensors.extent("proj_out.weight", 0)? / (patch * patch),
        "time_embed_dim": tensors.extent("time_embedding.linear_1.weight", 0)?,
        "text_embed_dim": text(1)?,
        "num_layers": blocks,
        "attention_bias": tensors.contains("transformer_blocks.0.attn1.to_q.bias"),
        "patch_size": patch,
        "patch_bias": tensors.contains("patch_embed.proj.bias"),
        "use_rotary_positional_embeddings": blocks != FIXED_POSITIONS,
    }))
}

/// With the `scaling_factor` of the model with fixed positions, which no tensor says.
fn autoencoder(tensors: &Tensors<'_>) -> Result<Value> {
    let stages = tensors.count("encoder.down_blocks");
    let width = |stage: usize| tensors.extent(&format!("encoder.down_blocks.{stage}.resnets.0.conv1.conv.weight"), 0);
    Ok(json!({
        "_class_name": "AutoencoderKLCogVideoX",
        "in_channels": tensors.extent("encoder.conv_in.conv.weight", 1)?,
        "out_channels": tensors.extent("decoder.conv_out.conv.weight", 0)?,
        "down_block_types": vec!["CogVideoXDownBlock3D"; stages],
        "up_block_types": vec!["CogVideoXUpBlock3D"; stages],
        "block_out_channels": (0..stages).map(width).collect::<Result<Vec<_>>>()?,
        "latent_channels": tensors.extent("decoder.conv_in.conv.weight", 1)?,
        "layers_per_block": tensors.count("encoder.down_blocks.0.resnets"),
    }))
}

//! The configuration that shapes of tensors imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] =
    &[Layout { prefixes: &["vae.", ""], mark: "decoder.conv_norm_out.weight", names: &[], config: autoencoder, pipeline: |_| None }];

/// With the `scaling_factor` of Stable Diffusion, which no tensor says.
fn autoencoder(tensors: &Tensors<'_>) -> Result<Value> {
    let stages = tensors.count("encoder.down_blocks");
    let width = |stage: usize| tensors.extent(&format!("encoder.down_blocks.{stage}.resnets.0.conv1.weight"), 0);
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "in_channels": tensors.extent("encoder.conv_in.weight", 1)?,
        "out_channels": tensors.extent("decoder.conv_out.weight", 0)?,
        "down_block_types": vec!["DownEncoderBlock2D"; stages],
        "up_block_types": vec!["UpDecoderBlock2D"; stages],
        "block_out_channels": (0..stages).map(width).collect::<Result<Vec<_>>>()?,
        "latent_channels": tensors.extent("decoder.conv_in.weight", 1)?,
        "layers_per_block": tensors.count("encoder.down_blocks.0.resnets"),
        "use_quant_conv": tensors.contains("quant_conv.weight"),
        "use_post_quant_conv": tensors.contains("post_quant_conv.weight"),
        "mid_block_add_attention": tensors.contains("decoder.mid_block.attentions.0.group_norm.weight"),
    }))
}

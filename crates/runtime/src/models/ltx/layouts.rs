//! Names that the authors (and after them ComfyUI and GGUF files) give LTX-Video's tensors, and the configurations they imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

const PREFIXES: &[&str] = &["model.diffusion_model.", "diffusion_model.", ""];
const VAE_PREFIXES: &[&str] = &["vae.", "first_stage_model.", ""];

/// The layouts of the family. The authors' single files hold a transformer and an autoencoder.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout { prefixes: PREFIXES, mark: "patchify_proj.weight", names: TRANSFORMER, config: transformer, pipeline },
    Layout { prefixes: PREFIXES, mark: "time_embed.linear.weight", names: &[], config: transformer, pipeline },
    vae("encoder.down_blocks.1.conv.conv.weight", &[V095, RESNETS, INNER], |_| version_095()),
    vae("decoder.last_time_embedder.timestep_embedder.linear_1.weight", &[], |tensors| {
        Err(tensors.invalid("the decoder of version 0.9.1 adds noise, which is not done; use version 0.9.0, or 0.9.5 and later"))
    }),
    vae("encoder.down_blocks.9.res_blocks.0.conv1.conv.weight", &[V090, RESNETS, INNER], |_| version_090()),
    vae("encoder.down_blocks.0.downsamplers.0.conv.conv.weight", &[], |_| version_095()),
    vae("encoder.down_blocks.0.downsamplers.0.conv.weight", &[], |_| version_090()),
];

const fn vae(mark: &'static str, names: &'static [&'static str], config: fn(&Tensors<'_>) -> Result<Value>) -> Layout {
    Layout { prefixes: VAE_PREFIXES, mark, names, config, pipeline: |_| None }
}

const TRANSFORMER: &[&str] = &[
    "patchify_proj proj_in
adaln_single time_embed
transformer_blocks.N transformer_blocks.N",
    ".attn1 .attn1
.attn2 .attn2",
    ".q_norm .norm_q
.k_norm .norm_k",
];

/// Blocks and what resamples between them stand in one list.
const V095: &str = "encoder.down_blocks.0 encoder.down_blocks.0
encoder.down_blocks.1 encoder.down_blocks.0.downsamplers.0
encoder.down_blocks.2 encoder.down_blocks.1
encoder.down_blocks.3 encoder.down_blocks.1.downsamplers.0
encoder.down_blocks.4 encoder.down_blocks.2
encoder.down_blocks.5 encoder.down_blocks.2.downsamplers.0
encoder.down_blocks.6 encoder.down_blocks.3
encoder.down_blocks.7 encoder.down_blocks.3.downsamplers.0
encoder.down_blocks.8 encoder.mid_block
decoder.up_blocks.0 decoder.mid_block
decoder.up_blocks.1 decoder.up_blocks.0.upsamplers.0
decoder.up_blocks.2 decoder.up_blocks.0
decoder.up_blocks.3 decoder.up_blocks.1.upsamplers.0
decoder.up_blocks.4 decoder.up_blocks.1
decoder.up_blocks.5 decoder.up_blocks.2.upsamplers.0
decoder.up_blocks.6 decoder.up_blocks.2
decoder.last_time_embedder decoder.time_embedder
decoder.last_scale_shift_table decoder.scale_shift_table
per_channel_statistics.mean-of-means latents_mean
per_channel_statistics.std-of-means latents_std
per_channel_statistics -";

/// In this version blocks that change the width stand in the list too.
const V090: &str = "encoder.down_blocks.0 encoder.down_blocks.0
encoder.down_blocks.1 encoder.down_blocks.0.downsamplers.0
encoder.down_blocks.2 encoder.down_blocks.0.conv_out
encoder.down_blocks.3 encoder.down_blocks.1
encoder.down_blocks.4 encoder.down_blocks.1.downsamplers.0
encoder.down_blocks.5 encoder.down_blocks.1.conv_out
encoder.down_blocks.6 encoder.down_blocks.2
encoder.down_blocks.7 encoder.down_blocks.2.downsamplers.0
encoder.down_blocks.8 encoder.down_blocks.3
encoder.down_blocks.9 encoder.mid_block
decoder.up_blocks.0 decoder.mid_block
decoder.up_blocks.1 decoder.up_blocks.0
decoder.up_blocks.2 decoder.up_blocks.1.upsamplers.0
decoder.up_blocks.3 decoder.up_blocks.1
decoder.up_blocks.4 decoder.up_blocks.2.conv_in
decoder.up_blocks.5 decoder.up_blocks.2.upsamplers.0
decoder.up_blocks.6 decoder.up_blocks.2
decoder.up_blocks.7 decoder.up_blocks.3.conv_in
decoder.up_blocks.8 decoder.up_blocks.3.upsamplers.0
decoder.up_blocks.9 decoder.up_blocks.3
per_channel_statistics.mean-of-means latents_mean
per_channel_statistics.std-of-means latents_std
per_channel_statistics -";

const RESNETS: &str = ".res_blocks.N .resnets.N";
const INNER: &str = ".norm3.norm .norm3
.conv_shortcut .conv_shortcut.conv";

/// Heads of all published models, whatever their width.
const HEADS: usize = 32;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    let width = tensors.extent("proj_in.weight", 0)?;
    // The header of the authors' files has a configuration of which only this cannot be seen from the tensors.
    let header: Value = tensors.metadata("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let heads = header["transformer"]["num_attention_heads"].as_u64().map_or(HEADS, |heads| heads as usize).clamp(1, width);
    Ok(json!({
        "_class_name": "LTXVideoTransformer3DModel",
        "in_channels": tensors.extent("proj_in.weight", 1)?,
        "out_channels": tensors.extent("proj_out.weight", 0)?,
        "num_attention_heads": heads,
        "attention_head_dim": width / heads,
        "cross_attention_dim": width,
        "num_layers": tensors.count("transformer_blocks"),
        "caption_channels": tensors.extent("caption_projection.linear_1.weight", 1)?,
    }))
}

fn pipeline(_: &Tensors<'_>) -> Option<[&'static str; 2]> {
    Some([
        // What the authors decode with, as far as the decoder is told of it.
        r#"{"_class_name": "LTXPipeline", "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
            "kinora": {"decode_timestep": 0.05, "decode_noise_scale": 0.025}}"#,
        r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 1024, "base_shift": 0.95, "max_image_seq_len": 4096,
            "max_shift": 2.05, "shift": 1.0, "shift_terminal": 0.1, "use_dynamic_shifting": true}"#,
    ])
}

/// Version 0.9.0, whose configuration is that of a class without one.
fn version_090() -> Result<Value> {
    Ok(json!({ "_class_name": "AutoencoderKLLTXVideo" }))
}

/// Version 0.9.5 and later.
fn version_095() -> Result<Value> {
    Ok(json!({
        "_class_name": "AutoencoderKLLTXVideo",
        "block_out_channels": [128, 256, 512, 1024, 2048],
        "down_block_types": ["LTXVideo095DownBlock3D", "LTXVideo095DownBlock3D", "LTXVideo095DownBlock3D", "LTXVideo095DownBlock3D"],
        "decoder_block_out_channels": [256, 512, 1024],
        "layers_per_block": [4, 6, 6, 2, 2],
        "decoder_layers_per_block": [5, 5, 5, 5],
        "spatio_temporal_scaling": [true, true, true, true],
        "decoder_spatio_temporal_scaling": [true, true, true],
        "decoder_inject_noise": [false, false, false, false],
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "upsample_residual": [true, true, true],
        "upsample_factor": [2, 2, 2],
        "timestep_conditioning": true,
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    }))
}

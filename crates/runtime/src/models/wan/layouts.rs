//! Names that others give Wan's tensors, and the configurations that their shapes imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// ComfyUI's files, those of `stable-diffusion.cpp`, and those of the authors.
const PREFIXES: &[&str] = &["model.diffusion_model.", "diffusion_model.", "model.", ""];

/// The layouts of the family.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout { prefixes: PREFIXES, mark: "head.modulation", names: TRANSFORMER, config: transformer, pipeline },
    Layout { prefixes: PREFIXES, mark: "condition_embedder.time_proj.weight", names: &[], config: transformer, pipeline },
    Layout {
        prefixes: &["first_stage_model.", "vae.", ""],
        mark: "decoder.middle.0.residual.0.gamma",
        names: AUTOENCODER,
        config: autoencoder,
        pipeline: |_| None,
    },
    Layout {
        prefixes: &["vae.", ""],
        mark: "decoder.mid_block.resnets.0.norm1.gamma",
        names: &[],
        config: autoencoder,
        pipeline: |_| None,
    },
];

/// Note the swap: the norm with parameters, before the cross-attention, is the authors' third and the second of diffusers.
const TRANSFORMER: &[&str] = &[
    "blocks.N blocks.N
vace_blocks.N vace_blocks.N
head.modulation scale_shift_table
head.head proj_out
text_embedding.0 condition_embedder.text_embedder.linear_1
text_embedding.2 condition_embedder.text_embedder.linear_2
time_embedding.0 condition_embedder.time_embedder.linear_1
time_embedding.2 condition_embedder.time_embedder.linear_2
time_projection.1 condition_embedder.time_proj
img_emb.proj.0 condition_embedder.image_embedder.norm1
img_emb.proj.1 condition_embedder.image_embedder.ff.net.0.proj
img_emb.proj.3 condition_embedder.image_embedder.ff.net.2
img_emb.proj.4 condition_embedder.image_embedder.norm2
img_emb.emb_pos condition_embedder.image_embedder.pos_embed",
    ".before_proj .proj_in
.after_proj .proj_out
.self_attn .attn1
.cross_attn .attn2
.ffn.0 .ffn.net.0.proj
.ffn.2 .ffn.net.2
.norm3 .norm2
.norm2 .norm3
.modulation .scale_shift_table",
    ".q .to_q
.k .to_k
.v .to_v
.o .to_out.0
.k_img .add_k_proj
.v_img .add_v_proj
.norm_k_img .norm_added_k",
];

/// Flat lists in Wan 2.1, lists within lists in 2.2; both have two residual blocks for each stage of the encoder.
const AUTOENCODER: &[&str] = &[
    "conv1 quant_conv
conv2 post_quant_conv
encoder.conv1 encoder.conv_in
decoder.conv1 decoder.conv_in
encoder.head.0 encoder.norm_out
decoder.head.0 decoder.norm_out
encoder.head.2 encoder.conv_out
decoder.head.2 decoder.conv_out
encoder.middle.0 encoder.mid_block.resnets.0
decoder.middle.0 decoder.mid_block.resnets.0
encoder.middle.1 encoder.mid_block.attentions.0
decoder.middle.1 decoder.mid_block.attentions.0
encoder.middle.2 encoder.mid_block.resnets.1
decoder.middle.2 decoder.mid_block.resnets.1
encoder.downsamples.N.downsamples.2 encoder.down_blocks.N.downsampler
encoder.downsamples.N.downsamples.N encoder.down_blocks.N.resnets.N
encoder.downsamples.N encoder.down_blocks.N
decoder.upsamples.N.upsamples.3 decoder.up_blocks.N.upsampler
decoder.upsamples.N.upsamples.N decoder.up_blocks.N.resnets.N
decoder.upsamples.0 decoder.up_blocks.0.resnets.0
decoder.upsamples.1 decoder.up_blocks.0.resnets.1
decoder.upsamples.2 decoder.up_blocks.0.resnets.2
decoder.upsamples.3 decoder.up_blocks.0.upsamplers.0
decoder.upsamples.4 decoder.up_blocks.1.resnets.0
decoder.upsamples.5 decoder.up_blocks.1.resnets.1
decoder.upsamples.6 decoder.up_blocks.1.resnets.2
decoder.upsamples.7 decoder.up_blocks.1.upsamplers.0
decoder.upsamples.8 decoder.up_blocks.2.resnets.0
decoder.upsamples.9 decoder.up_blocks.2.resnets.1
decoder.upsamples.10 decoder.up_blocks.2.resnets.2
decoder.upsamples.11 decoder.up_blocks.2.upsamplers.0
decoder.upsamples.12 decoder.up_blocks.3.resnets.0
decoder.upsamples.13 decoder.up_blocks.3.resnets.1
decoder.upsamples.14 decoder.up_blocks.3.resnets.2",
    ".residual.0 .norm1
.residual.2 .conv1
.residual.3 .norm2
.residual.6 .conv2
.shortcut .conv_shortcut",
];

/// Width of the heads of all published models; a narrower model has one.
const HEAD: usize = 128;

fn transformer(tensors: &Tensors<'_>) -> Result<Value> {
    const PATCHES: &str = "patch_embedding.weight";
    if !tensors.contains(PATCHES) {
        return Err(tensors.invalid(format!(
            "`{PATCHES}` is missing: a GGUF file as llama-quantize leaves it lacks this 3-D convolution; use one that was repaired \
             (fix_5d_tensors)"
        )));
    }
    if tensors.contains("control_adapter.conv.weight") || tensors.contains("ref_conv.weight") {
        return Err(tensors.invalid("this is a Fun-Control model, expected a text-to-video model"));
    }
    let embedder = |name: &str, axis| tensors.extent(&format!("condition_embedder.{name}"), axis);
    let width = tensors.extent(PATCHES, 0)?;
    let patch = [tensors.extent(PATCHES, 2)?, tensors.extent(PATCHES, 3)?, tensors.extent(PATCHES, 4)?];
    let head = width.min(HEAD);
    let mut config = json!({
        "_class_name": "WanTransformer3DModel",
        "patch_size": patch,
        "num_attention_heads": width / head,
        "attention_head_dim": head,
        "in_channels": tensors.extent(PATCHES, 1)?,
        "out_channels": tensors.extent("proj_out.weight", 0)? / patch.iter().product::<usize>(),
        "text_dim": embedder("text_embedder.linear_1.weight", 1)?,
        "freq_dim": embedder("time_embedder.linear_1.weight", 1)?,
        "ffn_dim": tensors.extent("blocks.0.ffn.net.0.proj.weight", 0)?,
        "num_layers": tensors.count("blocks"),
        "cross_attn_norm": tensors.contains("blocks.0.norm2.weight"),
    });
    if tensors.contains("condition_embedder.image_embedder.norm1.weight") {
        config["image_dim"] = embedder("image_embedder.norm1.weight", 0)?.into();
        config["added_kv_proj_dim"] = width.into();
    }
    if tensors.contains("condition_embedder.image_embedder.pos_embed") {
        config["pos_embed_seq_len"] = embedder("image_embedder.pos_embed", 1)?.into();
    }
    if tensors.contains(VACE) {
        config["_class_name"] = "WanVACETransformer3DModel".into();
        config["vace_in_channels"] = tensors.extent(VACE, 1)?.into();
        // Spread evenly in all published models.
        let (blocks, branch) = (tensors.count("blocks"), tensors.count("vace_blocks").max(1));
        config["vace_layers"] = (0..branch).map(|i| i * (blocks / branch)).collect::<Vec<_>>().into();
    }
    Ok(config)
}

/// Where the second branch begins.
const VACE: &str = "vace_patch_embedding.weight";

/// Latent channels of Wan 2.2's small model.
const Z48: usize = 48;
/// Channels of image-to-video: 16 latents, whether 4 frames are known, and 16 latents of those.
const WITH_IMAGE: usize = 36;

fn pipeline(tensors: &Tensors<'_>) -> Option<[&'static str; 2]> {
    // As published with the diffusers folders.
    if tensors.contains(VACE) {
        return Some([
            r#"{"_class_name": "WanVACEPipeline", "transformer": ["diffusers", "WanVACETransformer3DModel"]}"#,
            r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0}"#,
        ]);
    }
    Some(match tensors.extent("patch_embedding.weight", 1) {
        Ok(Z48) => [
            r#"{"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"], "expand_timesteps": true}"#,
            r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 5.0}"#,
        ],
        Ok(WITH_IMAGE) => [
            r#"{"_class_name": "WanImageToVideoPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}"#,
            r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0}"#,
        ],
        _ => [
            r#"{"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}"#,
            r#"{"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true, "flow_shift": 3.0}"#,
        ],
    })
}

fn autoencoder(tensors: &Tensors<'_>) -> Result<Value> {
    let stages = tensors.count("decoder.up_blocks");
    let base = tensors.extent("encoder.conv_in.weight", 0)?;
    let decoder_base = tensors.extent("decoder.conv_out.weight", 1)?;
    let z = tensors.extent("post_quant_conv.weight", 0)?;
    let multiple = |stage: usize| -> Result<usize> {
        Ok(tensors.extent(&format!("decoder.up_blocks.{stage}.resnets.0.conv2.weight"), 0)? / decoder_base)
    };
    let residual = tensors.contains("decoder.up_blocks.0.upsampler.resample.1.weight");
    let upsampler = if residual { "upsampler" } else { "upsamplers.0" };
    let doubled = |stage: usize| tensors.contains(&format!("decoder.up_blocks.{stage}.{upsampler}.time_conv.weight"));
    let pixels = tensors.extent("encoder.conv_in.weight", 1)?;
    let patch = if pixels == 12 { json!(2) } else { Value::Null };
    let mut config = json!({
        "_class_name": "AutoencoderKLWan",
        "base_dim": base,
        "decoder_base_dim": decoder_base,
        "z_dim": z,
        "dim_mult": (0..stages).rev().map(multiple).collect::<Result<Vec<_>>>()?,
        "num_res_blocks": tensors.count("decoder.up_blocks.0.resnets").saturating_sub(1),
        "temperal_downsample": (0..stages.saturating_sub(1)).rev().map(doubled).collect::<Vec<_>>(),
        "is_residual": residual,
        "in_channels": pixels,
        "out_channels": tensors.extent("decoder.conv_out.weight", 0)?,
        "patch_size": patch,
    });
    // Wan 2.1's are the defaults.
    if z == Z48 {
        config["latents_mean"] = LATENTS_MEAN.to_vec().into();
        config["latents_std"] = LATENTS_STD.to_vec().into();
    }
    Ok(config)
}

/// Means of Wan 2.2's latents, as in its published `config.json`.
const LATENTS_MEAN: [f32; Z48] = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
    -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799,
    -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548,
    -0.1681, -0.0667,
];

/// Deviations of Wan 2.2's latents.
const LATENTS_STD: [f32; Z48] = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978, 0.5759,
    0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065,
    0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
];

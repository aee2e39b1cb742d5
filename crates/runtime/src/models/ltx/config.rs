//! `config.json` of the two classes, with the defaults of diffusers.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `LTXVideoTransformer3DModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// Channels of a token.
    pub in_channels: usize,
    /// Channels of the predicted velocity; as many as `in_channels` if absent.
    pub out_channels: Option<usize>,
    /// Edge of a spatial patch; only scales the rotary coordinates.
    pub patch_size: usize,
    /// Frames of a patch; only scales the rotary coordinates.
    pub patch_size_t: usize,
    /// N.
    pub num_attention_heads: usize,
    /// d.
    pub attention_head_dim: usize,
    /// Width of the projected captions, which is D.
    pub cross_attention_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// The only one supported is `gelu-approximate`.
    pub activation_fn: String,
    /// The only one supported is `rms_norm_across_heads`.
    pub qk_norm: String,
    /// Whether the norms of a block have gains.
    pub norm_elementwise_affine: bool,
    /// Added to the mean square in the norms of a block.
    pub norm_eps: f32,
    /// Channels of a text embedding.
    pub caption_channels: usize,
    /// Whether query, key and value projections have a bias.
    pub attention_bias: bool,
    /// Whether the output projections have a bias.
    pub attention_out_bias: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            in_channels: 128,
            out_channels: Some(128),
            patch_size: 1,
            patch_size_t: 1,
            num_attention_heads: 32,
            attention_head_dim: 64,
            cross_attention_dim: 2048,
            num_layers: 28,
            activation_fn: "gelu-approximate".into(),
            qk_norm: "rms_norm_across_heads".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-6,
            caption_channels: 4096,
            attention_bias: true,
            attention_out_bias: true,
        }
    }
}

impl TransformerConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let width = config.width();
        require(file, "activation_fn", &config.activation_fn, config.activation_fn == "gelu-approximate", "gelu-approximate")?;
        require(file, "qk_norm", &config.qk_norm, config.qk_norm == "rms_norm_across_heads", "rms_norm_across_heads")?;
        require_head_size(file, "attention_head_dim", config.attention_head_dim)?;
        require(file, "num_attention_heads", &config.num_attention_heads, config.num_attention_heads > 0, "at least 1")?;
        // The rotary embedding turns pairs of channels.
        require(file, "num_attention_heads * attention_head_dim", &width, width.is_multiple_of(2), "an even width")?;
        let cross = config.cross_attention_dim;
        require(file, "cross_attention_dim", &cross, cross == width, &format!("the width {width}"))?;
        let channels = [config.in_channels, config.velocity_channels(), config.caption_channels];
        require(file, "channels", &format!("{channels:?}"), !channels.contains(&0), "at least 1 each")?;
        Ok(config)
    }

    /// D = N · d.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// Channels of the predicted velocity.
    pub fn velocity_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }
}

/// `AutoencoderKLLTXVideo`. Lists run from the pixels to the latents, for the decoder too.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Channels of a frame to encode.
    pub in_channels: usize,
    /// Channels of a decoded frame.
    pub out_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Widths of the encoder.
    pub block_out_channels: Vec<usize>,
    /// `LTXVideoDownBlock3D` (0.9.0) or `LTXVideo095DownBlock3D`, per block.
    pub down_block_types: Vec<String>,
    /// Widths of the decoder.
    pub decoder_block_out_channels: Vec<usize>,
    /// Residual blocks per encoder block; the last is the middle.
    pub layers_per_block: Vec<usize>,
    /// Residual blocks per decoder block; the last is the middle.
    pub decoder_layers_per_block: Vec<usize>,
    /// Which encoder blocks halve the extents.
    pub spatio_temporal_scaling: Vec<bool>,
    /// Which decoder blocks double the extents.
    pub decoder_spatio_temporal_scaling: Vec<bool>,
    /// Which decoder blocks add noise; none may.
    pub decoder_inject_noise: Vec<bool>,
    /// `conv`, `spatial`, `temporal` or `spatiotemporal`, per encoder block.
    pub downsample_type: Vec<String>,
    /// Which decoder blocks upsample with a shortcut.
    pub upsample_residual: Vec<bool>,
    /// By how much the decoder blocks divide the channels beyond `decoder_block_out_channels`.
    pub upsample_factor: Vec<usize>,
    /// Whether the decoder is told the noise level left in the latents.
    pub timestep_conditioning: bool,
    /// Edge of a spatial patch in pixels.
    pub patch_size: usize,
    /// Frames of a patch.
    pub patch_size_t: usize,
    /// Added to the variance in the layer norms of shortcuts.
    pub resnet_norm_eps: f32,
    /// Factor of normalised latents.
    pub scaling_factor: f32,
    /// Whether the encoder only looks into the past.
    pub encoder_causal: bool,
    /// Whether the decoder only looks into the past.
    pub decoder_causal: bool,
    /// Pixels per latent on each spatial axis; derived if absent.
    pub spatial_compression_ratio: Option<usize>,
    /// Frames per latent; derived if absent.
    pub temporal_compression_ratio: Option<usize>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 128,
            block_out_channels: vec![128, 256, 512, 512],
            down_block_types: vec!["LTXVideoDownBlock3D".into(); 4],
            decoder_block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: vec![4, 3, 3, 3, 4],
            decoder_layers_per_block: vec![4, 3, 3, 3, 4],
            spatio_temporal_scaling: vec![true, true, true, false],
            decoder_spatio_temporal_scaling: vec![true, true, true, false],
            decoder_inject_noise: vec![false; 5],
            downsample_type: vec!["conv".into(); 4],
            upsample_residual: vec![false; 4],
            upsample_factor: vec![1; 4],
            timestep_conditioning: false,
            patch_size: 4,
            patch_size_t: 1,
            resnet_norm_eps: 1e-6,
            scaling_factor: 1.0,
            encoder_causal: true,
            decoder_causal: false,
            spatial_compression_ratio: None,
            temporal_compression_ratio: None,
        }
    }
}

impl VaeConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let at_least = |name: &str, found: usize, least: usize| require(file, name, &found, found >= least, &format!("at least {least}"));
        let down = config.num_down_blocks();
        at_least("number of block_out_channels", down, 1)?;
        at_least("number of down_block_types", config.down_block_types.len(), down)?;
        at_least("number of layers_per_block", config.layers_per_block.len(), down + 1)?;
        at_least("number of spatio_temporal_scaling", config.spatio_temporal_scaling.len(), down)?;
        at_least("number of downsample_type", if config.is_095() { config.downsample_type.len() } else { down }, down)?;
        let up = config.decoder_block_out_channels.len();
        at_least("number of decoder_block_out_channels", up, 1)?;
        // The decoder reads its lists from the end, so they must fit exactly.
        let exactly = |name: &str, found: usize, n: usize| require(file, name, &found, found == n, &n.to_string());
        exactly("number of decoder_layers_per_block", config.decoder_layers_per_block.len(), up + 1)?;
        exactly("number of decoder_spatio_temporal_scaling", config.decoder_spatio_temporal_scaling.len(), up)?;
        exactly("number of upsample_residual", config.upsample_residual.len(), up)?;
        exactly("number of upsample_factor", config.upsample_factor.len(), up)?;
        let noise = &config.decoder_inject_noise;
        require(file, "decoder_inject_noise", &format!("{noise:?}"), !noise.contains(&true), "false for every block")?;
        let positive = [config.in_channels, config.out_channels, config.latent_channels, config.patch_size];
        require(file, "channels and patch_size", &format!("{positive:?}"), !positive.contains(&0), "at least 1 each")?;
        require(file, "patch_size_t", &config.patch_size_t, config.patch_size_t == 1, "1")?;
        let widths = [&config.block_out_channels, &config.decoder_block_out_channels, &config.upsample_factor];
        require(file, "widths", &format!("{widths:?}"), !widths.iter().any(|w| w.contains(&0)), "at least 1 each")?;
        const MOST: usize = 16;
        let sizes = [config.patch_size, up, config.block_out_channels.len()];
        require(file, "patch_size and numbers of blocks", &format!("{sizes:?}"), sizes.iter().all(|n| *n <= MOST), "at most 16 each")?;
        // Pipelines size latents by these numbers, the decoder makes pixels by its blocks.
        let doublings = config.decoder_spatio_temporal_scaling.iter().filter(|s| **s).count();
        let [time, space] = [config.patch_size_t << doublings, config.patch_size << doublings];
        let found = config.compression();
        let expected = format!("{time} and {space}, by which the decoder multiplies");
        let name = "temporal_compression_ratio and spatial_compression_ratio";
        require(file, name, &format!("{} and {}", found[0], found[1]), found == [time, space, space], &expected)?;
        Ok(config)
    }

    /// Whether the encoder has the blocks of version 0.9.5.
    pub fn is_095(&self) -> bool {
        self.down_block_types.last().is_some_and(|t| t == "LTXVideo095DownBlock3D")
    }

    /// Encoder blocks; from 0.9.5 on the first width is that of the input alone.
    pub fn num_down_blocks(&self) -> usize {
        self.block_out_channels.len().saturating_sub(usize::from(self.is_095()))
    }

    /// Pixels per latent on each spatial axis.
    pub fn spatial_compression(&self) -> usize {
        let halvings = self.spatio_temporal_scaling.iter().filter(|s| **s).count();
        self.spatial_compression_ratio.unwrap_or(self.patch_size << halvings)
    }

    /// Frames per latent, except for the first, which is one frame.
    pub fn temporal_compression(&self) -> usize {
        let halvings = self.spatio_temporal_scaling.iter().filter(|s| **s).count();
        self.temporal_compression_ratio.unwrap_or(self.patch_size_t << halvings)
    }

    /// Frames, rows and columns per latent.
    pub fn compression(&self) -> [usize; 3] {
        [self.temporal_compression(), self.spatial_compression(), self.spatial_compression()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_have_the_defaults_of_diffusers() {
        let config = TransformerConfig::parse("{\"num_layers\": 2, \"_class_name\": \"x\"}", "config.json").expect("valid");
        assert_eq!((config.num_layers, config.width()), (2, 2048), "given and default");
        let vae = VaeConfig::parse("{}", "config.json").expect("valid");
        assert_eq!((vae.spatial_compression(), vae.temporal_compression()), (32, 8), "three halvings of 4-pixel patches");
    }

    #[test]
    fn what_the_runtime_cannot_do_is_named() {
        let problem = |json: &str| TransformerConfig::parse(json, "c.json").expect_err("unsupported").to_string();
        assert!(problem(r#"{"activation_fn": "geglu"}"#).contains("activation_fn: expected gelu-approximate, found geglu"), "activation");
        let head = problem(r#"{"attention_head_dim": 1200, "cross_attention_dim": 38400}"#);
        assert!(head.contains("attention_head_dim: expected heads of 1 to 1024 channels, found 1200"), "{head}");
        assert!(problem(r#"{"cross_attention_dim": 7}"#).contains("expected the width 2048, found 7"), "width");
        let vae = |json: &str| VaeConfig::parse(json, "c.json").expect_err("unsupported").to_string();
        for ratio in ["spatial_compression_ratio\": 8", "spatial_compression_ratio\": 0", "temporal_compression_ratio\": 0"] {
            assert!(vae(&format!("{{\"{ratio}}}")).contains("8 and 32, by which the decoder multiplies"), "{ratio}");
        }
        assert!(vae(r#"{"patch_size": 9223372036854775807}"#).contains("at most 16"), "it would overflow");
        let short = VaeConfig::parse(r#"{"decoder_layers_per_block": [1]}"#, "c.json").expect_err("too short").to_string();
        assert!(short.contains("number of decoder_layers_per_block: expected 5, found 1"), "{short}");
    }
}

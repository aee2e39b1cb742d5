//! `config.json`, with the defaults of diffusers.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `AutoencoderKL`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Colours of an image.
    pub in_channels: usize,
    /// Colours of a decoded image.
    pub out_channels: usize,
    /// Kinds of the encoder's stages.
    pub down_block_types: Vec<String>,
    /// Kinds of the decoder's stages.
    pub up_block_types: Vec<String>,
    /// Widths of the stages, from the pixels to the latents.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a stage of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Must be `silu`.
    pub act_fn: String,
    /// C.
    pub latent_channels: usize,
    /// Groups of channels that are normalised together.
    pub norm_num_groups: usize,
    /// What latents are multiplied with for the diffusion model.
    pub scaling_factor: f32,
    /// What is subtracted from them before.
    pub shift_factor: Option<f32>,
    /// Means of the latents; must be absent.
    pub latents_mean: Option<Vec<f32>>,
    /// Deviations of the latents; must be absent.
    pub latents_std: Option<Vec<f32>>,
    /// Whether a convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether pixels attend to each other between the stages and the latents.
    pub mid_block_add_attention: bool,
}

const DOWN_BLOCK: &str = "DownEncoderBlock2D";
const UP_BLOCK: &str = "UpDecoderBlock2D";

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DOWN_BLOCK.into()],
            up_block_types: vec![UP_BLOCK.into()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".into(),
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            shift_factor: None,
            latents_mean: None,
            latents_std: None,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
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
        let (widths, stages) = (&config.block_out_channels, config.block_out_channels.len());
        require(file, "number of block_out_channels", &stages, stages >= 1, "at least 1")?;
        for (name, kinds, known) in
            [("down_block_types", &config.down_block_types, DOWN_BLOCK), ("up_block_types", &config.up_block_types, UP_BLOCK)]
        {
            let all = kinds.len() == stages && kinds.iter().all(|kind| kind == known);
            require(file, name, &format!("{kinds:?}"), all, &format!("{known} {stages} times, once for each of block_out_channels"))?;
        }
        let groups = config.norm_num_groups;
        let whole = groups > 0 && widths.iter().all(|width| *width > 0 && width.is_multiple_of(groups));
        require(file, "block_out_channels", &format!("{widths:?}"), whole, &format!("multiples of norm_num_groups, {groups}"))?;
        if config.mid_block_add_attention {
            // One head.
            require_head_size(file, "the last of block_out_channels", widths[stages - 1])?;
        }
        let sizes = [config.in_channels, config.out_channels, config.latent_channels];
        require(file, "in_channels, out_channels, latent_channels", &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        require(file, "act_fn", &config.act_fn, matches!(config.act_fn.as_str(), "silu" | "swish"), "silu")?;
        let scale = config.scaling_factor;
        require(file, "scaling_factor", &scale, scale.is_finite() && scale > 0.0, "a number above 0")?;
        for (name, values) in [("latents_mean", &config.latents_mean), ("latents_std", &config.latents_std)] {
            let found = values.as_ref().map_or(0, Vec::len);
            require(file, name, &format!("{found} values"), values.is_none(), "null; scaling_factor and shift_factor are applied")?;
        }
        Ok(config)
    }

    /// Pixels per latent on each spatial axis.
    pub fn spatial_compression(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

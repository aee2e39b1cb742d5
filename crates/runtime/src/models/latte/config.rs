//! `config.json`, with the defaults of diffusers.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `LatteTransformer3DModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// N.
    pub num_attention_heads: usize,
    /// d.
    pub attention_head_dim: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction, those of the noise first; as many as `in_channels` if absent.
    pub out_channels: Option<usize>,
    /// Number of blocks in space, and of those in time.
    pub num_layers: usize,
    /// Channels of the text in the cross-attention: the width D, to which it is projected.
    pub cross_attention_dim: Option<usize>,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Edge of the latents it was trained on.
    pub sample_size: usize,
    /// Edge of a patch of latents.
    pub patch_size: usize,
    /// Inside the MLP of a block; must be `gelu-approximate`.
    pub activation_fn: String,
    /// How blocks learn of the timestep; must be `ada_norm_single`.
    pub norm_type: String,
    /// Whether norms have a gain and a bias.
    pub norm_elementwise_affine: bool,
    /// Added to the variance in the norms of blocks.
    pub norm_eps: f32,
    /// Channels of a text embedding.
    pub caption_channels: usize,
    /// Frames it was trained on.
    pub video_length: usize,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 88,
            in_channels: 0,
            out_channels: None,
            num_layers: 1,
            cross_attention_dim: None,
            attention_bias: false,
            sample_size: 64,
            patch_size: 0,
            activation_fn: "geglu".into(),
            norm_type: "layer_norm".into(),
            norm_elementwise_affine: true,
            norm_eps: 1e-5,
            caption_channels: 0,
            video_length: 16,
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
        require_head_size(file, "attention_head_dim", config.attention_head_dim)?;
        let expected = "a multiple of 4, as positions need";
        require(file, "num_attention_heads · attention_head_dim", &width, width > 0 && width.is_multiple_of(4), expected)?;
        let sizes = [config.in_channels, config.predicted_channels(), config.patch_size, config.caption_channels, config.video_length];
        let fields = "in_channels, out_channels, patch_size, caption_channels, video_length";
        require(file, fields, &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        let (made, seen) = (config.predicted_channels(), config.in_channels);
        require(
            file,
            "out_channels",
            &made,
            made == seen || made == seen.saturating_mul(2),
            &format!("in_channels, {seen}, or twice as many"),
        )?;
        let trained = config.trained_patches();
        require(file, "sample_size", &config.sample_size, trained > 0, "at least patch_size")?;
        let context = config.cross_attention_dim;
        require(file, "cross_attention_dim", &context.unwrap_or(0), context == Some(width), &format!("the width {width}"))?;
        require(file, "activation_fn", &config.activation_fn, config.activation_fn == "gelu-approximate", "gelu-approximate")?;
        let expected = "ada_norm_single; with another one the timestep says nothing to the blocks";
        require(file, "norm_type", &config.norm_type, config.norm_type == "ada_norm_single", expected)?;
        Ok(config)
    }

    /// D = N · d.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// Channels of the prediction.
    pub fn predicted_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Latents of a token in time, height and width.
    pub fn packing(&self) -> [usize; 3] {
        [1, self.patch_size, self.patch_size]
    }

    /// Latents of a token.
    pub fn patch_latents(&self) -> usize {
        self.patch_size.saturating_mul(self.patch_size)
    }

    /// Patches on an edge of the latents it was trained on.
    pub(super) fn trained_patches(&self) -> usize {
        self.sample_size / self.patch_size.max(1)
    }
}

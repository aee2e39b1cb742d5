//! `config.json`: with the defaults of diffusers, and the arguments of the official class.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `DiTTransformer2DModel`.
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
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Edge of the latents it was trained on.
    pub sample_size: usize,
    /// Edge of a patch of latents.
    pub patch_size: usize,
    /// Inside the MLP of a block; must be `gelu-approximate`.
    pub activation_fn: String,
    /// Classes.
    pub num_embeds_ada_norm: Option<usize>,
    /// How blocks learn of timestep and class; must be `ada_norm_zero`.
    pub norm_type: String,
    /// Whether the norm before the MLP has a gain and a bias.
    pub norm_elementwise_affine: bool,
    /// Added to the variance in that norm.
    pub norm_eps: f32,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            num_attention_heads: 16,
            attention_head_dim: 72,
            in_channels: 4,
            out_channels: None,
            num_layers: 28,
            attention_bias: true,
            sample_size: 32,
            patch_size: 2,
            activation_fn: "gelu-approximate".into(),
            num_embeds_ada_norm: Some(1000),
            norm_type: "ada_norm_zero".into(),
            norm_elementwise_affine: false,
            norm_eps: 1e-5,
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
        require(file, "activation_fn", &config.activation_fn, config.activation_fn == "gelu-approximate", "gelu-approximate")?;
        let expected = "ada_norm_zero, the one the reference runs";
        require(file, "norm_type", &config.norm_type, config.norm_type == "ada_norm_zero", expected)?;
        config.check(file, "num_embeds_ada_norm")?;
        Ok(config)
    }

    /// What either layout must fulfil; `classes` is the field of their number.
    fn check(&self, file: &str, classes: &str) -> Result<()> {
        let width = self.width();
        require_head_size(file, "attention_head_dim", self.attention_head_dim)?;
        let expected = "a multiple of 4, as positions need";
        require(file, "num_attention_heads · attention_head_dim", &width, width > 0 && width.is_multiple_of(4), expected)?;
        let sizes = [self.in_channels, self.predicted_channels(), self.patch_size, self.num_layers];
        let fields = "in_channels, out_channels, patch_size, num_layers";
        require(file, fields, &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        require(file, classes, &self.classes(), self.classes() > 0, "at least 1")?;
        let (made, seen) = (self.predicted_channels(), self.in_channels);
        let expected = format!("in_channels, {seen}, or twice as many");
        require(file, "out_channels", &made, made == seen || made == seen.saturating_mul(2), &expected)?;
        require(file, "sample_size", &self.sample_size, self.trained_patches() > 0, "at least patch_size")
    }

    /// D = N · d.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// How many classes there are, without that of none.
    pub fn classes(&self) -> usize {
        self.num_embeds_ada_norm.unwrap_or(0)
    }

    /// Channels of the prediction.
    pub fn predicted_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Width, channels and edge of the embedding of patches.
    pub(crate) fn patch(&self) -> [usize; 3] {
        [self.width(), self.in_channels, self.patch_size]
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
    pub(crate) fn trained_patches(&self) -> usize {
        self.sample_size / self.patch_size.max(1)
    }
}

/// `DiT` of github.com/facebookresearch/DiT: the arguments of its constructor.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct DitConfig {
    /// Edge of the latents.
    pub input_size: usize,
    /// Edge of a patch of latents.
    pub patch_size: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// D.
    pub hidden_size: usize,
    /// Number of blocks.
    pub depth: usize,
    /// N.
    pub num_heads: usize,
    /// Width of an MLP in those of a block.
    pub mlp_ratio: f32,
    /// How often a class was left out in training; at 0 there is none to guide away from.
    pub class_dropout_prob: f32,
    /// Classes.
    pub num_classes: usize,
    /// Whether it predicts a variance beside the noise.
    pub learn_sigma: bool,
}

impl Default for DitConfig {
    fn default() -> Self {
        Self {
            input_size: 32,
            patch_size: 2,
            in_channels: 4,
            hidden_size: 1152,
            depth: 28,
            num_heads: 16,
            mlp_ratio: 4.0,
            class_dropout_prob: 0.1,
            num_classes: 1000,
            learn_sigma: true,
        }
    }
}

impl DitConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let [width, heads] = [config.hidden_size, config.num_heads];
        let whole = heads > 0 && width.is_multiple_of(heads);
        require(file, "hidden_size", &width, whole, &format!("a multiple of num_heads, {heads}"))?;
        require(file, "mlp_ratio", &config.mlp_ratio, config.mlp_ratio == 4.0, "4")?;
        let dropped = config.class_dropout_prob;
        require(file, "class_dropout_prob", &dropped, dropped > 0.0, "above 0, or there is no class of none")?;
        config.as_transformer().check(file, "num_classes")?;
        Ok(config)
    }

    /// The same model in the words of diffusers.
    pub fn as_transformer(&self) -> TransformerConfig {
        TransformerConfig {
            num_attention_heads: self.num_heads,
            attention_head_dim: self.hidden_size / self.num_heads,
            in_channels: self.in_channels,
            out_channels: Some(self.in_channels * if self.learn_sigma { 2 } else { 1 }),
            num_layers: self.depth,
            sample_size: self.input_size,
            patch_size: self.patch_size,
            num_embeds_ada_norm: Some(self.num_classes),
            norm_eps: 1e-6,
            ..TransformerConfig::default()
        }
    }
}

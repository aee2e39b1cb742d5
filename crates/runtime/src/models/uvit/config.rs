//! `config.json`: the arguments of the official classes, of which one is told a class and one a text.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `UViT` of github.com/baofff/U-ViT, `libs/uvit.py` and `libs/uvit_t2i.py`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UvitConfig {
    /// Edge of the latents.
    pub img_size: usize,
    /// Edge of a patch.
    pub patch_size: usize,
    /// Channels of the latents.
    pub in_chans: usize,
    /// D.
    pub embed_dim: usize,
    /// Blocks, but for the one in the middle.
    pub depth: usize,
    /// N.
    pub num_heads: usize,
    /// Width of an MLP in those of a block.
    pub mlp_ratio: f32,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether an MLP makes the token of time.
    pub mlp_time_embed: bool,
    /// Rows of the table of classes; below 1 it is told a text.
    pub num_classes: i64,
    /// Channels of the text.
    pub clip_dim: Option<usize>,
    /// Tokens of a text.
    pub num_clip_token: usize,
    /// How often a class was left out in training; at 0 the last row of the table is a class like the others.
    pub p_uncond: f32,
    /// Whether a convolution follows the last layer.
    pub conv: bool,
    /// Whether the blocks of the second half see those of the first; must be.
    pub skip: bool,
}

impl Default for UvitConfig {
    fn default() -> Self {
        Self {
            img_size: 224,
            patch_size: 16,
            in_chans: 3,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: false,
            mlp_time_embed: false,
            num_classes: -1,
            clip_dim: None,
            num_clip_token: 77,
            p_uncond: 0.1,
            conv: true,
            skip: true,
        }
    }
}

impl UvitConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (width, heads) = (config.embed_dim, config.num_heads);
        let whole = heads > 0 && width > 0 && width.is_multiple_of(heads) && width.is_multiple_of(2);
        require(file, "embed_dim", &width, whole, &format!("an even multiple of num_heads, {heads}"))?;
        require_head_size(file, "embed_dim / num_heads", width / heads)?;
        let sizes = [config.in_chans, config.patch_size, config.edge()];
        let fields = "in_chans, patch_size, img_size / patch_size";
        require(file, fields, &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        require(file, "depth", &config.depth, config.depth > 0 && config.depth.is_multiple_of(2), "an even number above 0")?;
        let hidden = config.mlp_ratio * width as f32;
        require(file, "mlp_ratio", &config.mlp_ratio, hidden >= 1.0 && hidden.is_finite(), "above 0")?;
        require(file, "skip", &config.skip, config.skip, "true")?;
        let told = [config.num_classes > 0, config.clip_dim.is_some_and(|width| width > 0) && config.num_clip_token > 0];
        require(file, "num_classes and clip_dim", &format!("{told:?}"), told[0] != told[1], "one of them: it is told a class or a text")?;
        Ok(config)
    }

    /// Patches on an edge.
    pub(super) fn edge(&self) -> usize {
        self.img_size / self.patch_size.max(1)
    }

    /// Width of an MLP, cut as in the reference.
    pub(super) fn hidden(&self) -> usize {
        (self.mlp_ratio * self.embed_dim as f32) as usize
    }

    /// Tokens before the patches: of time, and of a class or a text.
    pub(super) fn extras(&self) -> usize {
        if self.clip_dim.is_some() { 1 + self.num_clip_token } else { 2 }
    }

    /// Classes, without that of none.
    pub(super) fn classes(&self) -> usize {
        let rows = usize::try_from(self.num_classes).unwrap_or(0);
        if self.p_uncond > 0.0 { rows.saturating_sub(1) } else { rows }
    }
}

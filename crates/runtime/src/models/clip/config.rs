//! `config.json` of the vision transformer, and how a picture is cut into its patches.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_heads};

/// `CLIPVisionConfig`, with the defaults of transformers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// D.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// N.
    pub num_attention_heads: usize,
    /// Colours.
    pub num_channels: usize,
    /// Edge of a picture in pixels.
    pub image_size: usize,
    /// Edge of a patch in pixels.
    pub patch_size: usize,
    /// Name of the MLP's activation.
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl VisionConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        require_heads(file, width, heads)?;
        let known = super::activation(&config.hidden_act).is_some();
        require(file, "hidden_act", &config.hidden_act, known, "quick_gelu, gelu, gelu_new, relu or silu")?;
        require(file, "num_hidden_layers", &config.num_hidden_layers, config.num_hidden_layers > 0, "at least 1")?;
        require(file, "num_channels", &config.num_channels, config.num_channels == 3, "3, for red, green and blue")?;
        let fits = config.patch_size > 0 && config.image_size >= config.patch_size;
        require(file, "patch_size", &config.patch_size, fits, &format!("1 to image_size, {}", config.image_size))?;
        Ok(config)
    }

    /// Patches on each side of a picture; what fills none at the far sides is not seen.
    fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Rows of a picture: one for all of it, then one for each patch.
    pub(super) fn tokens(&self) -> usize {
        1 + self.side() * self.side()
    }

    /// Values of a patch.
    pub(super) fn patch_features(&self) -> usize {
        self.num_channels * self.patch_size * self.patch_size
    }

    /// A picture `[C, H, W]` as rows of patches `[tokens, C·p·p]`, features in the order (channel, row, column). The first row is
    /// zero: it stands for the picture as a whole.
    pub(super) fn patches(&self, picture: &[f32]) -> Vec<f32> {
        let (edge, patch, side) = (self.image_size, self.patch_size, self.side());
        let mut out = vec![0.0; self.patch_features()];
        out.reserve(side * side * self.patch_features());
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            for (channel, row) in (0..self.num_channels).flat_map(|channel| (0..patch).map(move |row| (channel, row))) {
                let start = (channel * edge + y * patch + row) * edge + x * patch;
                out.extend(&picture[start..start + patch]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_rows_behind_one_of_zeros() {
        let config = VisionConfig { image_size: 5, patch_size: 2, ..VisionConfig::default() };
        let picture: Vec<f32> = (0..75).map(|v| v as f32).collect();
        let rows = config.patches(&picture);
        assert_eq!((config.tokens(), rows.len()), (5, 5 * 12), "the fifth row and column of pixels fill no patch");
        assert_eq!(rows[..12], [0.0; 12], "the picture as a whole");
        assert_eq!(rows[4 * 12..], [12, 13, 17, 18, 37, 38, 42, 43, 62, 63, 67, 68].map(|v| v as f32), "the last patch");
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (json, field) in [
            (r#"{"hidden_act": "quick_silu"}"#, "hidden_act"),
            (r#"{"hidden_act": "gelu", "num_attention_heads": 5}"#, "num_attention_heads"),
            (r#"{"hidden_act": "gelu", "num_attention_heads": 128}"#, "expected heads of 8 to 1024 channels, found 6"),
            (r#"{"hidden_act": "gelu", "patch_size": 225}"#, "patch_size"),
            (r#"{"hidden_act": "gelu", "num_channels": 1}"#, "num_channels"),
        ] {
            let error = VisionConfig::parse(json, "config.json").expect_err(field).to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}

//! `model_index.json`: the components of a model folder and, in its `kinora` object, what the pipeline needs beyond them.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What the `kinora` object of `model_index.json` declares; the defaults are those of `LTXPipeline` in diffusers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Name shown to people.
    pub name: String,
    /// Denoising steps when a request names none.
    pub default_steps: usize,
    /// Guidance when a request names none; 1 means one branch.
    pub default_guidance: f32,
    /// Width in pixels when a request names none.
    pub default_width: usize,
    /// Height in pixels when a request names none.
    pub default_height: usize,
    /// Frames when a request names none.
    pub default_frames: usize,
    /// Frames per second the model was trained on.
    pub fps: f32,
    /// Latent frames, rows and columns joined in one token.
    pub token_packing: [usize; 3],
    /// Constant position features appended to each token; 0 or 15.
    pub coordinate_channels: usize,
    /// Seconds and pixels per token for the rotary embedding; derived from the autoencoder and `fps` if absent.
    pub rope_interpolation_scale: Option<[f32; 3]>,
    /// Longer prompts are cut to this many tokens.
    pub max_text_tokens: usize,
    /// File with the words the model knows, if it lists them.
    pub vocabulary: Option<String>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            name: String::new(),
            default_steps: 50,
            default_guidance: 3.0,
            default_width: 704,
            default_height: 512,
            default_frames: 161,
            fps: 25.0,
            token_packing: [1; 3],
            coordinate_channels: 0,
            rope_interpolation_scale: None,
            max_text_tokens: 128,
            vocabulary: None,
        }
    }
}

impl Manifest {
    /// Reads the text of a `model_index.json` called `file`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`].
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let invalid = |problem: String| Error::InvalidConfig { file: file.into(), problem };
        let index: Map<String, Value> = serde_json::from_str(json).map_err(|e| invalid(e.to_string()))?;
        match index.get("_class_name").and_then(Value::as_str) {
            Some("LTXPipeline" | "LTXImageToVideoPipeline" | "LTXConditionPipeline") => {}
            class => {
                let class = class.unwrap_or("none").into();
                return Err(Error::UnknownClass {
                    class,
                    file: file.into(),
                    known: "LTXPipeline, LTXImageToVideoPipeline, LTXConditionPipeline".into(),
                });
            }
        }
        let manifest: Self = match index.get("kinora") {
            None => Self::default(),
            Some(kinora) => serde_json::from_value(kinora.clone()).map_err(|e| invalid(format!("`kinora`: {e}")))?,
        };
        let counts =
            [manifest.default_steps, manifest.default_width, manifest.default_height, manifest.default_frames, manifest.max_text_tokens];
        if ![0, crate::models::ltx::tokens::COORDINATE_CHANNELS].contains(&manifest.coordinate_channels) {
            return Err(invalid(format!("`kinora.coordinate_channels` is {}, expected 0 or 15", manifest.coordinate_channels)));
        }
        if counts.iter().chain(&manifest.token_packing).any(|n| *n == 0) || manifest.fps.is_nan() || manifest.fps <= 0.0 {
            return Err(invalid("`kinora`: counts and fps must be above 0".into()));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_ltx_index_gets_the_defaults_of_diffusers() {
        let manifest = Manifest::parse(r#"{"_class_name": "LTXPipeline"}"#, "model_index.json").expect("valid");
        assert_eq!(manifest, Manifest::default(), "no `kinora` object");
    }

    #[test]
    fn impossible_values_are_refused() {
        let zero = Manifest::parse(r#"{"_class_name": "LTXPipeline", "kinora": {"default_steps": 0}}"#, "m").expect_err("zero steps");
        assert_eq!(zero.code(), "invalid-config", "{zero}");
        let class = Manifest::parse(r#"{"_class_name": "WanPipeline"}"#, "m").expect_err("another family");
        assert_eq!(class.code(), "unknown-class", "{class}");
    }
}

//! Wan 2.1 and 2.2 (arXiv 2503.20314): the diffusion transformer and its video autoencoders, in the layout of diffusers.

mod autoencoder;
pub mod config;
mod denoiser;
mod evaluate;
mod layouts;
mod prompt;
mod rope;
mod transformer;
mod vae;
mod vae_blocks;
mod vae_decoder;
mod vae_encoder;

pub use config::{TransformerConfig, VaeConfig};
pub use denoiser::WanDenoiser;
pub use transformer::{Transformer, TransformerInputs};
pub use vae::Vae;
pub use vae_decoder::VaeDecoder;
pub use vae_encoder::VaeEncoder;

use serde_json::Value;

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass, Source, TextPadding, TextRules};
use super::layout::known;
use crate::error::Result;
use crate::manifest::Index;
use crate::sampling::schedule::Levels;

/// Wan.
pub const FAMILY: Family = Family {
    name: "wan",
    layouts: known(layouts::LAYOUTS),
    pipelines: &[
        pipeline(TEXT_TO_VIDEO, &["WanTransformer3DModel"]),
        pipeline("WanImageToVideoPipeline", &["WanTransformer3DModel"]),
        PipelineClass { extensions: &["conditioning_scale"], ..pipeline("WanVACEPipeline", &["WanVACETransformer3DModel"]) },
        PipelineClass {
            defaults: Defaults { steps: 4, guidance: 1.0, ..DEFAULTS },
            ..pipeline("AnyFlowPipeline", &["AnyFlowTransformer3DModel"])
        },
    ],
    components: &[
        ComponentClass {
            name: "WanTransformer3DModel",
            load: |source| transformer(source, &TransformerConfig::parse(source.config, source.file)?),
        },
        ComponentClass {
            name: "WanVACETransformer3DModel",
            load: |source| transformer(source, &TransformerConfig::parse_vace(source.config, source.file)?),
        },
        ComponentClass {
            name: "AnyFlowTransformer3DModel",
            load: |source| transformer(source, &TransformerConfig::parse_flow_map(source.config, source.file)?),
        },
        ComponentClass {
            name: "AutoencoderKLWan",
            load: |source| {
                let config = VaeConfig::parse(source.config, source.file)?;
                if source.index.get("_class_name").is_some() {
                    config.check_statistics(source.file)?;
                }
                Ok(Component::Autoencoder(Box::new(Vae::load(&source.weights, &config)?)))
            },
        },
    ],
};

fn transformer(source: &Source<'_>, config: &TransformerConfig) -> Result<Component> {
    config.check_pipeline(source.index.get("_class_name").and_then(Value::as_str), source.file)?;
    let transformer = Transformer::load(&source.weights, config)?;
    Ok(Component::Denoiser(Box::new(WanDenoiser::new(transformer, source.index)?)))
}

/// The pipeline of models that see nothing but text.
const TEXT_TO_VIDEO: &str = "WanPipeline";

const DEFAULTS: Defaults = Defaults { steps: 50, guidance: 5.0, width: 832, height: 480, frames: 81, fps: 16.0 };

/// The pipelines of diffusers differ in what they are given besides text, which the transformer itself tells.
const fn pipeline(name: &'static str, denoisers: &'static [&'static str]) -> PipelineClass {
    PipelineClass {
        name,
        denoisers,
        autoencoders: &["AutoencoderKLWan", "TAEHV"],
        text_encoders: &["UMT5EncoderModel"],
        image_encoders: &["CLIPVisionModel", "CLIPVisionModelWithProjection"],
        noise_ranges,
        defaults: DEFAULTS,
        text: TextRules { max_tokens: 512, clean: prompt::clean, padding: TextPadding::Zeros },
        levels: Levels::Steps,
        extensions: &[],
    }
}

/// Timesteps of the range that all models are trained on.
const TRAIN_TIMESTEPS: f64 = 1000.0;

/// One transformer, or with a `boundary_ratio` one for the noise above it and a second one for the noise below (Wan 2.2).
/// Either may be absent.
fn noise_ranges(index: &Index) -> Result<Vec<NoiseRange>> {
    let boundary = match index.get("boundary_ratio") {
        None => return Ok(NoiseRange::all("transformer")),
        Some(value) => value.as_f64().filter(|ratio| (0.0..=1.0).contains(ratio)),
    };
    let Some(boundary) = boundary else {
        let found = index.get("boundary_ratio").map(Value::to_string).unwrap_or_default();
        return Err(index.invalid(format!("`boundary_ratio` is {found}, expected a number from 0 to 1 or null")));
    };
    let lowest_timestep = (boundary * TRAIN_TIMESTEPS) as f32;
    let ranges =
        [NoiseRange { folder: "transformer", lowest_timestep }, NoiseRange { folder: "transformer_2", lowest_timestep: f32::NEG_INFINITY }];
    Ok(ranges.into_iter().filter(|range| index.has_component(range.folder)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(json: &str) -> Result<Vec<NoiseRange>> {
        noise_ranges(&Index::parse(json, "model_index.json").expect("valid JSON"))
    }

    #[test]
    fn the_boundary_parts_the_noise_between_two_transformers() {
        let both = r#"{"boundary_ratio": 0.875, "transformer": ["diffusers", "T"], "transformer_2": ["diffusers", "T"]}"#;
        let found = ranges(both).expect("valid");
        assert_eq!(found.iter().map(|range| range.folder).collect::<Vec<_>>(), ["transformer", "transformer_2"], "high noise first");
        assert_eq!(found.iter().map(|range| range.lowest_timestep).collect::<Vec<_>>(), [875.0, f32::NEG_INFINITY]);
        assert_eq!(ranges("{}").expect("valid"), NoiseRange::all("transformer"), "Wan 2.1");
        assert_eq!(ranges(r#"{"boundary_ratio": null}"#).expect("valid"), NoiseRange::all("transformer"), "null is absent");
        let wrong = ranges(r#"{"boundary_ratio": 875}"#).expect_err("not a ratio").to_string();
        assert!(wrong.contains("`boundary_ratio` is 875"), "{wrong}");
    }
}

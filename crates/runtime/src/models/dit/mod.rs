//! `DiT` (arXiv 2212.09748): a diffusion transformer of images that is told a class, in the layout of diffusers and in the official one.

pub mod config;
mod denoiser;
pub(crate) mod layouts;
mod transformer;

pub use config::{DitConfig, TransformerConfig};
pub(crate) use transformer::{Block, EPS};
pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass};
use super::images::CLASS_RULES;
use crate::sampling::schedule::Levels;

/// `DiT`.
pub const FAMILY: Family = Family {
    name: "dit",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "DiTPipeline",
        denoisers: &["DiTTransformer2DModel", "DiT"],
        autoencoders: &["AutoencoderKL"],
        text_encoders: &[],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 50, guidance: 4.0, width: 256, height: 256, frames: 1, fps: 1.0 },
        text: CLASS_RULES,
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[
        ComponentClass {
            name: "DiTTransformer2DModel",
            load: |source| {
                let config = TransformerConfig::parse(source.config, source.file)?;
                Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
            },
        },
        ComponentClass {
            name: "DiT",
            load: |source| {
                let config = DitConfig::parse(source.config, source.file)?;
                Ok(Component::Denoiser(Box::new(Transformer::load_official(&source.weights, &config)?)))
            },
        },
    ],
};

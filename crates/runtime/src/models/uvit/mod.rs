//! U-ViT (arXiv 2209.12152): a vision transformer of images with long skips, that is told a class or a text, in its official layout.

pub mod config;
mod denoiser;
mod layouts;
mod transformer;

pub use config::UvitConfig;
pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass};
use super::images::CLASS_RULES;
use crate::sampling::schedule::Levels;

/// U-ViT.
pub const FAMILY: Family = Family {
    name: "uvit",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "UViTPipeline",
        denoisers: &["UViT"],
        autoencoders: &["AutoencoderKL"],
        text_encoders: &[],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        // The official sampler counts from the branch with the condition: 0.4 there is 1.4 here.
        defaults: Defaults { steps: 50, guidance: 1.4, width: 256, height: 256, frames: 1, fps: 1.0 },
        text: CLASS_RULES,
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[ComponentClass {
        name: "UViT",
        load: |source| {
            let config = UvitConfig::parse(source.config, source.file)?;
            Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
        },
    }],
};

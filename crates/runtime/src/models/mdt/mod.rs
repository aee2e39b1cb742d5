//! `MDTv2` (arXiv 2303.14389): a diffusion transformer of images that was trained to fill in tokens it does not see, in its official
//! layout.

pub mod config;
mod denoiser;
mod layouts;
mod transformer;

pub use config::MdtConfig;
pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass};
use super::images::CLASS_RULES;
use crate::sampling::schedule::Levels;

/// `MDTv2`.
pub const FAMILY: Family = Family {
    name: "mdt",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "MDTPipeline",
        denoisers: &["MDTv2"],
        autoencoders: &["AutoencoderKL"],
        text_encoders: &[],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 250, guidance: 3.8, width: 256, height: 256, frames: 1, fps: 1.0 },
        text: CLASS_RULES,
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[ComponentClass {
        name: "MDTv2",
        load: |source| {
            let config = MdtConfig::parse(source.config, source.file)?;
            Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
        },
    }],
};

//! `DiffiT` (arXiv 2312.02139) of latents: a vision transformer of images whose queries, keys and values depend on the time, from the
//! paper's equations.

mod denoiser;
mod layouts;
mod transformer;

pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::dit::DitConfig;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass};
use super::images::CLASS_RULES;
use crate::sampling::schedule::Levels;

/// `DiffiT`.
pub const FAMILY: Family = Family {
    name: "diffit",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "DiffiTPipeline",
        denoisers: &["DiffiT"],
        autoencoders: &["AutoencoderKL"],
        text_encoders: &[],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 250, guidance: 4.6, width: 256, height: 256, frames: 1, fps: 1.0 },
        text: CLASS_RULES,
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[ComponentClass {
        name: "DiffiT",
        load: |source| {
            let config = DitConfig::parse(source.config, source.file)?.as_transformer();
            Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
        },
    }],
};

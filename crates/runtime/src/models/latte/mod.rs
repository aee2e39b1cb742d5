//! Latte (arXiv 2401.03048): a diffusion transformer with attention in space and in time in turn, in the layout of diffusers.

pub mod config;
mod denoiser;
mod grid;
mod layouts;
mod transformer;

pub use config::TransformerConfig;
pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass, TextPadding, TextRules};
use crate::sampling::schedule::Levels;

/// Latte.
pub const FAMILY: Family = Family {
    name: "latte",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "LattePipeline",
        denoisers: &["LatteTransformer3DModel"],
        autoencoders: &["AutoencoderKL"],
        text_encoders: &["T5EncoderModel"],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 50, guidance: 7.5, width: 512, height: 512, frames: 16, fps: 8.0 },
        text: TextRules { max_tokens: 120, clean, padding: TextPadding::Paired(T5_PADDING) },
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[ComponentClass {
        name: "LatteTransformer3DModel",
        load: |source| {
            let config = TransformerConfig::parse(source.config, source.file)?;
            Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
        },
    }],
};

/// `<pad>` of T5's tokenizer.
const T5_PADDING: u32 = 0;

/// What `LattePipeline` does to a prompt where the packages that clean captions are not installed.
fn clean(prompt: &str) -> String {
    prompt.to_lowercase().trim().to_owned()
}

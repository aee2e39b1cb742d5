//! U-ViT (arXiv 2209.12152): a vision transformer of images with long skips, that is told a class or a text, in its official layout.

pub mod config;
mod denoiser;
mod layouts;
mod transformer;

pub use config::UvitConfig;
pub use transformer::{Transformer, TransformerInputs};

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass, TextPadding, TextRules};
use super::images::CLASS_RULES;
use crate::sampling::schedule::Levels;

/// `<|endoftext|>` of CLIP's tokenizer, with which all texts are filled up.
const CLIP_PADDING: TextPadding = TextPadding::Token(49407);

/// A pipeline that is told a class, or by these encoders a text.
const fn pipeline(name: &'static str, text_encoders: &'static [&'static str], guidance: f32, text: TextRules) -> PipelineClass {
    PipelineClass {
        name,
        denoisers: &["UViT"],
        autoencoders: &["AutoencoderKL"],
        text_encoders,
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 50, guidance, width: 256, height: 256, frames: 1, fps: 1.0 },
        text,
        levels: Levels::Steps,
        extensions: &[],
    }
}

/// U-ViT.
pub const FAMILY: Family = Family {
    name: "uvit",
    layouts: layouts::LAYOUTS,
    pipelines: &[
        // The official samplers count from the branch with the condition: 0.4 and 1 there are 1.4 and 2 here.
        pipeline("UViTPipeline", &[], 1.4, CLASS_RULES),
        pipeline("UViTTextPipeline", &["CLIPTextModel"], 2.0, TextRules { max_tokens: 77, clean: str::to_owned, padding: CLIP_PADDING }),
    ],
    components: &[ComponentClass {
        name: "UViT",
        load: |source| {
            let config = UvitConfig::parse(source.config, source.file)?;
            Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
        },
    }],
};

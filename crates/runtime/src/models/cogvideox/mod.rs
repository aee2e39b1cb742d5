//! `CogVideoX` (arXiv 2408.06072): the diffusion transformer and its video autoencoder, in the layout of diffusers.

mod autoencoder;
pub mod config;
mod denoiser;
mod joint;
mod layouts;
mod positions;
mod transformer;
mod vae;
mod vae_blocks;
mod vae_decoder;
mod vae_encoder;

pub use config::{TransformerConfig, VaeConfig};
pub use transformer::{Transformer, TransformerInputs};
pub use vae::Vae;
pub use vae_decoder::VaeDecoder;
pub use vae_encoder::VaeEncoder;

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass, TextPadding, TextRules};
use crate::sampling::schedule::Levels;

/// `CogVideoX`.
pub const FAMILY: Family = Family {
    name: "cogvideox",
    layouts: layouts::LAYOUTS,
    pipelines: &[PipelineClass {
        name: "CogVideoXPipeline",
        denoisers: &["CogVideoXTransformer3DModel"],
        autoencoders: &["AutoencoderKLCogVideoX"],
        text_encoders: &["T5EncoderModel"],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 50, guidance: 6.0, width: 720, height: 480, frames: 49, fps: 8.0 },
        text: TextRules { max_tokens: 226, clean: str::to_owned, padding: TextPadding::Token(T5_PADDING) },
        levels: Levels::Steps,
        extensions: &[],
    }],
    components: &[
        ComponentClass {
            name: "CogVideoXTransformer3DModel",
            load: |source| {
                let config = TransformerConfig::parse(source.config, source.file)?;
                if source.index.get("_class_name").is_some() {
                    config.check_text_to_video(source.file)?;
                }
                Ok(Component::Denoiser(Box::new(Transformer::load(&source.weights, &config)?)))
            },
        },
        ComponentClass {
            name: "AutoencoderKLCogVideoX",
            load: |source| {
                let config = VaeConfig::parse(source.config, source.file)?;
                Ok(Component::Autoencoder(Box::new(Vae::load(&source.weights, &config)?)))
            },
        },
    ],
};

/// `<pad>` of T5's tokenizer, which the reference encodes and attends to like any other token.
const T5_PADDING: u32 = 0;

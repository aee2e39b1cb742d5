//! LTX-Video (arXiv 2501.00103): the diffusion transformer and its video autoencoder, in the layout of diffusers.

mod autoencoder;
#[cfg(feature = "families")]
mod condition;
pub mod config;
pub mod coordinates;
mod denoiser;
mod layouts;
pub mod rope;
mod transformer;
#[cfg(feature = "families")]
mod upsampler;
mod vae;
mod vae_blocks;
mod vae_decoder;
mod vae_encoder;

pub use config::{TransformerConfig, VaeConfig};
pub use denoiser::{Extensions, LtxDenoiser};
pub use transformer::{TokenLayout, Transformer, TransformerInputs};
#[cfg(feature = "families")]
pub use upsampler::{LatentUpsampler, SecondPass, UpsamplerConfig};
pub use vae::{Decoding, Vae};
pub use vae_decoder::VaeDecoder;
pub use vae_encoder::VaeEncoder;

use super::component::Component;
use super::family::{ComponentClass, Defaults, Family, NoiseRange, PipelineClass, TextPadding, TextRules};
use super::layout::known;
use crate::sampling::schedule::Levels;

/// The pipelines of diffusers differ in what they are given besides text, which any model of the family can be; one of them has other
/// positions and levels, too.
pub const FAMILY: Family = Family {
    name: "ltx",
    layouts: known(layouts::LAYOUTS),
    pipelines: &[
        pipeline("LTXPipeline"),
        pipeline("LTXImageToVideoPipeline"),
        #[cfg(feature = "families")]
        PipelineClass { levels: condition::levels, ..pipeline(condition::PIPELINE) },
    ],
    components: &[
        ComponentClass {
            name: "LTXVideoTransformer3DModel",
            load: |source| {
                let config = TransformerConfig::parse(source.config, source.file)?;
                let model = Transformer::load(&source.weights, &config)?;
                Ok(Component::Denoiser(Box::new(LtxDenoiser::new(model, source)?)))
            },
        },
        ComponentClass {
            name: "AutoencoderKLLTXVideo",
            load: |source| {
                let config = VaeConfig::parse(source.config, source.file)?;
                let vae = Vae { decoding: Decoding::of(source.index)?, ..Vae::load(&source.weights, &config)? };
                Ok(Component::Autoencoder(Box::new(vae)))
            },
        },
        #[cfg(feature = "families")]
        ComponentClass {
            name: "LTXLatentUpsamplerModel",
            load: |source| {
                let config = UpsamplerConfig::parse(source.config, source.file)?;
                let second_pass = SecondPass::of(source.index)?;
                let model = LatentUpsampler::load(&source.weights, &config)?;
                Ok(Component::LatentStage(Box::new(model.followed_by(second_pass))))
            },
        },
    ],
};

/// Keys of the `kinora` object: of the transformer, the autoencoder and the upsampler.
const KEYS: &[&str] = &[
    "token_packing",
    "coordinate_channels",
    "rope_interpolation_scale",
    "decode_timestep",
    "decode_noise_scale",
    #[cfg(feature = "families")]
    "second_pass",
];

const fn pipeline(name: &'static str) -> PipelineClass {
    PipelineClass {
        name,
        denoisers: &["LTXVideoTransformer3DModel"],
        autoencoders: &["AutoencoderKLLTXVideo"],
        // The reference has T5; flipbook is trained with a BERT.
        text_encoders: &["T5EncoderModel", "BertModel"],
        image_encoders: &[],
        noise_ranges: |_| Ok(NoiseRange::all("transformer")),
        defaults: Defaults { steps: 50, guidance: 3.0, width: 704, height: 512, frames: 161, fps: 25.0 },
        // The reference pads to 128 tokens and masks them everywhere.
        text: TextRules { max_tokens: 128, clean: str::to_owned, padding: TextPadding::None },
        levels: Levels::ramp,
        extensions: KEYS,
    }
}

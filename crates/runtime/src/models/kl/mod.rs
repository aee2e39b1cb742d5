//! The autoencoder of images of latent diffusion (arXiv 2112.10752), which video models use frame by frame: `AutoencoderKL` in the
//! layout of diffusers.

mod coder;
pub mod config;
mod layouts;

pub use coder::{Decoder, Encoder};
pub use config::VaeConfig;

use kinora_kernels::{Plan, Tensor};

use super::LatentStats;
use super::component::Component;
use super::family::{Autoencoder, ComponentClass, Direction, Evaluate, Family, Split};
use crate::error::Result;
use crate::eval::{Coded, Evaluation, Inputs};
use crate::nn::Carry;

/// The autoencoder, which others use.
pub const FAMILY: Family = Family {
    name: "kl",
    layouts: layouts::LAYOUTS,
    pipelines: &[],
    components: &[ComponentClass {
        name: "AutoencoderKL",
        load: |source| {
            let config = VaeConfig::parse(source.config, source.file)?;
            let (encoder, decoder) = (Encoder::load(&source.weights, &config)?, Decoder::load(&source.weights, &config)?);
            let (mean, std) = (config.shift_factor.unwrap_or(0.0), 1.0);
            let channels = config.latent_channels;
            let stats = LatentStats::new(vec![mean; channels], &vec![std; channels], config.scaling_factor);
            Ok(Component::Autoencoder(Box::new(Vae { config, encoder, decoder, stats })))
        },
    }],
};

/// `AutoencoderKL`.
struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
    stats: LatentStats,
}

impl Autoencoder for Vae {
    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn compression(&self) -> [usize; 3] {
        let space = self.config.spatial_compression();
        [1, space, space]
    }

    fn stats(&self) -> &LatentStats {
        &self.stats
    }

    fn split(&self, _: Direction, latent_frames: usize) -> Split {
        // No frame sees another.
        Split::Chunks(vec![1; latent_frames])
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        self.encoder.forward(plan, frames)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        self.decoder.forward(plan, latents)
    }

    fn first_block(&self) -> &'static str {
        "decoder.up_blocks.0."
    }
}

impl Evaluate for Vae {
    fn operations(&self) -> &'static [&'static str] {
        &["encode", "decode"]
    }

    fn evaluate(&self, operation: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let config = &self.config;
        let (colours, latents, space) = (config.in_channels, config.latent_channels, config.spatial_compression());
        let coded = Coded { clips: false, colours, latents, space, time: 1, bounded: false };
        match operation {
            "encode" => coded.encode(inputs, |plan, images| self.encoder.forward(plan, images)),
            _ => coded.decode(inputs, &[], |plan, latents| self.decoder.forward(plan, latents)),
        }
    }
}

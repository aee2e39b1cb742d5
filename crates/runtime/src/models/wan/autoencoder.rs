//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::Vae;
use super::config::ENCODED_FRAMES;
use crate::error::Result;
use crate::eval::{Coded, Evaluation, Inputs};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;

impl Autoencoder for Vae {
    fn latent_channels(&self) -> usize {
        self.config.z_dim
    }

    fn compression(&self) -> [usize; 3] {
        let space = self.config.spatial_compression();
        [self.config.temporal_compression(), space, space]
    }

    fn stats(&self) -> &LatentStats {
        &self.stats
    }

    fn split(&self, _: Direction, latent_frames: usize) -> Split {
        Split::Chunks(vec![1; latent_frames])
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        self.encoder.forward(plan, frames, carry)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        self.decoder.forward(plan, latents, carry)
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
        let coded = Coded {
            clips: true,
            colours: config.in_channels / (config.patch() * config.patch()),
            latents: config.z_dim,
            space: config.spatial_compression(),
            time: 1,
            bounded: true,
        };
        match operation {
            "encode" => coded.encode(inputs, |plan, frames| {
                // Like the reference: what fills no group of frames at the end is left out.
                let whole = 1 + (frames.shape().dims()[1] - 1) / ENCODED_FRAMES * ENCODED_FRAMES;
                self.encoder.forward(plan, frames.slice_frames(0, whole), &Carry::whole(plan))
            }),
            _ => coded.decode(inputs, &[], |plan, latents| self.decoder.forward(plan, latents, &Carry::whole(plan))),
        }
    }
}

//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::Vae;
use super::vae::in_batches;
use crate::error::Result;
use crate::eval::{Coded, Evaluation, Inputs};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;

impl Autoencoder for Vae {
    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn compression(&self) -> [usize; 3] {
        let space = self.config.spatial_compression();
        [self.config.temporal_compression(), space, space]
    }

    fn stats(&self) -> &LatentStats {
        &self.stats
    }

    fn split(&self, direction: Direction, latent_frames: usize) -> Split {
        Split::Chunks(match direction {
            Direction::Decode => Self::decoded_batches(latent_frames),
            Direction::Encode => {
                let time = self.config.temporal_compression();
                let batches = Self::encoded_batches(1 + latent_frames.saturating_sub(1) * time);
                batches.iter().enumerate().map(|(i, frames)| if i == 0 { 1 + (frames - 1) / time } else { frames / time }).collect()
            }
        })
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        self.encode(plan, frames, carry)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let frames = self.decode(plan, latents, carry);
        match (latents.shape().dims(), frames.shape().dims()) {
            // Of an even number of latents the reference makes several frames of the first one too. The last of them is the first
            // frame of the clip.
            ([_, made, ..], [_, count, ..]) if carry.is_first() && made % 2 == 0 => {
                let more = self.config.temporal_compression() - 1;
                frames.slice_frames(more, count - more)
            }
            _ => frames,
        }
    }

    fn first_block(&self) -> &'static str {
        "decoder.up_blocks.0."
    }
}

impl Vae {
    /// A batch of frames to latents, or all batches of a whole clip.
    fn encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        in_batches(plan, frames, carry, Self::encoded_batches, |x, carry| self.encoder.forward(plan, x, carry))
    }

    /// A batch of latents to frames, or all batches of a whole clip.
    fn decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        in_batches(plan, latents, carry, Self::decoded_batches, |z, carry| self.decoder.forward(plan, z, carry))
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
            colours: config.in_channels,
            latents: config.latent_channels,
            space: config.spatial_compression(),
            time: 1,
            bounded: false,
        };
        match operation {
            "encode" => coded.encode(inputs, |plan, frames| self.encode(plan, frames, &Carry::whole(plan))),
            _ => coded.decode(inputs, &[], |plan, latents| self.decode(plan, latents, &Carry::whole(plan))),
        }
    }
}

//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::Vae;
use crate::error::{Error, Result};
use crate::eval::{Coded, Evaluation, Inputs};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;
use crate::nn::embed::TIMESTEP_FEATURES;

/// Latent frames that two windows of a clip have in common: with random weights, which forget the distance less than trained ones do,
/// three are 37 dB from the whole, four 43 and six 45 to 49.
const WINDOW_OVERLAP: usize = 6;

impl Autoencoder for Vae {
    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn compression(&self) -> [usize; 3] {
        self.config.compression()
    }

    fn stats(&self) -> &LatentStats {
        &self.stats
    }

    fn decode_noise(&self) -> f32 {
        if self.config.timestep_conditioning { self.decoding.decode_noise_scale.unwrap_or(self.decoding.decode_timestep) } else { 0.0 }
    }

    fn split(&self, _: Direction, _: usize) -> Split {
        Split::Windows { overlap: WINDOW_OVERLAP }
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        self.encoder.forward(plan, frames)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        let features =
            self.decoder.timestep_features(&[self.decoding.decode_timestep]).map(|values| plan.constant(&[1, TIMESTEP_FEATURES], &values));
        self.decoder.forward(plan, latents, features)
    }

    fn first_block(&self) -> &'static str {
        "up_blocks.0."
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
            time: config.temporal_compression(),
            bounded: false,
        };
        if operation == "encode" {
            return coded.encode(inputs, |plan, frames| self.encoder.forward(plan, frames));
        }
        let features = self.noise_levels(inputs)?;
        coded.decode(inputs, &["temb"], |plan, latents| {
            let features = features.map(|values| plan.constant(&[values.len() / TIMESTEP_FEATURES, TIMESTEP_FEATURES], &values));
            self.decoder.forward(plan, latents, features)
        })
    }
}

impl Vae {
    /// Features of the noise level of each batch entry, `temb [B]`, if the decoder is conditioned on it.
    fn noise_levels(&self, inputs: &Inputs<'_>) -> Result<Option<Vec<f32>>> {
        inputs.only(&["z", "temb"])?;
        let (_, [batch, ..]) = inputs.ranked::<5>("z", "[B, C, F, H, W]")?;
        match inputs.optional("temb", &[batch])? {
            Some(levels) => Ok(self.decoder.timestep_features(&levels)),
            None if self.config.timestep_conditioning => Err(Error::InvalidRequest {
                parameter: "temb".into(),
                found: "none".into(),
                expected: "the noise level of each batch entry, since the decoder is conditioned on it".into(),
            }),
            None => Ok(None),
        }
    }
}

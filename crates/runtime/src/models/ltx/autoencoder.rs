//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::Vae;
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;
use crate::nn::embed::TIMESTEP_FEATURES;
use crate::sampling::tokens::{batched, channels_first, channels_last};

/// The noise level a conditioned decoder is told (`decode_timestep` of `LTXPipeline`).
const DECODE_TIMESTEP: f32 = 0.0;

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

    fn split(&self, _: Direction, _: usize) -> Split {
        Split::Windows { overlap: WINDOW_OVERLAP }
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        self.encoder.forward(plan, frames)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, _: &Carry<'p>) -> Tensor<'p> {
        let features = self.decoder.timestep_features(&[DECODE_TIMESTEP]).map(|values| plan.constant(&[1, TIMESTEP_FEATURES], &values));
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
        if operation == "encode" { self.evaluate_encode(inputs) } else { self.evaluate_decode(inputs) }
    }
}

impl Vae {
    /// `encode`: frames `x [B, 3, F, H, W]` → `mean` and `logvar` `[B, C, F', H', W']`.
    fn evaluate_encode(&self, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["x"])?;
        let (x, extents) = inputs.ranked("x", "[B, C, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        let config = &self.config;
        x.expect_shape(&[batch, config.in_channels, f, h, w])?;
        let (time, space) = (config.temporal_compression(), config.spatial_compression());
        if (f - 1) % time != 0 || h % space != 0 || w % space != 0 {
            return Err(wrong_shape(&x, &format!("1 + {time}·n frames, height and width multiples of {space}")));
        }
        let plan = Plan::new();
        let frames = plan.input("x", &[batch, f, h, w, config.in_channels], Cadence::Once);
        let moments = self.encoder.forward(&plan, frames);
        let shape = moments.shape();
        plan.output("moments", moments);

        let (c, d) = (config.latent_channels, shape.dims());
        let extents_out = [batch, c, d[1], d[2], d[3]];
        let run = Run::new(plan.finish()?).write("x", batched(&x.to_f32(), extents, channels_last));
        let finish = move |moments: Vec<f32>| {
            let mean: Vec<f32> = moments.chunks_exact(c + 1).flat_map(|m| m[..c].iter().copied()).collect();
            // One log variance for all channels, clamped as in the reference's distribution.
            let logvar: Vec<f32> = moments.chunks_exact(c + 1).flat_map(|m| std::iter::repeat_n(m[c].clamp(-30.0, 20.0), c)).collect();
            let output = |name, values: &[f32]| {
                let values = batched(values, extents_out, channels_first);
                Output { name, shape: extents_out.to_vec(), values }
            };
            vec![output("mean", &mean), output("logvar", &logvar)]
        };
        Ok(run.output_with("moments", finish).into())
    }

    /// `decode`: latents `z [B, C, F, H, W]`, and the noise level `temb [B]` if the decoder is conditioned on it, → `sample`
    /// `[B, 3, F', H', W']`.
    fn evaluate_decode(&self, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["z", "temb"])?;
        let (z, extents) = inputs.ranked("z", "[B, C, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        let channels = self.config.latent_channels;
        z.expect_shape(&[batch, channels, f, h, w])?;
        let features = match inputs.optional("temb", &[batch])? {
            Some(levels) => self.decoder.timestep_features(&levels),
            None if self.config.timestep_conditioning => {
                return Err(Error::InvalidRequest {
                    parameter: "temb".into(),
                    found: "none".into(),
                    expected: "the noise level of each batch entry, since the decoder is conditioned on it".into(),
                });
            }
            None => None,
        };
        let plan = Plan::new();
        let latents = plan.input("z", &[batch, f, h, w, channels], Cadence::Once);
        let features = features.map(|values| plan.constant(&[batch, TIMESTEP_FEATURES], &values));
        let sample = self.decoder.forward(&plan, latents, features);
        let shape = sample.shape();
        plan.output("sample", sample);

        let d = shape.dims();
        let extents_out = [batch, d[4], d[1], d[2], d[3]];
        let run = Run::new(plan.finish()?).write("z", batched(&z.to_f32(), extents, channels_last));
        let finish = move |frames: Vec<f32>| {
            vec![Output { name: "sample", shape: extents_out.to_vec(), values: batched(&frames, extents_out, channels_first) }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

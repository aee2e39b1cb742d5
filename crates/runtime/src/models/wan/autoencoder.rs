//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::Vae;
use super::config::ENCODED_FRAMES;
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;
use crate::sampling::tokens::{batched, channels_first, channels_last};

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
        if operation == "encode" { self.evaluate_encode(inputs) } else { self.evaluate_decode(inputs) }
    }
}

impl Vae {
    /// `encode`: frames `x [B, 3, F, H, W]` → `mean` and `logvar` `[B, C, F', H', W']`.
    fn evaluate_encode(&self, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["x"])?;
        let (x, extents) = inputs.ranked("x", "[B, C, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        let colours = self.config.in_channels / (self.config.patch() * self.config.patch());
        x.expect_shape(&[batch, colours, f, h, w])?;
        let space = self.config.spatial_compression();
        if h % space != 0 || w % space != 0 {
            return Err(wrong_shape(&x, &format!("height and width multiples of {space}")));
        }
        let plan = Plan::new();
        let frames = plan.input("x", &[batch, f, h, w, colours], Cadence::Once);
        // Like the reference: what fills no group of frames at the end is left out.
        let whole = 1 + (f - 1) / ENCODED_FRAMES * ENCODED_FRAMES;
        let moments = self.encoder.forward(&plan, frames.slice_frames(0, whole), &Carry::whole(&plan));
        let shape = moments.shape();
        plan.output("moments", moments);

        let (c, d) = (self.config.z_dim, shape.dims());
        let made = [batch, c, d[1], d[2], d[3]];
        let run = Run::new(plan.finish()?).write("x", batched(&x.to_f32(), extents, channels_last));
        let finish = move |moments: Vec<f32>| {
            let half = |offset: usize| moments.chunks_exact(2 * c).flat_map(|m| m[offset..offset + c].to_vec()).collect::<Vec<f32>>();
            // Clamped as in the reference's distribution.
            let logvar: Vec<f32> = half(c).iter().map(|v| v.clamp(-30.0, 20.0)).collect();
            let output = |name, values: &[f32]| Output { name, shape: made.to_vec(), values: batched(values, made, channels_first) };
            vec![output("mean", &half(0)), output("logvar", &logvar)]
        };
        Ok(run.output_with("moments", finish).into())
    }

    /// `decode`: latents `z [B, C, F, H, W]` → `sample` `[B, 3, F', H', W']`.
    fn evaluate_decode(&self, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["z"])?;
        let (z, extents) = inputs.ranked("z", "[B, C, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        z.expect_shape(&[batch, self.config.z_dim, f, h, w])?;
        let plan = Plan::new();
        let z_in = plan.input("z", &[batch, f, h, w, self.config.z_dim], Cadence::Once);
        let sample = self.decoder.forward(&plan, z_in, &Carry::whole(&plan));
        let shape = sample.shape();
        plan.output("sample", sample);

        let d = shape.dims();
        let made = [batch, d[4], d[1], d[2], d[3]];
        let run = Run::new(plan.finish()?).write("z", batched(&z.to_f32(), extents, channels_last));
        let finish = move |frames: Vec<f32>| {
            let frames: Vec<f32> = frames.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
            vec![Output { name: "sample", shape: made.to_vec(), values: batched(&frames, made, channels_first) }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

//! The autoencoder as a generation sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::Taehv;
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::LatentStats;
use crate::models::family::{Autoencoder, Direction, Evaluate, Split};
use crate::nn::Carry;
use crate::sampling::tokens::{batched, channels_first, channels_last};

impl Autoencoder for Taehv {
    fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    fn compression(&self) -> [usize; 3] {
        let space = self.config.pixels_made();
        [self.config.frames_made(), space, space]
    }

    fn stats(&self) -> &LatentStats {
        &self.stats
    }

    fn split(&self, direction: Direction, latent_frames: usize) -> Split {
        match direction {
            Direction::Decode => Split::Chunks(vec![1; latent_frames]),
            // A latent frame stands for frames from its own on: no piece that begins with one frame is one of a whole clip.
            Direction::Encode => Split::Chunks(vec![latent_frames]),
        }
    }

    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        self.encoder.forward(plan, frames.affine(0.5, 0.5), carry)
    }

    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        self.decoder.forward(plan, latents, carry).affine(2.0, -1.0)
    }

    fn first_block(&self) -> &'static str {
        "3."
    }
}

impl Evaluate for Taehv {
    fn operations(&self) -> &'static [&'static str] {
        &["encode", "decode"]
    }

    /// `encode`: frames `x [B, 3, F, H, W]` in 0..1 → `latents [B, C, F', H', W']`; `decode`: `z` → `sample` in 0..1.
    fn evaluate(&self, operation: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let encodes = operation == "encode";
        let name = if encodes { "x" } else { "z" };
        inputs.only(&[name])?;
        let (x, extents) = inputs.ranked(name, "[B, C, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        let channels = if encodes { 3 } else { self.config.latent_channels };
        x.expect_shape(&[batch, channels, f, h, w])?;
        // Three stages halve space.
        let unit = if encodes { 8 * self.config.patch_size } else { 1 };
        if h % unit != 0 || w % unit != 0 {
            return Err(wrong_shape(&x, &format!("height and width multiples of {unit}")));
        }
        let plan = Plan::new();
        let given = plan.input(name, &[batch, f, h, w, channels], Cadence::Once);
        let carry = Carry::whole(&plan);
        let y = if encodes { self.encoder.forward(&plan, given, &carry) } else { self.decoder.forward(&plan, given, &carry) };
        let shape = y.shape();
        plan.output("y", y);
        let d = shape.dims();
        let made = [batch, d[4], d[1], d[2], d[3]];
        let finish = move |mut values: Vec<f32>| {
            if !encodes {
                values.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
            }
            let name = if encodes { "latents" } else { "sample" };
            vec![Output { name, shape: made.to_vec(), values: batched(&values, made, channels_first) }]
        };
        let run = Run::new(plan.finish()?).write(name, batched(&x.to_f32(), extents, channels_last));
        Ok(run.output_with("y", finish).into())
    }
}

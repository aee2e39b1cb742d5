//! `encode` and `decode` of the reference's autoencoders: layouts, names and limits of their arguments and results.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::error::Result;
use crate::sampling::tokens::{batched, channels_first, channels_last};
use crate::weights::TensorView;

/// What an autoencoder takes and makes.
#[derive(Clone, Copy, Debug)]
pub struct Coded {
    /// Whether clips `[B, C, F, H, W]`; else images `[B, C, H, W]`.
    pub clips: bool,
    /// Channels of a frame.
    pub colours: usize,
    /// C: channels of a latent.
    pub latents: usize,
    /// Pixels per latent in height and width, which both must be multiples of.
    pub space: usize,
    /// Frames after the first per latent frame, which must be a multiple of it; 1 where any length is taken.
    pub time: usize,
    /// Whether the reference cuts decoded frames to -1…1.
    pub bounded: bool,
}

impl Coded {
    /// The tensor `name` and its extents, with one frame for images.
    fn given<'a>(&self, inputs: &Inputs<'a>, name: &str, channels: usize) -> Result<(TensorView<'a>, [usize; 5])> {
        let (view, extents) = if self.clips {
            inputs.ranked(name, "[B, C, F, H, W]")?
        } else {
            let (view, [batch, c, h, w]) = inputs.ranked(name, "[B, C, H, W]")?;
            (view, [batch, c, 1, h, w])
        };
        let expected = [extents[0], channels, extents[2], extents[3], extents[4]];
        view.expect_shape(&self.shown(expected))?;
        Ok((view, extents))
    }

    /// Extents as the reference has them.
    fn shown(&self, [batch, c, f, h, w]: [usize; 5]) -> Vec<usize> {
        if self.clips { vec![batch, c, f, h, w] } else { vec![batch, c, h, w] }
    }

    /// Frames `x` → `mean` and `logvar`. `record` makes moments `[B, F', H', W', 2·C]`, or `[B, F', H', W', C + 1]` with one log
    /// variance for all channels, of `[B, F, H, W, 3]`.
    ///
    /// # Errors
    /// Those of arguments that do not fit, and [`Kernels`](crate::Error::Kernels).
    pub fn encode(self, inputs: &Inputs<'_>, record: impl for<'p> FnOnce(&'p Plan, Tensor<'p>) -> Tensor<'p>) -> Result<Evaluation> {
        inputs.only(&["x"])?;
        let (x, extents) = self.given(inputs, "x", self.colours)?;
        let [batch, colours, f, h, w] = extents;
        if (f - 1) % self.time != 0 || h % self.space != 0 || w % self.space != 0 {
            let frames = if self.time == 1 { String::new() } else { format!("1 + {}·n frames, ", self.time) };
            return Err(wrong_shape(&x, &format!("{frames}height and width multiples of {}", self.space)));
        }
        let plan = Plan::new();
        let moments = record(&plan, plan.input("x", &[batch, f, h, w, colours], Cadence::Once));
        let shape = moments.shape();
        plan.output("moments", moments);
        let graph = plan.finish()?;
        let c = self.latents;
        let d: [usize; 5] = std::array::from_fn(|i| shape.dims()[i]);
        let made = [batch, c, d[1], d[2], d[3]];
        let run = Run::new(graph).write("x", batched(&x.to_f32(), extents, channels_last));
        let finish = move |moments: Vec<f32>| {
            let rows = || moments.chunks_exact(d[4]).map(|row| row.split_at(c));
            let mean: Vec<f32> = rows().flat_map(|(mean, _)| mean.iter().copied()).collect();
            // Clamped as in the reference's distribution.
            let logvar: Vec<f32> = rows().flat_map(|(_, v)| (0..c).map(|i| v[i % v.len()].clamp(-30.0, 20.0))).collect();
            let output = |name, values: &[f32]| Output { name, shape: self.shown(made), values: batched(values, made, channels_first) };
            vec![output("mean", &mean), output("logvar", &logvar)]
        };
        Ok(run.output_with("moments", finish).into())
    }

    /// Latents `z`, and what `record` has read of `others` → `sample`. `record` makes frames `[B, F', H', W', 3]` of
    /// `[B, F, H, W, C]`.
    ///
    /// # Errors
    /// Those of arguments that do not fit, and [`Kernels`](crate::Error::Kernels).
    pub fn decode(
        self,
        inputs: &Inputs<'_>,
        others: &[&str],
        record: impl for<'p> FnOnce(&'p Plan, Tensor<'p>) -> Tensor<'p>,
    ) -> Result<Evaluation> {
        inputs.only(&[&["z"], others].concat())?;
        let (z, extents) = self.given(inputs, "z", self.latents)?;
        let [batch, c, f, h, w] = extents;
        let plan = Plan::new();
        let sample = record(&plan, plan.input("z", &[batch, f, h, w, c], Cadence::Once));
        let shape = sample.shape();
        plan.output("sample", sample);
        let graph = plan.finish()?;
        let d = shape.dims();
        let made = [batch, d[4], d[1], d[2], d[3]];
        let run = Run::new(graph).write("z", batched(&z.to_f32(), extents, channels_last));
        let finish = move |mut frames: Vec<f32>| {
            if self.bounded {
                frames.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
            }
            vec![Output { name: "sample", shape: self.shown(made), values: batched(&frames, made, channels_first) }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

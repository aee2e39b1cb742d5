//! The cascade of flipbook: stages that double the pixels or the frames of a finished clip, trained by `training/`.
//!
//! A stage denoises in a single step: it is told how much of the autoencoder's error its input has (noise conditioning as in
//! Imagen Video, arXiv 2210.02303, with that error for noise) and predicts the clean frames at once.

mod config;
mod stage;

pub use config::StageConfig;
pub use stage::Stage;

use kinora_kernels::{Cadence, Plan, Tensor};

use super::component::Component;
use super::family::{ComponentClass, Doubles, Evaluate, Family, SecondStage};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::sampling::tokens::{batched, channels_first, channels_last};

/// `CascadeStage`.
pub const FAMILY: Family = Family {
    name: "cascade",
    layouts: &[],
    pipelines: &[],
    components: &[ComponentClass {
        name: "CascadeStage",
        load: |source| {
            let config = StageConfig::parse(source.config, source.file)?;
            Ok(Component::SecondStage(Box::new(Stage::load(&source.weights, &config)?)))
        },
    }],
};

impl SecondStage for Stage {
    fn doubles(&self) -> Doubles {
        self.config.doubles()
    }

    fn multiple(&self) -> usize {
        1 << self.config.channels.len()
    }

    fn reach(&self) -> usize {
        // One frame each: the first convolution, and that in time at the lowest resolution.
        2
    }

    fn level(&self) -> f32 {
        self.config.level
    }

    fn record<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, guess: Option<Tensor<'p>>, level: Tensor<'p>) -> Tensor<'p> {
        self.forward(plan, frames, guess, level)
    }
}

impl Evaluate for Stage {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `CascadeStage.forward`: `frames [B, 3, F, H, W]`, `level [B]` and, for frames between, `guess [B, 3, F − 1, H, W]` →
    /// `sample [B, 3, F', H', W']`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let known = if self.config.between { &["frames", "level", "guess"][..] } else { &["frames", "level"] };
        inputs.only(known)?;
        let (view, extents) = inputs.ranked("frames", "[B, 3, F, H, W]")?;
        let [batch, _, f, h, w] = extents;
        view.expect_shape(&[batch, 3, f, h, w])?;
        let multiple = self.multiple();
        if h % multiple != 0 || w % multiple != 0 || (self.config.between && f < 2) {
            return Err(wrong_shape(&view, &format!("height and width multiples of {multiple}, two frames where others come between")));
        }
        let level = inputs.values("level", &[batch])?;
        let plan = Plan::new();
        let frames = plan.input("frames", &[batch, f, h, w, 3], Cadence::Once);
        let guess = if self.config.between {
            let extents = [batch, 3, f - 1, h, w];
            let values = batched(&inputs.values("guess", &extents)?, extents, channels_last);
            Some((plan.input("guess", &[batch, f - 1, h, w, 3], Cadence::Once), values))
        } else {
            None
        };
        let level_input = plan.input("level", &[batch, 1], Cadence::Once);
        let sample = self.forward(&plan, frames, guess.as_ref().map(|(guess, _)| *guess), level_input);
        let shape = sample.shape();
        plan.output("sample", sample);
        let d = shape.dims();
        let extents_out = [batch, 3, d[1], d[2], d[3]];
        let guess = guess.map(|(_, values)| values);
        let mut run = Run::new(plan.finish()?).write("frames", batched(&view.to_f32(), extents, channels_last)).write("level", level);
        if let Some(values) = guess {
            run = run.write("guess", values);
        }
        let finish = move |values: Vec<f32>| {
            vec![Output { name: "sample", shape: extents_out.to_vec(), values: batched(&values, extents_out, channels_first) }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

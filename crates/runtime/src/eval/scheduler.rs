//! `FlowMatchEulerDiscreteScheduler.set_timesteps`.

use super::{Evaluation, Inputs, Output, wrong_shape};
use crate::error::Result;
use crate::models::family::Evaluate;
use crate::sampling::schedule::{Levels, ScheduleConfig};

impl Evaluate for ScheduleConfig {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `num_inference_steps`, or `sigmas [n]`, `timesteps [n]` or both; `mu` with dynamic shifting → `sigmas [n + 1]` and
    /// `timesteps [n]`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["num_inference_steps", "sigmas", "timesteps", "mu"])?;
        let list = |name: &str| -> Result<Option<Vec<f32>>> {
            if !inputs.contains(name) {
                return Ok(None);
            }
            let (view, [_]) = inputs.ranked(name, "[n]")?;
            Ok(Some(view.to_f32()))
        };
        let levels = match (list("sigmas")?, list("timesteps")?) {
            (Some(sigmas), Some(timesteps)) => Levels::SigmasAndTimesteps(sigmas, timesteps),
            (Some(sigmas), None) => Levels::Sigmas(sigmas),
            (None, Some(timesteps)) => Levels::Timesteps(timesteps),
            (None, None) => Levels::Steps(inputs.count("num_inference_steps")?),
        };
        let mu = if inputs.contains("mu") {
            let view = inputs.get("mu")?;
            match view.to_f32().as_slice() {
                [mu] => Some(f64::from(*mu)),
                _ => return Err(wrong_shape(&view, "[] or [1]")),
            }
        } else {
            None
        };
        let schedule = self.schedule(&levels, mu)?;
        let output = |name, values: Vec<f32>| Output { name, shape: vec![values.len()], values };
        Ok(Evaluation::Done(vec![output("sigmas", schedule.sigmas), output("timesteps", schedule.timesteps)]))
    }
}

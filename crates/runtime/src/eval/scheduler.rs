//! `FlowMatchEulerDiscreteScheduler.set_timesteps`.

use super::{Inputs, Output, wrong_shape};
use crate::error::Result;
use crate::sampling::schedule::{Levels, ScheduleConfig};

/// `num_inference_steps`, or `sigmas [n]`, `timesteps [n]` or both; `mu` with dynamic shifting → `sigmas [n + 1]` and
/// `timesteps [n]`.
pub(super) fn set_timesteps(config: &ScheduleConfig, inputs: &Inputs<'_>) -> Result<Vec<Output>> {
    inputs.only(&["num_inference_steps", "sigmas", "timesteps", "mu"])?;
    let list = |name: &str| -> Result<Option<Vec<f32>>> {
        if !inputs.0.contains(name) {
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
    let mu = if inputs.0.contains("mu") {
        let view = inputs.0.get("mu")?;
        match view.to_f32().as_slice() {
            [mu] => Some(f64::from(*mu)),
            _ => return Err(wrong_shape(&view, "[] or [1]")),
        }
    } else {
        None
    };
    let schedule = config.schedule(&levels, mu)?;
    let output = |name, values: Vec<f32>| Output { name, shape: vec![values.len()], values };
    Ok(vec![output("sigmas", schedule.sigmas), output("timesteps", schedule.timesteps)])
}

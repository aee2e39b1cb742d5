//! `set_timesteps` of a scheduler class, and its steps over a synthetic model.

use kinora_kernels::op::{Amplitude, LinearStep};
use kinora_kernels::{LinearStepInputs, Plan};

use super::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::error::{Error, Result};
use crate::models::family::Evaluate;
use crate::sampling::schedule::{Levels, Schedule, Table};
use crate::sampling::solvers::Solver;
use crate::sampling::solvers::table::Variance;

/// What both operations read.
const LEVELS: [&str; 4] = ["num_inference_steps", "sigmas", "timesteps", "mu"];

impl Evaluate for Box<dyn Solver> {
    fn operations(&self) -> &'static [&'static str] {
        &["forward", "loop"]
    }

    /// `num_inference_steps`, or `sigmas [n]`, `timesteps [n]` or both; `mu` with dynamic shifting → `timesteps [n]`, and
    /// `sigmas [n + 1]` or `alphas_cumprod`, whichever the class has. The loop is described at `trajectory` in this file.
    fn evaluate(&self, operation: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        if operation == "loop" {
            inputs.only(&[&LEVELS[..], &["eta", "sample", "coefficients", "w", "noise", "variance"]].concat())?;
            return trajectory(self.as_ref(), inputs);
        }
        inputs.only(&LEVELS)?;
        Ok(Evaluation::Done(tables(&schedule(self.as_ref(), inputs)?)))
    }
}

fn schedule(solver: &dyn Solver, inputs: &Inputs<'_>) -> Result<Schedule> {
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
    solver.schedule(&levels, number(inputs, "mu")?)
}

/// A float tensor of one element, if it is given.
fn number(inputs: &Inputs<'_>, name: &str) -> Result<Option<f64>> {
    if !inputs.contains(name) {
        return Ok(None);
    }
    let view = inputs.get(name)?;
    match view.to_f32().as_slice() {
        [number] => Ok(Some(f64::from(*number))),
        _ => Err(wrong_shape(&view, "[] or [1]")),
    }
}

fn tables(schedule: &Schedule) -> Vec<Output> {
    let output = |name, values: &[f32]| Output { name, shape: vec![values.len()], values: values.to_vec() };
    let levels = match &schedule.table {
        Table::Sigmas(sigmas) => output("sigmas", sigmas),
        Table::Products(products) => output("alphas_cumprod", products),
    };
    vec![levels, output("timesteps", &schedule.timesteps)]
}

/// Every step from `sample` on over the model `c0·x + c1·sin(t) + c2·w`, where x is the sample as the class scales it for its
/// model, `coefficients` is `[c0, c1, c2]`, and `w` has the extents of `sample`; `noise [steps, …]` for solvers that add
/// some, `variance` like `sample` for those whose model predicts it, `eta` where it can be chosen. Results: the tables,
/// `trajectory [steps + 1, …]` and `final`.
fn trajectory(solver: &dyn Solver, inputs: &Inputs<'_>) -> Result<Evaluation> {
    let with_eta = match number(inputs, "eta")? {
        None => None,
        Some(eta) => Some(solver.with_eta(eta).ok_or_else(|| Error::InvalidRequest {
            parameter: "eta".into(),
            found: eta.to_string(),
            expected: "none, since this scheduler has no such choice".into(),
        })?),
    };
    let solver = with_eta.as_deref().unwrap_or(solver);
    let schedule = schedule(solver, inputs)?;
    let (steps, scales) = (schedule.num_steps(), schedule.scales.clone());
    let view = inputs.get("sample")?;
    let (shape, sample) = (view.shape.to_vec(), view.to_f32());
    let [c0, c1, c2] = inputs.values("coefficients", &[3])?[..] else { return Err(wrong_shape(&view, "[3]")) };
    let noise_shape: Vec<usize> = std::iter::once(steps).chain(shape.iter().copied()).collect();
    // Rows of four values, whatever the shape: each value has a way of its own.
    let rows = sample.len().div_ceil(4).max(1);
    let padded = |values: &[f32]| {
        let mut values = values.to_vec();
        values.resize(4 * rows, 0.0);
        values
    };
    let plan = Plan::new();
    let history = solver.history();
    let mut start = padded(&sample.iter().map(|v| (f64::from(*v) / scales[0]) as f32).collect::<Vec<_>>());
    start.resize((1 + history) * 4 * rows, 0.0);
    let state = plan.state("state", &[(1 + history) * rows, 4]);
    let x = state.first_rows(rows);
    let w: Vec<f32> = inputs.values("w", &shape)?.iter().map(|w| c2 * w).collect();
    let w = plan.constant(&[rows, 4], &padded(&w));
    let (amplitude, variance) = match solver.variance() {
        Variance::Fixed => (Amplitude::One, None),
        Variance::Learned => (Amplitude::Root, Some(inputs.values("variance", &shape)?)),
        Variance::Range => (Amplitude::Exponential, Some(inputs.values("variance", &shape)?)),
    };
    let variance = variance.map(|values| plan.constant(&[rows, 4], &padded(&values)));
    let noise = if solver.takes_noise() { inputs.values("noise", &noise_shape)? } else { Vec::new() };
    let mut names = Vec::with_capacity(steps);
    for (i, row) in solver.rows(&schedule.intervals).iter().enumerate() {
        // In single precision, as the reference's tensors are.
        let sine = c1 * f64::from(schedule.timesteps[i]).sin() as f32;
        let output = x.affine(c0, sine) + w;
        let prediction = variance.map_or(output, |variance| output.concat(variance));
        let fresh = noise.chunks_exact(sample.len().max(1)).nth(i).map(|own| plan.constant(&[rows, 4], &padded(own)));
        let inputs = LinearStepInputs {
            level: plan.index_constant(&vec![0; rows]),
            table: plan.constant(&[1, LinearStep::COEFFICIENTS], &row.packed()),
            noise: fresh.map(|fresh| (fresh, amplitude)),
        };
        let next = state.linear_step(prediction, &inputs, history);
        names.push(format!("step {i}"));
        plan.output(&names[i], next.first_rows(rows).affine(1.0, 0.0));
    }
    let mut results = tables(&schedule);
    let run = Run::new(plan.finish()?).write("state", start);
    Ok(run
        .outputs_with(names, move |states| {
            let mut values = sample;
            for (state, scale) in states.iter().zip(&scales[1..]) {
                values.extend(state[..values.len().min(shape.iter().product())].iter().map(|v| (f64::from(*v) * scale) as f32));
            }
            let last = values[values.len() - shape.iter().product::<usize>()..].to_vec();
            let all = std::iter::once(steps + 1).chain(shape.iter().copied()).collect();
            results.push(Output { name: "trajectory", shape: all, values });
            results.push(Output { name: "final", shape, values: last });
            results
        })
        .into())
}

//! The noise levels of variance-preserving diffusion, and which of them a run visits.
//!
//! Tables round to f32 exactly where diffusers does, so that timesteps and levels are the reference's own.

use super::file::SchedulerFile;
use super::table::Point;
use crate::error::Result;
use crate::sampling::schedule::{linspace, single_precision as r};

/// β from start to end, and how they are spaced, where the file does not say.
#[derive(Clone, Copy)]
pub(super) struct Betas {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) schedule: &'static str,
    /// `CogVideoX` computes its scaled line in double precision.
    pub(super) double: bool,
}

/// What most classes start from.
pub(super) const LINEAR: Betas = Betas { start: 1e-4, end: 0.02, schedule: "linear", double: false };
/// What latent diffusion was trained with.
pub(super) const SCALED_LINEAR: Betas = Betas { start: 0.000_85, end: 0.012, schedule: "scaled_linear", double: false };
/// The same in double precision.
pub(super) const COGVIDEOX: Betas = Betas { double: true, ..SCALED_LINEAR };

/// ᾱ of every training timestep.
pub(super) fn alphas_cumprod(file: &SchedulerFile, defaults: Betas) -> Result<Vec<f64>> {
    let schedule = file.beta_schedule.as_deref().unwrap_or(defaults.schedule);
    let (start, end) = (file.beta_start.unwrap_or(defaults.start), file.beta_end.unwrap_or(defaults.end));
    let (train, double) = (file.train(), defaults.double && schedule == "scaled_linear" && file.trained_betas.is_none());
    let betas: Vec<f64> = match (&file.trained_betas, schedule) {
        (Some(betas), _) if betas.len() == train => betas.iter().map(|b| f64::from(*b)).collect(),
        (Some(betas), _) => return Err(file.invalid(format!("trained_betas has {} values for {train} timesteps", betas.len()))),
        (None, "linear") => single_linspace(start, end, train),
        (None, "scaled_linear") if double => {
            let root = |i: usize| two_ended(libm::sqrt(start), libm::sqrt(end), train, i, |x| x);
            (0..train).map(|i| root(i) * root(i)).collect()
        }
        (None, "scaled_linear") => single_linspace(libm::sqrt(start), libm::sqrt(end), train).iter().map(|b| r(b * b)).collect(),
        (None, "squaredcos_cap_v2") => (0..train).map(|i| r(cosine_beta(i, train))).collect(),
        (None, "sigmoid") => {
            let sigmoid = |x: f64| r(1.0 / (1.0 + libm::exp(-x)));
            single_linspace(-6.0, 6.0, train).into_iter().map(|x| r(r(sigmoid(x) * r(end - start)) + r(start))).collect()
        }
        (None, other) => {
            return Err(file.unknown("beta_schedule", other, "linear, scaled_linear, squaredcos_cap_v2 or sigmoid"));
        }
    };
    if betas.iter().any(|b| !(0.0..=1.0).contains(b)) {
        return Err(file.invalid(format!("betas from {start} to {end} must lie in 0 to 1")));
    }
    let round = if double { |x| x } else { r };
    Ok(cumulate(betas.iter().map(|beta| round(1.0 - beta)), round))
}

/// Moves the last level to pure noise and keeps the first (arXiv 2305.08891, algorithm 1).
pub(super) fn to_zero_snr(products: &mut [f64], round: fn(f64) -> f64) {
    let roots: Vec<f64> = products.iter().map(|p| round(libm::sqrt(*p))).collect();
    let (Some(first), Some(last)) = (roots.first(), roots.last()) else { return };
    let scale = round(first / round(first - last));
    for (product, root) in products.iter_mut().zip(&roots) {
        let moved = round(round(root - last) * scale);
        *product = round(moved * moved);
    }
}

/// The same through β, as most classes do it, which rounds once more.
pub(super) fn betas_to_zero_snr(products: &mut [f64]) {
    to_zero_snr(products, r);
    let ratio = |i: usize| if i == 0 { products[0] } else { r(products[i] / products[i - 1]) };
    let alphas: Vec<f64> = (0..products.len()).map(|i| r(1.0 - r(1.0 - ratio(i)))).collect();
    products.copy_from_slice(&cumulate(alphas.into_iter(), r));
}

/// Products from the first on, accumulated in double precision as `PyTorch` does on a CPU.
fn cumulate(alphas: impl Iterator<Item = f64>, round: fn(f64) -> f64) -> Vec<f64> {
    let mut product = 1.0;
    let next = |alpha| {
        product *= alpha;
        round(product)
    };
    alphas.map(next).collect()
}

/// `torch.linspace` in single precision: each value rounded once, counted from the nearer end.
fn single_linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    let (start, end) = (r(start), r(end));
    (0..count).map(|i| two_ended(start, end, count, i, r)).collect()
}

fn two_ended(start: f64, end: f64, count: usize, i: usize, round: fn(f64) -> f64) -> f64 {
    let step = round(round(end - start) / (count - 1).max(1) as f64);
    round(if i < count / 2 { start + step * i as f64 } else { end - step * (count - 1 - i) as f64 })
}

/// β of the cosine schedule (arXiv 2102.09672, §3.2).
fn cosine_beta(i: usize, train: usize) -> f64 {
    let product = |i: usize| {
        let cos = libm::cos((i as f64 / train as f64 + 0.008) / 1.008 * std::f64::consts::PI / 2.0);
        cos * cos
    };
    (1.0 - product(i + 1) / product(i)).min(0.999)
}

/// σ/α of every training timestep, in single precision.
pub(super) fn ratios(products: &[f64]) -> Vec<f64> {
    products.iter().map(|p| r(libm::sqrt(r(r(1.0 - p) / p)))).collect()
}

/// The training timesteps of a run of `steps`, noisiest first, as DDIM and its relatives space them (default `leading`).
pub(super) fn timesteps(file: &SchedulerFile, steps: usize) -> Result<Vec<usize>> {
    let train = file.train();
    let mut timesteps: Vec<usize> = match file.timestep_spacing.as_deref().unwrap_or("leading") {
        "linspace" => linspace(0.0, train as f64 - 1.0, steps).into_iter().map(|t| libm::rint(t) as usize).collect(),
        "leading" => (0..steps).map(|i| i * (train / steps) + file.steps_offset.unwrap_or(0)).collect(),
        "trailing" => trailing(train, train, steps).into_iter().rev().collect(),
        other => return Err(file.unknown("timestep_spacing", other, "leading, linspace or trailing")),
    };
    timesteps.reverse();
    in_training(file, timesteps)
}

/// The same as multistep solvers space them: a step wider, so that the last one ends at clean (default `linspace`).
pub(super) fn multistep_timesteps(file: &SchedulerFile, last: usize, steps: usize) -> Result<Vec<usize>> {
    let timesteps = match file.timestep_spacing.as_deref().unwrap_or("linspace") {
        "linspace" => {
            let all = linspace(0.0, last as f64 - 1.0, steps + 1);
            all.into_iter().skip(1).rev().map(|t| libm::rint(t) as usize).collect()
        }
        "leading" => (1..=steps).rev().map(|i| i * (last / (steps + 1)) + file.steps_offset.unwrap_or(0)).collect(),
        "trailing" => trailing(last, file.train(), steps),
        other => return Err(file.unknown("timestep_spacing", other, "leading, linspace or trailing")),
    };
    in_training(file, timesteps)
}

/// Steps down from `last` by `train / steps`.
fn trailing(last: usize, train: usize, steps: usize) -> Vec<usize> {
    let (last, step) = (last as f64, train as f64 / steps as f64);
    let delta = (last - step) - last;
    let count = (libm::ceil(last / step) as usize).min(steps);
    (0..count).map(|i| (libm::rint(last + i as f64 * delta) as usize).saturating_sub(1)).collect()
}

fn in_training(file: &SchedulerFile, timesteps: Vec<usize>) -> Result<Vec<usize>> {
    match timesteps.iter().find(|t| **t >= file.train()) {
        Some(t) => Err(file.invalid(format!("steps_offset leads to timestep {t} of {}", file.train()))),
        None => Ok(timesteps),
    }
}

/// The level of a training timestep; `last` beyond the first.
pub(super) fn point(products: &[f64], timestep: Option<usize>, last: f64) -> Point {
    Point::of_product(timestep.map_or(last, |t| products[t]))
}

/// Where ln σ lies among those of the training timesteps, between two of them on a straight line.
pub(super) fn timestep_of_ratio(ratio: f64, log_ratios: &[f64]) -> f64 {
    let log = libm::log(ratio.max(1e-10));
    // The last one that is not above; ties in a running count take the first, which is the same here.
    let low = log_ratios.iter().rposition(|l| log >= *l).unwrap_or(0).min(log_ratios.len().saturating_sub(2));
    let (below, above) = (log_ratios[low], log_ratios[low + 1]);
    let share = ((below - log) / (below - above)).clamp(0.0, 1.0);
    (1.0 - share) * low as f64 + share * (low + 1) as f64
}

//! Latent consistency models (arXiv 2310.04378, algorithm 3): `LCMScheduler`.

use super::ddim::Training;
use super::table::{Interval, Row};
use super::{Entry, Solver, diffusion, steps};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule, request};

pub(super) const ENTRY: Entry = Entry {
    name: "lcm",
    class: "LCMScheduler",
    flow: Some(false),
    build: |file| {
        Ok(Box::new(Lcm {
            train: Training::new(file, diffusion::SCALED_LINEAR, diffusion::betas_to_zero_snr)?,
            timesteps: file.train(),
            original: file.original_inference_steps.unwrap_or(50),
            scaling: file.timestep_scaling.unwrap_or(10.0),
            limit: file.limit(false),
        }))
    },
};

#[derive(Clone, Debug)]
struct Lcm {
    train: Training,
    timesteps: usize,
    /// Steps of the solver that it was distilled from.
    original: usize,
    scaling: f64,
    limit: Option<f64>,
}

impl Lcm {
    /// Every `train / original`th training timestep, thinned evenly.
    fn spaced(&self, steps: usize) -> Result<Vec<usize>> {
        let width = self.timesteps / self.original.max(1);
        if !(1..=self.original).contains(&steps) || width == 0 {
            return Err(request("steps", steps.to_string(), &format!("1 to {}", self.original.min(self.timesteps))));
        }
        let stride = self.original as f64 / steps as f64;
        let skipped = |i: usize| libm::floor(i as f64 * stride) as usize;
        Ok((0..steps).map(|i| (self.original - skipped(i)) * width - 1).collect())
    }
}

impl Solver for Lcm {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        let timesteps = match levels {
            Levels::Timesteps(_) => self.train.timesteps(levels)?,
            other => self.spaced(steps(other, self.timesteps)?)?,
        };
        // The last step gives the denoised sample, whatever comes after.
        let after = timesteps.iter().copied().skip(1).map(Some).chain([None]);
        Ok(self.train.of_pairs(timesteps.iter().copied().zip(after)))
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        const SIGMA_DATA: f64 = 0.5;
        let last = intervals.len().saturating_sub(1);
        let row = |(i, interval): (usize, &Interval)| {
            let time = f64::from(interval.timestep) * self.scaling;
            let total = time * time + SIGMA_DATA * SIGMA_DATA;
            let (skip, out) = (SIGMA_DATA * SIGMA_DATA / total, time / libm::sqrt(total));
            let (alpha, noise) = if i == last { (1.0, 0.0) } else { (interval.to.alpha, interval.to.sigma) };
            Row { noise, ..Row::new(interval, alpha * skip, alpha * out, self.limit) }
        };
        intervals.iter().enumerate().map(row).collect()
    }

    fn takes_noise(&self) -> bool {
        true
    }
}

//! Consistency models of trigonometric flow, made to flow models (rCM, arXiv 2510.08431; `TurboDiffusion`).

use super::dmd::fresh_noise;
use super::table::{Interval, Row};
use super::{Entry, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule, request};

/// `RCMScheduler` is Kinora's own name: the checkpoints come without a class. `sigma_max` is σ/α of the first level.
pub(super) const ENTRY: Entry = Entry {
    name: "rcm",
    class: "RCMScheduler",
    flow: Some(true),
    build: |file| Ok(Box::new(Rcm { train: file.train(), sigma_max: file.sigma_max.unwrap_or(80.0) })),
};

#[derive(Clone, Debug)]
struct Rcm {
    train: usize,
    sigma_max: f64,
}

impl Solver for Rcm {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        // Angles between clean and noise, as the models were distilled: tan is σ/α.
        let angles = [libm::atan(self.sigma_max), 1.5, 1.4, 1.0];
        let sigmas: Vec<f64> = match levels {
            Levels::Steps(n) if (1..=angles.len()).contains(n) => {
                angles[..*n].iter().map(|t| libm::sin(*t) / (libm::sin(*t) + libm::cos(*t))).collect()
            }
            Levels::Sigmas(s) if !s.is_empty() && s.iter().all(|s| *s > 0.0 && *s <= 1.0) => s.iter().map(|s| f64::from(*s)).collect(),
            other => return Err(request("levels", format!("{other:?}"), "1 to 4 steps, or levels above 0 and up to 1")),
        };
        let timesteps: Vec<f32> = sigmas.iter().map(|s| (s * self.train as f64) as f32).collect();
        let start = sigmas[0];
        let sigmas = sigmas.into_iter().chain([0.0]).map(|s| s as f32).collect();
        Ok(Schedule { start, ..Schedule::flow(sigmas, &timesteps, self.train) })
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(fresh_noise).collect()
    }

    fn takes_noise(&self) -> bool {
        true
    }
}

//! Euler steps in σ/α (arXiv 2206.00364, algorithm 1 without churn): `EulerDiscreteScheduler`, also in the form of Stable
//! Video Diffusion.
//!
//! The reference keeps α·clean + σ·noise divided by α and scales it for the model. Here the state is what the model sees;
//! such a step is then DDIM's without noise.

use super::ddim::row;
use super::diffusion::{self, Betas};
use super::table::{Interval, Point, Prediction};
use super::{Entry, SchedulerFile, Solver, steps};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Placing, Schedule, Table, linspace, request, single_precision as r};
use crate::sampling::solvers::table::Row;
use crate::sampling::spacing::Spacing;

pub(super) const ENTRY: Entry =
    Entry { name: "euler", class: "EulerDiscreteScheduler", flow: Some(false), build: |file| Ok(Box::new(Euler::new(file)?)) };

#[derive(Clone, Debug)]
struct Euler {
    file: SchedulerFile,
    prediction: Prediction,
    spacing: Option<Spacing>,
    products: Vec<f64>,
    /// The model is told ln(σ/α)/4.
    continuous: bool,
}

impl Euler {
    fn new(file: &SchedulerFile) -> Result<Self> {
        let flags = [file.use_karras_sigmas, file.use_exponential_sigmas, file.use_beta_sigmas].map(|flag| flag == Some(true));
        file.only("interpolation_type", file.interpolation_type.as_deref(), &["linear"])?;
        file.only("timestep_type", file.timestep_type.as_deref(), &["discrete", "continuous"])?;
        file.only("final_sigmas_type", file.final_sigmas_type.as_deref(), &["zero", "sigma_min"])?;
        let betas: Betas = diffusion::LINEAR;
        let mut products = diffusion::alphas_cumprod(file, betas)?;
        if file.rescale_betas_zero_snr == Some(true) {
            diffusion::betas_to_zero_snr(&mut products);
            if let Some(last) = products.last_mut() {
                *last = f64::from(2.0_f32.powi(-24));
            }
        }
        let prediction = file.prediction()?;
        let continuous = file.timestep_type.as_deref() == Some("continuous") && prediction == Prediction::Velocity;
        let spacing = Spacing::of(flags).map_err(|problem| file.invalid(problem))?;
        Ok(Self { file: file.clone(), prediction, spacing, products, continuous })
    }

    /// Timesteps before the levels are spaced; they need not be whole.
    fn timesteps(&self, levels: &Levels) -> Result<Vec<f64>> {
        let train = self.products.len();
        if let (Levels::Timesteps(given), None, false) = (levels, self.spacing, self.continuous) {
            if given.is_empty() || !given.iter().all(|t| (0.0..=(train - 1) as f32).contains(t)) {
                return Err(request("timesteps", format!("{given:?}"), &format!("numbers from 0 to {}", train - 1)));
            }
            return Ok(given.iter().map(|t| f64::from(*t)).collect());
        }
        let steps = steps(levels, train)?;
        if self.file.timestep_spacing.as_deref().unwrap_or("linspace") == "linspace" {
            return Ok(linspace(0.0, (train - 1) as f64, steps).into_iter().rev().map(r).collect());
        }
        Ok(diffusion::timesteps(&self.file, steps)?.into_iter().map(|t| t as f64).collect())
    }
}

impl Solver for Euler {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        let ratios = diffusion::ratios(&self.products);
        let mut timesteps = self.timesteps(levels)?;
        let between = |t: f64| {
            let (low, share) = (libm::floor(t) as usize, t - libm::floor(t));
            let next = ratios[(low + 1).min(ratios.len() - 1)];
            ratios[low] + share * (next - ratios[low])
        };
        let mut sigmas: Vec<f64> = timesteps.iter().map(|t| between(*t)).collect();
        if let (Some(spacing), Some(&max), Some(&min)) = (self.spacing, sigmas.first(), sigmas.last()) {
            sigmas = spacing.levels(self.file.sigma_max.unwrap_or(max), self.file.sigma_min.unwrap_or(min), sigmas.len());
            let logs: Vec<f64> = ratios.iter().map(|ratio| r(libm::log(*ratio))).collect();
            timesteps = sigmas.iter().map(|s| diffusion::timestep_of_ratio(*s, &logs)).collect();
        }
        let last = if self.file.final_sigmas_type.as_deref() == Some("sigma_min") { ratios[0] } else { 0.0 };
        let sigmas: Vec<f32> = sigmas.into_iter().chain([last]).map(|s| s as f32).collect();
        if self.continuous {
            timesteps = sigmas.iter().map(|s| 0.25 * r(libm::log(f64::from(*s)))).collect();
        }
        let point = |sigma: f32| Point::of_ratio(f64::from(sigma));
        let interval = |(pair, t): (&[f32], f64)| Interval {
            timestep: t as f32,
            from: point(pair[0]),
            to: point(pair[1]),
            prediction: self.prediction,
        };
        let intervals = sigmas.windows(2).zip(timesteps).map(interval).collect();
        let scales = sigmas.iter().map(|s| libm::sqrt(f64::from(*s) * f64::from(*s) + 1.0)).collect();
        // The reference starts from noise times its highest level, or a little more.
        let leading = self.file.timestep_spacing.as_deref() == Some("leading");
        let start = if leading { 1.0 } else { point(sigmas[0]).sigma };
        let placing = Placing::Diffusion { products: self.products.clone(), continuous: self.continuous };
        Ok(Schedule { scales, start, ..Schedule::new(intervals, Table::Sigmas(sigmas), placing) })
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(|interval| row(interval, 0.0, None)).collect()
    }
}

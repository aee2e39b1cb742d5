//! What `UniPCMultistepScheduler` and `DPMSolverMultistepScheduler` share: levels of flow or of diffusion.

use super::table::{Interval, Point, Prediction};
use super::{SchedulerFile, diffusion, given_timesteps, steps};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Placing, Schedule, ScheduleConfig, Table, linspace, request, single_precision};
use crate::sampling::spacing::Spacing;

/// How the two classes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    UniPc,
    DpmPlusPlus,
}

/// Where levels come from.
#[derive(Clone, Debug)]
pub(super) struct Multistep {
    file: SchedulerFile,
    kind: Kind,
    prediction: Prediction,
    spacing: Option<Spacing>,
    /// ᾱ of training, also where a flow needs only its last level of it.
    products: Vec<f64>,
    flow: bool,
    /// The last level is that before it, or training's first, instead of none.
    ends_at_sigma_min: bool,
    /// The most predictions a step uses.
    pub(super) order: usize,
}

impl Multistep {
    pub(super) fn new(file: &SchedulerFile, kind: Kind) -> Result<Self> {
        let flags = [file.use_karras_sigmas, file.use_exponential_sigmas, file.use_beta_sigmas].map(|flag| flag == Some(true));
        let spacing = Spacing::of(flags).map_err(|problem| file.invalid(problem))?;
        let (flow, order) = (file.is_flow(), file.solver_order.unwrap_or(2));
        if file.use_lu_lambdas == Some(true) {
            return Err(file.invalid("use_lu_lambdas is true; use_karras_sigmas and use_exponential_sigmas are supported"));
        }
        if flow && spacing.is_some() {
            return Err(file.invalid("use_flow_sigmas goes with evenly spaced levels alone"));
        }
        if !(1..=3).contains(&order) {
            return Err(file.invalid(format!("solver_order {order} must be 1, 2 or 3")));
        }
        let mut products = diffusion::alphas_cumprod(file, diffusion::LINEAR)?;
        if file.rescale_betas_zero_snr == Some(true) {
            diffusion::betas_to_zero_snr(&mut products);
            // Close to zero: the ratio σ/α must stay finite.
            if let Some(last) = products.last_mut() {
                *last = f64::from(2.0_f32.powi(-24));
            }
        }
        file.only("final_sigmas_type", file.final_sigmas_type.as_deref(), &["zero", "sigma_min"])?;
        let ends_at_sigma_min = file.final_sigmas_type.as_deref() == Some("sigma_min");
        Ok(Self { file: file.clone(), kind, prediction: file.prediction()?, spacing, products, flow, ends_at_sigma_min, order })
    }

    /// `mu` of a clip of so many tokens, if the shift depends on it.
    pub(super) fn mu(&self, tokens: usize) -> Option<f64> {
        ScheduleConfig::from_file(&self.file).ok()?.mu(tokens)
    }

    pub(super) fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        if self.flow { self.flow_schedule(levels, mu) } else { self.diffusion_schedule(levels) }
    }

    fn flow_schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        let train = self.products.len() as f64;
        let mut sigmas: Vec<f64> = match levels {
            Levels::Sigmas(given) if !given.is_empty() && given.iter().all(|s| *s > 0.0 && *s <= 1.0) => {
                given.iter().map(|s| f64::from(*s)).collect()
            }
            Levels::Sigmas(given) => return Err(request("sigmas", format!("{given:?}"), "levels above 0 and up to 1")),
            other => {
                let steps = steps(other, self.products.len())?;
                let even = linspace(1.0, 1.0 / train, steps + 1);
                match self.kind {
                    Kind::UniPc => even[..steps].to_vec(),
                    // It mirrors the levels, so that the first is 1 − 1/train.
                    Kind::DpmPlusPlus => even[1..].iter().rev().map(|s| 1.0 - s).collect(),
                }
            }
        };
        let dynamic = self.file.use_dynamic_shifting == Some(true);
        if dynamic && !mu.is_some_and(f64::is_finite) {
            return Err(request("mu", format!("{mu:?}"), "a finite number, since use_dynamic_shifting is true"));
        }
        let shift = mu.filter(|_| dynamic).map_or(self.file.static_shift(), libm::exp);
        for s in &mut sigmas {
            *s = match (dynamic, self.kind) {
                (true, Kind::UniPc) => shift / (shift + (1.0 / *s - 1.0)),
                _ => shift * *s / (1.0 + (shift - 1.0) * *s),
            };
        }
        if let (Some(terminal), Some(&last)) = (self.file.shift_terminal.filter(|t| *t != 0.0), sigmas.last()) {
            let scale = (1.0 - last) / (1.0 - terminal);
            sigmas.iter_mut().for_each(|s| *s = 1.0 - (1.0 - *s) / scale);
        }
        // Pure noise has no logarithm of a signal-to-noise ratio.
        const EPS: f64 = 1e-6;
        if let Some(first) = sigmas.first_mut().filter(|first| (**first - 1.0).abs() < EPS) {
            *first -= EPS;
        }
        let timesteps: Vec<f32> = sigmas.iter().map(|s| libm::trunc(s * train) as f32).collect();
        let last = match (self.ends_at_sigma_min, self.kind) {
            (false, _) => 0.0,
            (true, Kind::UniPc) => sigmas.last().copied().unwrap_or(0.0),
            (true, Kind::DpmPlusPlus) => diffusion::ratios(&self.products[..1])[0],
        };
        let sigmas = sigmas.into_iter().chain([last]).map(|s| s as f32).collect();
        Ok(Schedule::flow(sigmas, &timesteps, self.products.len()))
    }

    fn diffusion_schedule(&self, levels: &Levels) -> Result<Schedule> {
        let train = self.products.len();
        let ratios = diffusion::ratios(&self.products);
        let logs: Vec<f64> = ratios.iter().map(|ratio| single_precision(libm::log(*ratio))).collect();
        let (sigmas, timesteps): (Vec<f64>, Vec<f64>) = match (levels, self.spacing) {
            (Levels::Timesteps(given), None) => given_timesteps(given, train)?.into_iter().map(|t| (ratios[t], t as f64)).unzip(),
            (levels, None) => {
                let timesteps = diffusion::multistep_timesteps(&self.file, self.last_timestep(&logs), steps(levels, train)?)?;
                timesteps.into_iter().map(|t| (ratios[t], t as f64)).unzip()
            }
            (levels, Some(spacing)) => {
                let sigmas = spacing.levels(ratios[train - 1], ratios[0], steps(levels, train)?);
                // Whole in every case; some are rounded to the nearest first.
                let cosine = self.file.beta_schedule.as_deref() == Some("squaredcos_cap_v2") && self.kind == Kind::DpmPlusPlus;
                let round = if spacing == Spacing::Karras && !cosine { libm::rint } else { libm::trunc };
                sigmas.into_iter().map(|s| (s, round(diffusion::timestep_of_ratio(s, &logs)))).unzip()
            }
        };
        let last = match (self.ends_at_sigma_min, self.kind, self.spacing) {
            (false, ..) => 0.0,
            (true, Kind::UniPc, Some(_)) => sigmas.last().copied().unwrap_or(0.0),
            (true, ..) => ratios[0],
        };
        let sigmas: Vec<f32> = sigmas.into_iter().chain([last]).map(|s| s as f32).collect();
        let point = |sigma: f32| Point::of_ratio(f64::from(sigma));
        let interval = |(pair, t): (&[f32], f64)| Interval {
            timestep: t as f32,
            from: point(pair[0]),
            to: point(pair[1]),
            prediction: self.prediction,
        };
        let intervals = sigmas.windows(2).zip(timesteps).map(interval).collect();
        let placing = Placing::Diffusion { products: self.products.clone(), continuous: false };
        Ok(Schedule::new(intervals, Table::Sigmas(sigmas), placing))
    }

    /// One beyond the noisiest timestep whose ln(α/σ) is at least `lambda_min_clipped`.
    fn last_timestep(&self, log_ratios: &[f64]) -> usize {
        let Some(least) = self.file.lambda_min_clipped.filter(|_| self.kind == Kind::DpmPlusPlus) else { return self.products.len() };
        log_ratios.iter().rposition(|log| -log >= least).map_or(1, |t| t + 1)
    }
}

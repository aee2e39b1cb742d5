//! DPM-Solver++ (arXiv 2211.01095) of orders 1 to 3, along diffusion and flow: `DPMSolverMultistepScheduler`.

use super::multistep::{Kind, Multistep};
use super::table::{Interval, Row};
use super::{Entry, SchedulerFile, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule};

pub(super) const ENTRY: Entry =
    Entry { name: "dpm++", class: "DPMSolverMultistepScheduler", flow: None, build: |file| Ok(Box::new(DpmPlusPlus::new(file)?)) };

#[derive(Clone, Debug)]
struct DpmPlusPlus {
    levels: Multistep,
    /// Add the noise of the stochastic differential equation.
    stochastic: bool,
    /// Heun's rule instead of the midpoint rule in second order.
    heun: bool,
    lower_order_final: bool,
    euler_at_final: bool,
    /// The last level has no noise, where only the first order is finite.
    ends_clean: bool,
}

impl DpmPlusPlus {
    fn new(file: &SchedulerFile) -> Result<Self> {
        file.only("algorithm_type", file.algorithm_type.as_deref(), &["dpmsolver++", "sde-dpmsolver++", "deis"])?;
        file.only("solver_type", file.solver_type.as_deref(), &["midpoint", "heun", "logrho", "bh1", "bh2"])?;
        Ok(Self {
            levels: Multistep::new(file, Kind::DpmPlusPlus)?,
            stochastic: file.algorithm_type.as_deref() == Some("sde-dpmsolver++"),
            heun: file.solver_type.as_deref() == Some("heun"),
            lower_order_final: file.lower_order_final.unwrap_or(true),
            euler_at_final: file.euler_at_final.unwrap_or(false),
            ends_clean: file.final_sigmas_type.as_deref() != Some("sigma_min"),
        })
    }

    /// The order of step `i` of `count`.
    fn order(&self, i: usize, count: usize) -> usize {
        // Only short runs end with lower orders.
        let lowers = self.lower_order_final && count < 15;
        let at_most = match count - 1 - i {
            0 if self.euler_at_final || lowers || self.ends_clean => 1,
            1 if lowers => 2,
            _ => 3,
        };
        self.levels.order.min(i + 1).min(at_most)
    }

    fn row(&self, order: usize, past: &[Interval]) -> Row {
        let interval = &past[past.len() - 1];
        let lambda = |back: usize| past[past.len() - 1 - back].from.lambda();
        let (from, to) = (interval.from, interval.to);
        let h = to.lambda() - lambda(0);
        // With noise, x decays twice as fast and what is lost is noise.
        let speed = if self.stochastic { 2.0 } else { 1.0 };
        // h is infinite in a step to no noise.
        let decay = if self.stochastic { libm::exp(-h) } else { 1.0 };
        let keep = to.sigma / from.sigma * decay;
        let gain = -libm::expm1(-speed * h);
        let noise = if self.stochastic { to.sigma * libm::sqrt(-libm::expm1(-2.0 * h)) } else { 0.0 };
        // Factors of the clean samples of this step and of those before.
        let first = |factor: f64| 1.0 - factor / (speed * h);
        let mut weights = [to.alpha * gain, 0.0, 0.0];
        if order == 2 {
            // D1 = (m0 − m1)·h/h0.
            let slope = to.alpha * if self.heun { first(gain) } else { gain / 2.0 };
            let d1 = slope * h / (lambda(0) - lambda(1));
            weights = [weights[0] + d1, -d1, 0.0];
        } else if order == 3 {
            let (r0, r1) = ((lambda(0) - lambda(1)) / h, (lambda(1) - lambda(2)) / h);
            let slope = to.alpha * first(gain);
            let squared = speed * h * speed * h;
            let half = if self.stochastic { -0.5 } else { 0.5 };
            let bend = to.alpha * (half - (speed * h - gain) / squared);
            // D1 = d0 + r0/(r0 + r1)·(d0 − d1) and D2 = (d0 − d1)/(r0 + r1), with d0 = (m0 − m1)/r0 and d1 = (m1 − m2)/r1.
            let change = (slope * r0 + bend) / (r0 + r1);
            let (d0, d1) = ((slope + change) / r0, -change / r1);
            weights = [weights[0] + d0, d1 - d0, -d1];
        }
        let row = Row::new(interval, keep, weights[0], None);
        Row { noise, history: [weights[1], weights[2], 0.0], ..row }
    }
}

impl Solver for DpmPlusPlus {
    fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        self.levels.schedule(levels, mu)
    }

    fn mu(&self, tokens: usize) -> Option<f64> {
        self.levels.mu(tokens)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        let row = |i: usize| self.row(self.order(i, intervals.len()), &intervals[..=i]);
        (0..intervals.len()).map(row).collect()
    }

    fn history(&self) -> usize {
        self.levels.order - 1
    }

    fn takes_noise(&self) -> bool {
        self.stochastic
    }
}

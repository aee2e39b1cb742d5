//! `UniPC` (arXiv 2302.04867) of orders 1 to 3 on clean samples, along diffusion and flow: `UniPCMultistepScheduler`.
//!
//! Its corrector starts from the sample before the last step. That one need not be kept: predictor and corrector share the
//! term with it, so correcting adds to the predicted sample what the corrector's differences have beyond the predictor's.

use super::multistep::{Kind, Multistep};
use super::table::{Interval, MAX_HISTORY, Row};
use super::{Entry, SchedulerFile, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule};

pub(super) const ENTRY: Entry =
    Entry { name: "unipc", class: "UniPCMultistepScheduler", flow: None, build: |file| Ok(Box::new(UniPc::new(file)?)) };

#[derive(Clone, Debug)]
struct UniPc {
    levels: Multistep,
    /// B(h) = h instead of e^h − 1.
    bh1: bool,
    lower_order_final: bool,
    /// Steps after which the next one does not correct.
    uncorrected: Vec<usize>,
}

impl UniPc {
    fn new(file: &SchedulerFile) -> Result<Self> {
        if file.predict_x0 == Some(false) {
            return Err(file.invalid("predict_x0 is false; only the form on clean samples is supported"));
        }
        file.only("solver_type", file.solver_type.as_deref(), &["bh1", "bh2", "midpoint", "heun", "logrho"])?;
        Ok(Self {
            levels: Multistep::new(file, Kind::UniPc)?,
            bh1: file.solver_type.as_deref() == Some("bh1"),
            lower_order_final: file.lower_order_final.unwrap_or(true),
            uncorrected: file.disable_corrector.clone(),
        })
    }

    fn order(&self, i: usize, count: usize) -> usize {
        let at_most = if self.lower_order_final { count - i } else { self.levels.order };
        self.levels.order.min(i + 1).min(at_most)
    }

    fn row(&self, i: usize, intervals: &[Interval]) -> Row {
        let interval = &intervals[i];
        // Beyond the first order, a step to no noise is not finite.
        let order = if interval.to.sigma == 0.0 { 1 } else { self.order(i, intervals.len()) };
        let predictor = Differences::new(order, &intervals[..=i], self.bh1);
        let (from, to) = (interval.from, interval.to);
        let keep = to.sigma / from.sigma;
        let h = to.lambda() - from.lambda();
        // Weights of the clean samples: of this step, then of those before.
        let mut weights = [0.0; MAX_HISTORY + 1];
        weights[0] = -to.alpha * libm::expm1(-h);
        predictor.add(&mut weights, -to.alpha, &predictor.predicting());
        if i > 0 && !self.uncorrected.contains(&(i - 1)) {
            let before = Differences::new(self.order(i - 1, intervals.len()), &intervals[..i], self.bh1);
            let (corrected, predicted) = (before.correcting(), before.predicting());
            // Everything is one step older there, and enters through the sample that the predictor starts from.
            let scale = -keep * from.alpha;
            let difference: Vec<f64> = corrected.iter().zip(predicted.iter().chain(&[0.0, 0.0])).map(|(c, p)| c - p).collect();
            let latest = corrected[before.order - 1] * before.b * scale;
            before.add(&mut weights[1..], scale, &difference[..before.order - 1]);
            weights[0] += latest;
            weights[1] -= latest;
        }
        let [current, history @ ..] = weights;
        Row { history, ..Row::new(interval, keep, current, None) }
    }
}

/// The divided differences D1 of one step.
struct Differences {
    order: usize,
    /// B(h).
    b: f64,
    /// (λ of an earlier step − λ) / h, the latest first, then 1.
    r: [f64; 3],
    /// Right sides of the order conditions.
    conditions: [f64; 3],
}

impl Differences {
    /// Of the last of `past`.
    fn new(order: usize, past: &[Interval], bh1: bool) -> Self {
        let interval = &past[past.len() - 1];
        let h = interval.to.lambda() - interval.from.lambda();
        let first = libm::expm1(-h);
        let b = if bh1 { -h } else { first };
        let (mut r, mut conditions) = ([1.0; 3], [0.0; 3]);
        let (mut phi, mut factorial) = (first / -h - 1.0, 1.0);
        for k in 0..order {
            if k + 1 < order {
                r[k] = (past[past.len() - 2 - k].from.lambda() - interval.from.lambda()) / h;
            }
            conditions[k] = phi * factorial / b;
            factorial *= (k + 2) as f64;
            phi = phi / -h - 1.0 / factorial;
        }
        Self { order, b, r, conditions }
    }

    /// Weights of the differences in the predictor.
    fn predicting(&self) -> Vec<f64> {
        match self.order {
            1 => Vec::new(),
            2 => vec![0.5],
            _ => self.solve(self.order - 1),
        }
    }

    /// Weights of the differences in the corrector; the last is that to the prediction at its end.
    fn correcting(&self) -> Vec<f64> {
        if self.order == 1 { vec![0.5] } else { self.solve(self.order) }
    }

    /// Solves Σ ρₖ·rₖⁱ = conditionsᵢ for the first `count` conditions and as many r, of which the last is 1 if all count.
    fn solve(&self, count: usize) -> Vec<f64> {
        // A Vandermonde system of at most three unknowns, by Newton's divided differences of its transpose.
        let mut rho = self.conditions[..count].to_vec();
        let r = &self.r[..count];
        for (k, first) in r.iter().enumerate() {
            for i in (k + 1..count).rev() {
                rho[i] -= first * rho[i - 1];
            }
        }
        for k in (0..count.saturating_sub(1)).rev() {
            for i in k + 1..count {
                rho[i] /= r[i] - r[i - k - 1];
            }
            for i in k..count - 1 {
                rho[i] -= rho[i + 1];
            }
        }
        rho
    }

    /// Adds `scale`·B·Σ ρₖ·(m₋ₖ − m₀)/rₖ to the weights of m₀, m₋₁, ….
    fn add(&self, weights: &mut [f64], scale: f64, rho: &[f64]) {
        for (k, rho) in rho.iter().enumerate() {
            let factor = scale * self.b * rho / self.r[k];
            weights[k + 1] += factor;
            weights[0] -= factor;
        }
    }
}

impl Solver for UniPc {
    fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        self.levels.schedule(levels, mu)
    }

    fn mu(&self, tokens: usize) -> Option<f64> {
        self.levels.mu(tokens)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        (0..intervals.len()).map(|i| self.row(i, intervals)).collect()
    }

    fn history(&self) -> usize {
        self.levels.order
    }
}

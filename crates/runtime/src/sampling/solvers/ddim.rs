//! Denoising diffusion implicit models (arXiv 2010.02502): `DDIMScheduler` and `CogVideoXDDIMScheduler`.

use super::diffusion::{self, Betas};
use super::table::{Interval, Prediction, Row};
use super::{Entry, SchedulerFile, Solver, steps};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Placing, Schedule, Table};

pub(super) const ENTRY: Entry = Entry {
    name: "ddim",
    class: "DDIMScheduler",
    flow: Some(false),
    build: |file| {
        let train = Training::new(file, diffusion::LINEAR, diffusion::betas_to_zero_snr)?;
        Ok(Box::new(Ddim { train, limit: file.limit(true), eta: 0.0 }))
    },
};

/// Its step is DDIM's without clipping and without noise.
pub(super) const COGVIDEOX: Entry = Entry {
    name: "cogvideox-ddim",
    class: "CogVideoXDDIMScheduler",
    flow: Some(false),
    build: |file| Ok(Box::new(Ddim { train: Training::cogvideox(file)?, limit: None, eta: 0.0 })),
};

/// What DDIM and its relatives know of training.
#[derive(Clone, Debug)]
pub(super) struct Training {
    file: SchedulerFile,
    products: Vec<f64>,
    /// ᾱ beyond the first timestep.
    last: f64,
    prediction: Prediction,
}

impl Training {
    pub(super) fn new(file: &SchedulerFile, betas: Betas, to_zero_snr: impl Fn(&mut [f64])) -> Result<Self> {
        let mut products = diffusion::alphas_cumprod(file, betas)?;
        if file.rescale_betas_zero_snr == Some(true) {
            to_zero_snr(&mut products);
        }
        Self::of_products(file, products)
    }

    /// With its signal-to-noise ratio shifted (arXiv 2408.06072, appendix).
    pub(super) fn cogvideox(file: &SchedulerFile) -> Result<Self> {
        let mut products = diffusion::alphas_cumprod(file, diffusion::COGVIDEOX)?;
        let scale = file.snr_shift_scale.unwrap_or(3.0);
        products.iter_mut().for_each(|p| *p /= scale + (1.0 - scale) * *p);
        if file.rescale_betas_zero_snr == Some(true) {
            diffusion::to_zero_snr(&mut products, |x| x);
        }
        Self::of_products(file, products)
    }

    fn of_products(file: &SchedulerFile, products: Vec<f64>) -> Result<Self> {
        let prediction = file.prediction()?;
        if prediction == Prediction::Epsilon && products.last() == Some(&0.0) {
            let problem = "prediction_type epsilon says nothing at the pure noise of rescale_betas_zero_snr; use v_prediction or sample";
            return Err(file.invalid(problem));
        }
        let last = if file.set_alpha_to_one.unwrap_or(true) { 1.0 } else { products[0] };
        Ok(Self { file: file.clone(), products, last, prediction })
    }

    /// Steps of equal width in training timesteps: each ends `train / steps` below its start, which is where the next one
    /// starts only with some spacings.
    pub(super) fn schedule(&self, levels: &Levels) -> Result<Schedule> {
        let steps = steps(levels, self.products.len())?;
        let width = self.products.len() / steps;
        let pairs = diffusion::timesteps(&self.file, steps)?.into_iter().map(|t| (t, t.checked_sub(width)));
        Ok(self.of_pairs(pairs))
    }

    /// The steps between pairs of training timesteps; none is beyond the first.
    pub(super) fn of_pairs(&self, pairs: impl Iterator<Item = (usize, Option<usize>)>) -> Schedule {
        let point = |t| diffusion::point(&self.products, t, self.last);
        let interval = |(from, to)| Interval { timestep: from as f32, from: point(Some(from)), to: point(to), prediction: self.prediction };
        let table = Table::Products(self.products.iter().map(|p| *p as f32).collect());
        let placing = Placing::Diffusion { products: self.products.clone(), continuous: false };
        Schedule::new(pairs.map(interval).collect(), table, placing)
    }

    /// The training timesteps of a run, given or spaced.
    pub(super) fn timesteps(&self, levels: &Levels) -> Result<Vec<usize>> {
        match levels {
            Levels::Timesteps(given) => super::given_timesteps(given, self.products.len()),
            other => diffusion::timesteps(&self.file, steps(other, self.products.len())?),
        }
    }
}

#[derive(Clone, Debug)]
struct Ddim {
    train: Training,
    limit: Option<f64>,
    eta: f64,
}

impl Solver for Ddim {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        self.train.schedule(levels)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(|interval| row(interval, self.eta, self.limit)).collect()
    }

    fn takes_noise(&self) -> bool {
        self.eta > 0.0
    }

    fn with_eta(&self, eta: f64) -> Option<Box<dyn Solver>> {
        Some(Box::new(Self { eta, ..self.clone() }))
    }
}

/// α'·clean + √(σ'² − s²)·ε + s·fresh, with s = η·(σ'/σ)·√(1 − ᾱ/ᾱ').
pub(super) fn row(interval: &Interval, eta: f64, limit: Option<f64>) -> Row {
    let (from, to) = (interval.from, interval.to);
    let ratio = from.alpha / to.alpha;
    let noise = eta * to.sigma / from.sigma * libm::sqrt((1.0 - ratio * ratio).max(0.0));
    let direction = libm::sqrt((to.sigma * to.sigma - noise * noise).max(0.0));
    let row = Row::new(interval, 0.0, to.alpha, limit).plus(direction, interval.epsilon());
    Row { noise, ..row }
}

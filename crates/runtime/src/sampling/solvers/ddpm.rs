//! Ancestral sampling of diffusion (arXiv 2006.11239, eq. 7) with a fixed or predicted variance: `DDPMScheduler`.

use super::ddim::Training;
use super::diffusion;
use super::table::{Interval, Row, Variance};
use super::{Entry, SchedulerFile, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule};

pub(super) const ENTRY: Entry =
    Entry { name: "ddpm", class: "DDPMScheduler", flow: Some(false), build: |file| Ok(Box::new(Ddpm::new(file)?)) };

#[derive(Clone, Debug)]
struct Ddpm {
    train: Training,
    limit: Option<f64>,
    variance: Variance,
    /// The upper of the two bounds of a fixed variance.
    large: bool,
}

impl Ddpm {
    fn new(file: &SchedulerFile) -> Result<Self> {
        let (variance, large) = match file.variance_type.as_deref() {
            None | Some("fixed_small" | "fixed_small_log") => (Variance::Fixed, false),
            Some("fixed_large" | "fixed_large_log") => (Variance::Fixed, true),
            Some("learned") => (Variance::Learned, false),
            Some("learned_range") => (Variance::Range, false),
            Some(other) => {
                let known = "fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned or learned_range";
                return Err(file.unknown("variance_type", other, known));
            }
        };
        // Its last step ends at no noise at all.
        let ending = SchedulerFile { set_alpha_to_one: None, ..file.clone() };
        let train = Training::new(&ending, diffusion::LINEAR, diffusion::betas_to_zero_snr)?;
        Ok(Self { train, limit: file.limit(true), variance, large })
    }

    fn row(&self, interval: &Interval) -> Row {
        let (from, to) = (interval.from, interval.to);
        let ratio = from.alpha / to.alpha;
        let (beta, sigma2, after2) = (1.0 - ratio * ratio, from.sigma * from.sigma, to.sigma * to.sigma);
        let row = Row::new(interval, ratio * after2 / sigma2, to.alpha * beta / sigma2, self.limit);
        if interval.timestep == 0.0 {
            return row;
        }
        let small = (after2 / sigma2 * beta).max(1e-20);
        match self.variance {
            Variance::Fixed => Row { noise: libm::sqrt(if self.large { beta } else { small }), ..row },
            Variance::Learned => Row { noise: 1.0, ..row },
            Variance::Range => {
                // exp(½·(u·ln β + (1 − u)·ln small)) with u = (v + 1)/2.
                let (low, high) = (libm::log(small), libm::log(beta));
                Row { noise: 1.0, log_amplitude: [(high - low) / 4.0, (high + low) / 4.0], ..row }
            }
        }
    }
}

impl Solver for Ddpm {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        let timesteps = self.train.timesteps(levels)?;
        let after = timesteps.iter().copied().skip(1).map(Some).chain([None]);
        Ok(self.train.of_pairs(timesteps.iter().copied().zip(after)))
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(|interval| self.row(interval)).collect()
    }

    fn takes_noise(&self) -> bool {
        true
    }

    fn variance(&self) -> Variance {
        self.variance
    }
}

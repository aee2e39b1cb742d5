//! Euler steps along the flow: `FlowMatchEulerDiscreteScheduler`, whose levels are those of [`ScheduleConfig`].

use super::dmd::fresh_noise;
use super::table::{Interval, Row};
use super::{Entry, SchedulerFile, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule, ScheduleConfig};

pub(super) const ENTRY: Entry =
    Entry { name: "euler", class: "FlowMatchEulerDiscreteScheduler", flow: Some(true), build: |file| Ok(Box::new(FlowEuler::new(file)?)) };

#[derive(Clone, Debug)]
struct FlowEuler {
    config: ScheduleConfig,
    /// Go to the clean sample and back to the next level with fresh noise.
    stochastic: bool,
}

impl FlowEuler {
    fn new(file: &SchedulerFile) -> Result<Self> {
        Ok(Self { config: ScheduleConfig::from_file(file)?, stochastic: file.stochastic_sampling == Some(true) })
    }
}

impl Solver for FlowEuler {
    fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        self.config.schedule(levels, mu)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        let row = if self.stochastic { fresh_noise } else { euler };
        intervals.iter().map(row).collect()
    }

    fn takes_noise(&self) -> bool {
        self.stochastic
    }

    fn mu(&self, tokens: usize) -> Option<f64> {
        self.config.mu(tokens)
    }
}

/// x + (σ' − σ)·v.
pub(super) fn euler(interval: &Interval) -> Row {
    let output = interval.to.sigma - interval.from.sigma;
    Row { output, clean_of: interval.clean(), ..Row::STAY }
}

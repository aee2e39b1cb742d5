//! Distribution matching distillation (arXiv 2405.14867 §4.4; `FastWan`, Self-Forcing): to the clean sample, then under
//! fresh noise of the next level.

use super::flow_map::FlowMap;
use super::table::{Interval, Row};
use super::{Entry, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule};

/// `DMDScheduler` is Kinora's own name: the checkpoints come without a class. `shift` moves the levels that are given;
/// lists that are not to be moved (`FastWan`'s 1000, 757, 522) have a shift of 1.
pub(super) const ENTRY: Entry =
    Entry { name: "dmd", class: "DMDScheduler", flow: Some(true), build: |file| Ok(Box::new(Dmd(FlowMap::new(file)?))) };

#[derive(Clone, Debug)]
struct Dmd(FlowMap);

impl Solver for Dmd {
    fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        self.0.schedule(levels, mu)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(fresh_noise).collect()
    }

    fn takes_noise(&self) -> bool {
        true
    }
}

/// α'·clean + σ'·fresh.
pub(super) fn fresh_noise(interval: &Interval) -> Row {
    Row { noise: interval.to.sigma, ..Row::new(interval, 0.0, interval.to.alpha, None) }
}

//! The stochastic second-order multistep solver of `CogVideoX` (DPM-Solver++ 2M SDE, arXiv 2211.01095):
//! `CogVideoXDPMScheduler`.

use super::ddim::Training;
use super::table::{Interval, Row};
use super::{Entry, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule};

pub(super) const ENTRY: Entry = Entry {
    name: "cogvideox-dpm",
    class: "CogVideoXDPMScheduler",
    flow: Some(false),
    build: |file| Ok(Box::new(Dpm(Training::cogvideox(file)?))),
};

#[derive(Clone, Debug)]
struct Dpm(Training);

impl Solver for Dpm {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        self.0.schedule(levels)
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        let before = std::iter::once(None).chain(intervals.iter().map(Some));
        intervals.iter().zip(before).map(|(interval, before)| row(interval, before)).collect()
    }

    fn history(&self) -> usize {
        1
    }

    fn takes_noise(&self) -> bool {
        true
    }
}

fn row(interval: &Interval, before: Option<&Interval>) -> Row {
    let (from, to) = (interval.from, interval.to);
    // From pure noise or to none h is infinite, and what it leads to is its limit.
    let h = to.lambda() - from.lambda();
    let keep = to.sigma / from.sigma * libm::exp(-h);
    let gain = -libm::expm1(-2.0 * h) * to.alpha;
    let noise = to.sigma * libm::sqrt(1.0 - libm::exp(-2.0 * h));
    let share = match before {
        Some(before) if to.sigma > 0.0 => h / (2.0 * (from.lambda() - before.from.lambda())),
        _ => 0.0,
    };
    let row = Row::new(interval, keep, gain * (1.0 + share), None);
    Row { noise, history: [-gain * share, 0.0, 0.0], ..row }
}

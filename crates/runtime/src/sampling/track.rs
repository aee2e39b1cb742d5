//! The way of tokens that start from one level of noise through a run: when they move, and how.

use super::schedule::Schedule;
use super::solvers::Solver;
use super::solvers::table::Row;
use crate::conditioning::PURE_NOISE;

/// Steps of tokens that start from one level of noise: they wait until the schedule falls below it, and go through what is
/// left of it as if it were a run of its own. So a multistep solver begins with its first order there, from no history.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Track {
    /// Steps before it moves.
    waits: usize,
    /// What the model is told while it waits.
    resting_timestep: f32,
    timesteps: Vec<f32>,
    rows: Vec<Row>,
}

impl Track {
    /// Of tokens of `noise` thousandths.
    pub(super) fn new(schedule: &Schedule, solver: &dyn Solver, noise: u16) -> Self {
        let (waits, intervals) = schedule.clamped(noise);
        let timesteps = intervals.iter().map(|interval| interval.timestep).collect();
        Self { waits, resting_timestep: schedule.resting_timestep(noise), timesteps, rows: solver.rows(&intervals) }
    }

    /// What the model is told in step `index` of the schedule; 0, which is clean, after the last.
    pub(super) fn timestep(&self, index: usize) -> f32 {
        match index.checked_sub(self.waits) {
            Some(own) => self.timesteps.get(own).copied().unwrap_or(0.0),
            None => self.resting_timestep,
        }
    }

    /// The update in step `index` of the schedule.
    pub(super) fn row(&self, index: usize) -> Row {
        index.checked_sub(self.waits).and_then(|own| self.rows.get(own)).copied().unwrap_or(Row::STAY)
    }

    /// Whether something happens in step `index` of the schedule.
    pub(super) fn moves(&self, index: usize) -> bool {
        (self.waits..self.waits + self.rows.len()).contains(&index)
    }
}

/// The distinct levels of noise of `length` tokens, all pure noise if none is said, and which of them each has.
pub(super) fn levels(noise: &[u16], length: usize) -> (Vec<u16>, Vec<u32>) {
    let mut distinct: Vec<u16> = Vec::new();
    let mut index = |noise: u16| {
        let known = distinct.iter().position(|d| *d == noise);
        let row = known.unwrap_or_else(|| {
            distinct.push(noise);
            distinct.len() - 1
        });
        row as u32
    };
    let own = (0..length).map(|token| index(noise.get(token).copied().unwrap_or(PURE_NOISE))).collect();
    (distinct, own)
}

//! Flow maps, which jump from one level to another that the model is told too: `FlowMapEulerDiscreteScheduler` (`AnyFlow`).

use super::flow_euler::euler;
use super::table::{Interval, Row};
use super::{Entry, SchedulerFile, Solver};
use crate::error::Result;
use crate::sampling::schedule::{Levels, Schedule, linspace, request};

pub(super) const ENTRY: Entry =
    Entry { name: "flow-map", class: "FlowMapEulerDiscreteScheduler", flow: Some(true), build: |file| Ok(Box::new(FlowMap::new(file)?)) };

/// Levels from 1 on evenly down, shifted; the second timestep of a step is that of the level it ends at.
#[derive(Clone, Debug)]
pub(super) struct FlowMap {
    train: usize,
    shift: f64,
}

impl FlowMap {
    pub(super) fn new(file: &SchedulerFile) -> Result<Self> {
        let shift = file.static_shift();
        if !(shift.is_finite() && shift > 0.0) {
            return Err(file.invalid(format!("shift {shift} must be above zero")));
        }
        Ok(Self { train: file.train(), shift })
    }
}

impl Solver for FlowMap {
    fn schedule(&self, levels: &Levels, _mu: Option<f64>) -> Result<Schedule> {
        let train = self.train as f64;
        let given: Vec<f64> = match levels {
            Levels::Steps(n) if (1..=self.train).contains(n) => linspace(1.0, 0.0, n + 1)[..*n].to_vec(),
            Levels::Sigmas(s) => s.iter().map(|s| f64::from(*s)).collect(),
            Levels::Timesteps(t) => t.iter().map(|t| f64::from(*t) / train).collect(),
            _ => Vec::new(),
        };
        let falls = given.windows(2).all(|pair| pair[1] < pair[0]) && given.iter().all(|u| *u > 0.0 && *u <= 1.0);
        if given.is_empty() || !falls {
            return Err(request("levels", format!("{levels:?}"), "1 step or more, or falling levels above 0 and up to 1"));
        }
        let sigmas: Vec<f64> = given.iter().map(|u| self.shift * u / (1.0 + (self.shift - 1.0) * u)).collect();
        let timesteps: Vec<f32> = sigmas.iter().map(|s| (s * train) as f32).collect();
        let sigmas = sigmas.into_iter().chain([0.0]).map(|s| s as f32).collect();
        Ok(Schedule::flow(sigmas, &timesteps, self.train))
    }

    fn rows(&self, intervals: &[Interval]) -> Vec<Row> {
        intervals.iter().map(euler).collect()
    }
}

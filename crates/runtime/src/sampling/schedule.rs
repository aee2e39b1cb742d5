//! The noise schedule of flow matching with Euler steps: diffusers' `FlowMatchEulerDiscreteScheduler`.
//!
//! A schedule is a falling list of noise levels σ, from about 1 (noise) to 0 (video). The model predicts
//! the velocity v = noise − video at timestep 1000·σ, and a step is x ← x + (σ' − σ)·v.

use super::solvers::SchedulerFile;
use super::solvers::table::{Interval, Point, Prediction};
use super::spacing::Spacing;
use crate::conditioning::PURE_NOISE;
use crate::error::{Error, Result};

/// `scheduler_config.json`: how steps are spaced. Absent fields have the reference's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Timesteps are σ times this number.
    pub num_train_timesteps: u32,
    /// Moves steps towards noise (above 1) or towards the video: σ ← s·σ / (1 + (s − 1)·σ).
    pub shift: f64,
    /// Shift by `mu`, which depends on the number of tokens, instead of by `shift`.
    pub use_dynamic_shifting: bool,
    /// `mu` for a clip of `base_image_seq_len` tokens.
    pub base_shift: Option<f64>,
    /// `mu` for a clip of `max_image_seq_len` tokens.
    pub max_shift: Option<f64>,
    /// Number of tokens that gets `base_shift`.
    pub base_image_seq_len: u32,
    /// Number of tokens that gets `max_shift`.
    pub max_image_seq_len: u32,
    /// Count noise levels from 0 up to 1.
    pub invert_sigmas: bool,
    /// Stretch the schedule so that its last σ before zero has this value.
    pub shift_terminal: Option<f64>,
    /// How the levels lie between the first and the last, if not evenly.
    pub spacing: Option<Spacing>,
    /// What `mu` means: its exponential, or itself, takes the place of `shift`.
    pub time_shift_type: TimeShift,
}

/// How `mu` shifts the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeShift {
    /// Shift by e^mu.
    Exponential,
    /// Shift by mu.
    Linear,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: Some(0.5),
            max_shift: Some(1.15),
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            invert_sigmas: false,
            shift_terminal: None,
            spacing: None,
            time_shift_type: TimeShift::Exponential,
        }
    }
}

/// Which noise levels to start from, before shifting.
#[derive(Clone, Debug, PartialEq)]
pub enum Levels {
    /// So many, evenly spaced over the range that training used.
    Steps(usize),
    /// These, shifted as the configuration says.
    Sigmas(Vec<f32>),
    /// These timesteps, handed to the model as they are; their σ are shifted.
    Timesteps(Vec<f32>),
    /// These σ, shifted, with these timesteps for the model.
    SigmasAndTimesteps(Vec<f32>, Vec<f32>),
}

impl Levels {
    /// 1, 1 − 1/n, …, 1/n: what the LTX pipelines start from.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "step counts are small; σ are f32")]
    pub fn ramp(steps: usize) -> Self {
        Self::Sigmas(linspace(1.0, 1.0 / steps as f64, steps).into_iter().map(|s| s as f32).collect())
    }
}

/// The levels of one denoising run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Share of noise before each step and after the last one: one more than there are steps.
    pub sigmas: Vec<f32>,
    /// What the model is told in each step.
    pub timesteps: Vec<f32>,
    /// The steps.
    pub intervals: Vec<Interval>,
    /// What the state is multiplied with to get the sample in the reference's units, before each step and after the last.
    pub scales: Vec<f64>,
    /// What unit noise is multiplied with to get the first state.
    pub start: f64,
    /// What the reference class shows of its levels.
    pub table: Table,
    pub(super) placing: Placing,
}

/// The levels as the reference class shows them.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Before each step and after the last one: `sigmas`.
    Sigmas(Vec<f32>),
    /// Of every training timestep: `alphas_cumprod`.
    Products(Vec<f32>),
}

/// Where a level between pure noise and clean lies that a token starts from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Placing {
    /// σ of flow; the timestep is σ times this number.
    Flow(f32),
    /// Among the ᾱ of all training timesteps.
    Diffusion {
        /// ᾱ.
        products: Vec<f64>,
        /// Whether the model is told ln(σ/α)/4 instead of the timestep.
        continuous: bool,
    },
}

impl Placing {
    fn at(&self, thousandths: u16) -> (Point, f32) {
        let level = f32::from(thousandths.min(PURE_NOISE)) / f32::from(PURE_NOISE);
        match self {
            Self::Flow(train) => (Point::flow(f64::from(level)), level * train),
            Self::Diffusion { products, continuous } => {
                let count = usize::from(thousandths) * products.len() / usize::from(PURE_NOISE);
                let Some(index) = count.checked_sub(1) else { return (Point::CLEAN, 0.0) };
                let point = Point::of_product(products[index.min(products.len() - 1)]);
                (point, if *continuous { 0.25 * libm::log(point.ratio()) as f32 } else { index as f32 })
            }
        }
    }
}

impl Schedule {
    pub(super) fn new(intervals: Vec<Interval>, table: Table, placing: Placing) -> Self {
        let last = intervals.last().map(|i| i.to.sigma as f32);
        let sigmas = intervals.iter().map(|i| i.from.sigma as f32).chain(last).collect();
        let timesteps = intervals.iter().map(|i| i.timestep).collect();
        let scales = vec![1.0; intervals.len() + 1];
        Self { sigmas, timesteps, intervals, scales, start: 1.0, table, placing }
    }

    /// Straight lines from clean to noise at `sigmas`, one more than there are `timesteps`.
    pub(super) fn flow(sigmas: Vec<f32>, timesteps: &[f32], train: usize) -> Self {
        let point = |sigma: f32| Point::flow(f64::from(sigma));
        let pairs = sigmas.windows(2).zip(timesteps);
        let prediction = Prediction::Flow;
        let intervals = pairs.map(|(s, &timestep)| Interval { timestep, from: point(s[0]), to: point(s[1]), prediction }).collect();
        Self { sigmas: sigmas.clone(), ..Self::new(intervals, Table::Sigmas(sigmas), Placing::Flow(train as f32)) }
    }

    /// How far a run is from clean in step `index`, from 1 to 0: σ of flow, and of diffusion the share of the training timesteps.
    #[must_use]
    pub fn share(&self, index: usize) -> f32 {
        let sigma = self.sigmas.get(index).copied().unwrap_or(0.0);
        match &self.placing {
            Placing::Diffusion { products, continuous: false } => self.timesteps.get(index).map_or(sigma, |t| t / products.len() as f32),
            _ => sigma,
        }
    }

    /// Number of model evaluations.
    #[must_use]
    pub const fn num_steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The steps of a token that starts with `noise` thousandths of noise, and in how many it waits before: it stays at
    /// that level until the schedule falls below it, then goes with it. To a solver these steps are all there are, so its
    /// first one there has no history.
    #[must_use]
    pub fn clamped(&self, noise: u16) -> (usize, Vec<Interval>) {
        let (level, timestep) = self.placing.at(noise);
        let moves = |interval: &Interval| noise >= PURE_NOISE || interval.to.ratio() < level.ratio();
        let waits = self.intervals.iter().position(moves).unwrap_or(self.intervals.len());
        let mut own = self.intervals[waits..].to_vec();
        if let Some(first) = own.first_mut().filter(|first| noise < PURE_NOISE && level.ratio() < first.from.ratio()) {
            *first = Interval { timestep, from: level, ..*first };
        }
        (waits, own)
    }

    /// What the model is told about a token of `noise` thousandths of noise that does not move.
    #[must_use]
    pub fn resting_timestep(&self, noise: u16) -> f32 {
        self.placing.at(noise).1
    }

    /// The level a token of `noise` thousandths of noise starts from, at most that of the schedule.
    #[must_use]
    pub fn starting_level(&self, noise: u16) -> Point {
        let (level, _) = self.placing.at(noise);
        self.intervals.first().map_or(level, |first| if first.from.ratio() < level.ratio() { first.from } else { level })
    }
}

impl ScheduleConfig {
    /// The fields of `scheduler_config.json` that it has, whichever class wrote them.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for values that contradict each other or are not supported.
    pub(super) fn from_file(file: &SchedulerFile) -> Result<Self> {
        let default = Self::default();
        let flags = [file.use_karras_sigmas, file.use_exponential_sigmas, file.use_beta_sigmas].map(|flag| flag == Some(true));
        let config = Self {
            num_train_timesteps: file.train() as u32,
            shift: file.static_shift(),
            use_dynamic_shifting: file.use_dynamic_shifting.unwrap_or(false),
            base_shift: file.base_shift.or(default.base_shift),
            max_shift: file.max_shift.or(default.max_shift),
            base_image_seq_len: file.base_image_seq_len.unwrap_or(default.base_image_seq_len),
            max_image_seq_len: file.max_image_seq_len.unwrap_or(default.max_image_seq_len),
            invert_sigmas: file.invert_sigmas.unwrap_or(false),
            shift_terminal: file.shift_terminal,
            spacing: Spacing::of(flags).map_err(|problem| file.invalid(problem))?,
            time_shift_type: match file.time_shift_type.as_deref() {
                None | Some("exponential") => TimeShift::Exponential,
                Some("linear") => TimeShift::Linear,
                Some(other) => return Err(file.unknown("time_shift_type", other, "exponential or linear")),
            },
        };
        if !(config.shift.is_finite() && config.shift > 0.0) {
            return Err(file.invalid(format!("shift {} must be above zero", config.shift)));
        }
        if config.shift_terminal.is_some_and(|t| !(0.0..1.0).contains(&t)) {
            return Err(file.invalid(format!("shift_terminal {:?} must lie in [0, 1)", config.shift_terminal)));
        }
        Ok(config)
    }

    /// The dynamic shift for a clip of so many tokens: on the line through the two configured points.
    ///
    /// `None` without dynamic shifting.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub fn mu(&self, tokens: usize) -> Option<f64> {
        let (base, max) = (self.base_shift.unwrap_or(0.5), self.max_shift.unwrap_or(1.15));
        let (from, to) = (f64::from(self.base_image_seq_len), f64::from(self.max_image_seq_len));
        let slope = (max - base) / (to - from);
        self.use_dynamic_shifting.then_some(tokens as f64 * slope + (base - slope * from))
    }

    /// The schedule of a run. `mu` is required with dynamic shifting and ignored without.
    ///
    /// Rounds to f32 exactly where the reference does: given levels are f32 from the start, evenly
    /// spaced ones f64 to the end.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for no steps, levels outside [0, 1], lists of different lengths, a
    /// missing `mu`, or a schedule that does not exist (one step cannot end at `shift_terminal`).
    #[expect(clippy::cast_possible_truncation, reason = "the tables are f32, as in the reference")]
    pub fn schedule(&self, levels: &Levels, mu: Option<f64>) -> Result<Schedule> {
        let train = f64::from(self.num_train_timesteps);
        self.check(levels)?;
        let widen = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (mut sigmas, single, timesteps) = match levels {
            Levels::Steps(n) => {
                let [first, last] = self.training_range();
                (linspace(first * train, last * train, *n).iter().map(|t| t / train).collect(), false, None)
            }
            Levels::Sigmas(s) => (widen(s), true, None),
            Levels::Timesteps(t) => (widen(t).iter().map(|t| single_precision(t / train)).collect(), true, Some(t)),
            Levels::SigmasAndTimesteps(s, t) => (widen(s), true, Some(t)),
        };
        let round = if single { single_precision } else { |x| x };
        self.shift(&mut sigmas, mu, round)?;
        self.stretch(&mut sigmas, round);
        self.space(&mut sigmas);

        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|s| s as f32).collect();
        if self.invert_sigmas {
            sigmas.iter_mut().for_each(|s| *s = 1.0 - *s);
        }
        let own = timesteps.filter(|_| !self.invert_sigmas);
        let timesteps = own.cloned().unwrap_or_else(|| sigmas.iter().map(|s| s * train as f32).collect());
        sigmas.push(if self.invert_sigmas { 1.0 } else { 0.0 });
        if sigmas.iter().any(|s| !s.is_finite()) {
            return Err(request("steps", format!("{levels:?}"), "at least 2 steps, since the schedule must end at shift_terminal"));
        }
        Ok(Schedule::flow(sigmas, &timesteps, self.num_train_timesteps as usize))
    }

    fn check(&self, levels: &Levels) -> Result<()> {
        let train = f64::from(self.num_train_timesteps);
        let unit = |values: &[f32], top: f64| values.iter().all(|&v| (0.0..=top).contains(&f64::from(v)));
        let (count, valid) = match levels {
            Levels::Steps(n) => (*n, true),
            Levels::Sigmas(s) => (s.len(), unit(s, 1.0)),
            Levels::Timesteps(t) => (t.len(), unit(t, train)),
            Levels::SigmasAndTimesteps(s, t) => (s.len(), s.len() == t.len() && unit(s, 1.0) && unit(t, train)),
        };
        // More steps than training had levels is a slip, and the bound keeps absurd requests from allocating.
        if count == 0 || count > self.num_train_timesteps as usize {
            let expected = format!("1 to {}", self.num_train_timesteps);
            return Err(request("steps", count.to_string(), &expected));
        }
        if !valid {
            let expected = format!("as many σ in [0, 1] as timesteps in [0, {train}]");
            return Err(request("levels", format!("{levels:?}"), &expected));
        }
        Ok(())
    }

    /// First and last σ of training: with a static shift, shifted already.
    fn training_range(&self) -> [f64; 2] {
        let train = f64::from(self.num_train_timesteps);
        [1.0, single_precision(1.0 / train)].map(|sigma| {
            if self.use_dynamic_shifting {
                return sigma;
            }
            let r = single_precision;
            r(r(r(self.shift) * sigma) / r(1.0 + r(r(self.shift - 1.0) * sigma)))
        })
    }

    fn shift(&self, sigmas: &mut [f64], mu: Option<f64>, r: fn(f64) -> f64) -> Result<()> {
        if !self.use_dynamic_shifting {
            for s in sigmas {
                *s = r(r(r(self.shift) * *s) / r(1.0 + r(r(self.shift - 1.0) * *s)));
            }
            return Ok(());
        }
        let mu = mu
            .filter(|mu| mu.is_finite())
            .ok_or_else(|| request("mu", format!("{mu:?}"), "a finite number, since use_dynamic_shifting is true"))?;
        let factor = r(match self.time_shift_type {
            TimeShift::Exponential => libm::exp(mu),
            TimeShift::Linear => mu,
        });
        for s in sigmas {
            *s = r(factor / r(factor + r(r(1.0 / *s) - 1.0)));
        }
        Ok(())
    }

    fn stretch(&self, sigmas: &mut [f64], r: fn(f64) -> f64) {
        let (Some(terminal), Some(&last)) = (self.shift_terminal.filter(|&t| t != 0.0), sigmas.last()) else {
            return;
        };
        let scale = r(r(1.0 - last) / r(1.0 - terminal));
        for s in sigmas {
            *s = r(1.0 - r(r(1.0 - *s) / scale));
        }
    }

    /// Replaces the levels between the first and the last by another spacing.
    fn space(&self, sigmas: &mut Vec<f64>) {
        if let (Some(spacing), Some(&max), Some(&min)) = (self.spacing, sigmas.first(), sigmas.last()) {
            *sigmas = spacing.levels(max, min, sigmas.len());
        }
    }
}

pub(super) fn request(parameter: &str, found: String, expected: &str) -> Error {
    Error::InvalidRequest { parameter: parameter.into(), found, expected: expected.into() }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what this function is for")]
pub(super) fn single_precision(x: f64) -> f64 {
    f64::from(x as f32)
}

/// `count` evenly spaced numbers from `start` to `stop`, both included; `start` alone if one.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let step = (stop - start) / count.saturating_sub(1).max(1) as f64;
    let last = |i| i + 1 == count && count > 1;
    (0..count).map(|i| if last(i) { stop } else { i as f64 * step + start }).collect()
}

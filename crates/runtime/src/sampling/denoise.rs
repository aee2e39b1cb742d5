//! The denoising loop: noise to latents in the token space of the denoisers, with guidance and given tokens.

mod recording;
#[cfg(feature = "families")]
pub mod rollout;

use kinora_kernels::{CancelToken, Device, Executable, Graph};

use self::recording::{Course, Step};
pub use self::recording::{MovingSizes, Sizes};
use super::guidance::Guidance;
use super::noise;
use super::schedule::Schedule;
use super::solvers::Solver;
use super::step_cache::StepCache;
use crate::error::{Error, Result};
use crate::executables::{Executables, Key, Lease};
use crate::models::family::{Beside, Denoiser, Spacing};

/// A denoiser and the part of a run that is its own.
pub struct Expert {
    /// The model.
    pub denoiser: Box<dyn Denoiser>,
    /// It does the steps at this timestep and above, as far as none before it does.
    pub lowest_timestep: f32,
}

/// One generation of L tokens.
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    /// What it shows: text states `[T, Ct]`.
    pub prompt: &'a [f32],
    /// What it is guided away from; without it guidance is off and costs nothing.
    pub negative: Option<&'a [f32]>,
    /// How strongly it is guided.
    pub guidance: Guidance,
    /// The noise levels.
    pub schedule: &'a Schedule,
    /// What leads from one to the next.
    pub solver: &'a dyn Solver,
    /// Decides the fresh noise of solvers that add some.
    pub seed: u64,
    /// Tokens in time, height and width: L together, with those beside them.
    pub grid: [usize; 3],
    /// Tokens after those of the grid, as high and wide.
    pub beside: &'a [Beside],
    /// Noise on each of the L tokens at the start, in thousandths; empty if all are pure noise. A token stays at that
    /// level until the schedule falls below it, so a clean one stays as it is. To the solver, what follows is the whole run.
    pub noise: &'a [u16],
    /// What is given beside each token `[L, G]`, for a denoiser that is given channels.
    pub features: &'a [f32],
    /// States of the pictures that it attends to `[Tp, Cp]`, for a denoiser that does.
    pub pictures: &'a [f32],
}

impl Sequence<'_> {
    /// L.
    fn length(&self) -> usize {
        let [frames, height, width] = self.grid;
        (frames + self.beside.iter().map(|own| own.length).sum::<usize>()) * height * width
    }
}

/// Everything a denoising run is made of: sequences that share one packed row of R tokens, and attend only to themselves.
pub struct Denoise<'a> {
    /// The models from high noise to low, at least one, which agree in what a token is.
    pub experts: &'a [Expert],
    /// The generations.
    pub sequences: &'a [Sequence<'a>],
    /// How far apart latents are.
    pub spacing: Spacing,
    /// Features of a token that guidance acts on, counted from the first.
    pub guided_channels: usize,
    /// How strongly a second branch of the models steers, where that is not theirs.
    pub conditioning_scale: Option<f32>,
    /// Below which foreseen change a step is made from the one before, if any is.
    pub step_cache: Option<f32>,
    /// Predict the clean tokens after every so many steps; 0 for never. Costs a small readback each time.
    pub predict_every: usize,
}

/// A finished denoising step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDone {
    /// Which, from 1.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// Whether the model was not asked: what it said before was used again.
    pub reused: bool,
    /// The clean tokens `[R, C]` as the model predicts them now, where they were asked for.
    pub predicted: Option<Vec<f32>>,
}

/// Where a run stands between two steps, in the memory of the host: all it takes to go on from there on another device.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Steps that are done.
    pub steps: usize,
    /// The tokens after them, and what was predicted before `[(1 + history) R, C]`; none before the first.
    state: Vec<f32>,
    /// What the expert said so far, where that may be used again.
    cache: StepCache,
}

impl Denoise<'_> {
    /// Turns `tokens [R, C]`, the noisy tokens of all sequences one after another, into the latents of each sequence.
    /// One that is not finite is an error of its own. `on_step` hears of each finished step and how many there are.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`]; per sequence [`Error::NonFinite`] naming the layer.
    pub async fn run(
        &self,
        runner: (&Device, &Executables),
        tokens: &[f32],
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        self.go_on(runner, tokens, &mut Standing::default(), cancel, on_step).await
    }

    /// [`run`](Self::run) from where a run stands that was interrupted; `standing` follows it. The bits are those of one that
    /// was not.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn go_on(
        &self,
        runner: (&Device, &Executables),
        tokens: &[f32],
        standing: &mut Standing,
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let course = self.course()?;
        let steps = &course.steps;
        if standing.steps == 0 {
            // The tokens, and room for what was predicted before.
            standing.state = tokens.to_vec();
            standing.state.resize(tokens.len() * (1 + course.history), 0.0);
        }
        let mut layer = None;
        for own in steps[standing.steps.min(steps.len())..].chunk_by(|a, b| a.expert == b.expert) {
            let start = standing.state.clone();
            let mut exec = self.start(runner, own[0].expert, &course, &start, cancel).await?;
            for step in own {
                let reused = self.advance(runner, &mut exec, step, &course, standing, cancel).await?;
                standing.steps += 1;
                let done = standing.steps;
                // The last step's result is the clip itself.
                let predict = self.predict_every > 0 && done.is_multiple_of(self.predict_every) && done < steps.len();
                let predicted = predict.then(|| standing.state[tokens.len()..][..tokens.len()].to_vec());
                on_step(StepDone { step: done, steps: steps.len(), reused, predicted }).await?;
            }
            // Another expert says other things.
            standing.cache = StepCache::default();
            if standing.state.iter().any(|v| !v.is_finite()) {
                exec.write("state", &start)?;
                match exec.find_non_finite().await {
                    Err(found @ kinora_kernels::Error::NonFinite { .. }) => layer = layer.or(Some(found)),
                    other => other?,
                }
            }
            runner.1.keep(exec);
        }
        Ok(self.split(&standing.state[..tokens.len()], layer.as_ref()))
    }

    /// One step, by the model or from what it said before; tells which.
    async fn advance(
        &self,
        (device, executables): (&Device, &Executables),
        exec: &mut Lease,
        step: &Step,
        course: &Course,
        standing: &mut Standing,
        cancel: &CancelToken,
    ) -> Result<bool> {
        let Some(threshold) = self.step_cache else {
            self.write(exec, step, course)?;
            exec.run_step().await?;
            // Whoever hears of the step waits for it anyway; that it is here costs only the copy.
            standing.state = exec.read("state").await?;
            return Ok(false);
        };
        let tokens = standing.state[..self.rows() * self.channels()].to_vec();
        if let Some(prediction) = standing.cache.reuse(&tokens, [standing.steps, course.steps.len()], threshold) {
            let key = Key::Reuse(Box::new(self.moving_sizes(course)));
            let mut moving = executables.take(key, device, cancel, || self.record_moving(course))?;
            moving.write("state", &standing.state)?;
            moving.write("prediction", &prediction)?;
            moving.write_indices("level", &course.level)?;
            self.write_moving(&mut moving, step, course)?;
            moving.run().await?;
            standing.state = moving.read("state").await?;
            executables.keep(moving);
            return Ok(true);
        }
        // The step before may have been made elsewhere.
        exec.write("state", &standing.state)?;
        self.write(exec, step, course)?;
        exec.run_step().await?;
        let prediction = exec.read("prediction").await?;
        standing.state = exec.read("state").await?;
        standing.cache.learn(tokens, prediction);
        Ok(false)
    }

    /// An expert ready for its first step, with this state.
    async fn start(
        &self,
        (device, executables): (&Device, &Executables),
        expert: usize,
        course: &Course,
        state: &[f32],
        cancel: &CancelToken,
    ) -> Result<Lease> {
        let fixed = self.fixed(expert, course);
        let key = Key::Denoise(Box::new(self.sizes(expert, course, &fixed)));
        let mut exec = executables.take(key, device, cancel, || self.record(expert, course, &fixed))?;
        fixed.write(&mut exec, self.is_guided())?;
        exec.write("state", state)?;
        exec.write_indices("level", &course.level)?;
        exec.run_prelude().await?;
        Ok(exec)
    }

    /// Writes what changes with every step.
    fn write(&self, exec: &mut Executable, step: &Step, course: &Course) -> Result<()> {
        exec.write_indices("timestep_index", &step.timestep_index)?;
        if self.is_guided() {
            exec.write("guidance", &step.guidance)?;
        }
        self.write_moving(exec, step, course)
    }

    /// Writes by how much a step moves the tokens.
    fn write_moving(&self, exec: &mut Executable, step: &Step, course: &Course) -> Result<()> {
        exec.write("coefficients", &step.table)?;
        if course.noise.is_some() {
            // Stream 0 is the noise that the tokens start from; windows of long clips start from the next few.
            let stream = 1 << 32 | step.index as u64;
            let channels = self.channels();
            let fresh = self.sequences.iter().flat_map(|s| noise::normal(s.seed, stream, s.length() * channels));
            exec.write("noise", &fresh.collect::<Vec<f32>>())?;
        }
        Ok(())
    }

    /// Seconds that a step takes on `device` once its kernels are compiled; `clock` tells seconds.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`].
    pub async fn time_step(
        &self,
        runner: (&Device, &Executables),
        tokens: &[f32],
        clock: &dyn Fn() -> f64,
        cancel: &CancelToken,
    ) -> Result<f64> {
        let course = self.course()?;
        let mut state = tokens.to_vec();
        state.resize(tokens.len() * (1 + course.history), 0.0);
        let mut exec = self.start(runner, course.first_expert(), &course, &state, cancel).await?;
        // The CPU twins need no warming up.
        let runs = if runner.0.preset().is_some() { 2 } else { 1 };
        let mut seconds = 0.0;
        for step in course.steps.iter().take(1).cycle().take(runs) {
            self.write(&mut exec, step, &course)?;
            exec.idle().await?;
            let begun = clock();
            exec.run_step().await?;
            exec.idle().await?;
            seconds = clock() - begun;
        }
        runner.1.keep(exec);
        Ok(seconds)
    }

    /// The executables of the run, one after another.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub(crate) fn stages(&self) -> Result<Vec<(Key, Graph)>> {
        let course = self.course()?;
        let of = |expert: usize| {
            let fixed = self.fixed(expert, &course);
            Ok((Key::Denoise(Box::new(self.sizes(expert, &course, &fixed))), self.record(expert, &course, &fixed)?))
        };
        let mut stages: Vec<(Key, Graph)> =
            course.steps.chunk_by(|a, b| a.expert == b.expert).map(|own| of(own[0].expert)).collect::<Result<_>>()?;
        if self.step_cache.is_some() {
            stages.push((Key::Reuse(Box::new(self.moving_sizes(&course))), self.record_moving(&course)?));
        }
        Ok(stages)
    }

    /// The plan of the run, until another expert takes over: text and timesteps in the prelude, one step replayed.
    ///
    /// # Errors
    /// [`Error::Kernels`] if prompts, tokens and model do not fit each other.
    pub fn plan(&self) -> Result<Graph> {
        let course = self.course()?;
        let expert = course.first_expert();
        self.record(expert, &course, &self.fixed(expert, &course))
    }

    /// The latents of each sequence, if finite; of the others the layer where it began, if that was found.
    fn split(&self, latents: &[f32], layer: Option<&kinora_kernels::Error>) -> Vec<Result<Vec<f32>>> {
        let channels = self.channels();
        let mut rest = latents;
        let lengths = self.sequences.iter().map(|s| s.length() * channels);
        let parts = lengths.map(|length| {
            let (own, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            match own.iter().filter(|v| !v.is_finite()).count() {
                0 => Ok(own.to_vec()),
                count => {
                    let latents = Error::NonFinite { at: "latents".into(), count, total: own.len() };
                    Err(layer.cloned().map_or(latents, Error::Kernels))
                }
            }
        });
        parts.collect()
    }
}

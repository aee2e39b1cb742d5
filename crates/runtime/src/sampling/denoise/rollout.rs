//! A clip block by block, for a [causal](crate::models::causal) denoiser: each block goes from noise to clean with what the blocks
//! before left in the cache in view, and then leaves its own keys and values there.

use kinora_kernels::op::{Amplitude, LinearStep};
use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, LinearStepInputs, Plan};

use super::super::guidance::Guidance;
use super::recording::{Timesteps, amplitude, table_input};
use crate::conditioning::PURE_NOISE;
use crate::error::{Error, Result};
use crate::executables::{Executables, Key, Lease};
use crate::layout::Chosen;
use crate::models::causal::{Cached, Causal, Context};
use crate::models::family::{Call, Denoiser, DenoiserInputs, Spacing, Table};
use crate::sampling::schedule::Schedule;
use crate::sampling::solvers::Solver;
use crate::sampling::track::Track;

/// The plan that denoises a block, and the one that puts it into the cache.
const DENOISE: usize = 0;
const KEEP: usize = 1;

/// What all blocks of a clip have in common.
pub struct Rollout<'a> {
    denoiser: &'a dyn Denoiser,
    causal: Causal,
    solver: &'a dyn Solver,
    /// Tokens of a block in time, height and width.
    grid: [usize; 3],
    branches: Branches,
    spacing: Spacing,
    timesteps: Timesteps,
    /// Of the first block, and of those that follow.
    steps: [Vec<BlockStep>; 2],
    /// What the model is told of a finished block.
    kept_row: u32,
    noise: Option<Amplitude>,
}

/// What a block is denoised under: one text, or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branches {
    /// Rows of the text, and of the one that is guided away from, if there is one.
    pub text_rows: Vec<usize>,
    /// Features of a token that guidance acts on, counted from the first.
    pub guided_channels: usize,
}

/// What a block follows.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Text states `[T, Ct]`: as many as there are branches.
    pub texts: &'a [&'a [f32]],
    /// How strongly it is guided.
    pub guidance: Guidance,
}

/// Inputs of the text of each branch. The second has a cache of its own, since what is in it comes of its text too.
const TEXTS: [&str; 2] = ["text", "unconditional text"];

/// One step of a block.
struct BlockStep {
    /// Row of its timestep.
    row: u32,
    /// The level of noise that it begins at, as guidance is told.
    sigma: f32,
    table: [f32; LinearStep::COEFFICIENTS],
}

/// Everything that the plans depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    grid: [usize; 3],
    branches: Branches,
    timesteps: usize,
    spacing: [u32; 3],
    history: usize,
    noise: Option<Amplitude>,
}

/// A clip that is being made.
pub struct Running {
    lease: Lease,
    cached: Cached,
    /// Tokens in time so far.
    frames: usize,
}

impl<'a> Rollout<'a> {
    /// Blocks of so many tokens in height and width, `first` for the levels of the first one. None for a denoiser that is not
    /// causal.
    pub fn new(
        denoiser: &'a dyn Denoiser,
        solver: &'a dyn Solver,
        [first, later]: [&Schedule; 2],
        [height, width]: [usize; 2],
        branches: Branches,
        spacing: Spacing,
    ) -> Option<Self> {
        let causal = denoiser.causal()?;
        let mut timesteps = Timesteps::of(denoiser.is_told_ends());
        let steps = [first, later].map(|schedule| {
            let track = Track::new(schedule, solver, PURE_NOISE);
            let sigma = |index: usize| schedule.sigmas.get(index).copied().unwrap_or(0.0);
            let step = |index| BlockStep { row: timesteps.of_step(&track, index), sigma: sigma(index), table: track.row(index).packed() };
            (0..schedule.num_steps()).map(step).collect()
        });
        let kept_row = timesteps.row_of(causal.context_noise, causal.context_noise);
        let noise = solver.takes_noise().then(|| amplitude(solver));
        let grid = [causal.block_frames, height, width];
        Some(Self { denoiser, causal, solver, grid, branches, spacing, timesteps, steps, kept_row, noise })
    }

    /// Tokens of a block.
    pub fn tokens(&self) -> usize {
        self.grid.iter().product()
    }

    /// Steps of a block.
    pub fn steps(&self, is_first: bool) -> usize {
        self.steps[usize::from(!is_first)].len()
    }

    /// Features of a token.
    fn channels(&self) -> usize {
        self.denoiser.latent_channels() * self.denoiser.packing().iter().product::<usize>()
    }

    /// Tokens of a frame.
    fn area(&self) -> usize {
        self.grid[1] * self.grid[2]
    }

    /// What the denoiser computes for a block from `first_frame` on.
    fn tables(&self, first_frame: usize) -> Vec<Table> {
        self.denoiser.tables(&self.call(&[self.grid], &self.branches.text_rows[..1], first_frame))
    }

    fn call<'c>(&'c self, grids: &'c [[usize; 3]], text_rows: &'c [usize], first_frame: usize) -> Call<'c> {
        let Timesteps { starts: timesteps, ends, .. } = &self.timesteps;
        Call {
            grids,
            beside: &[],
            text_rows,
            picture_rows: &[0],
            timesteps,
            ends,
            first_frame,
            conditioning_scale: None,
            variance: false,
            spacing: self.spacing,
        }
    }

    /// What the plans depend on, as a key.
    pub(crate) fn key(&self) -> Key {
        Key::Rollout(Box::new(Sizes {
            grid: self.grid,
            branches: self.branches.clone(),
            timesteps: self.timesteps.starts.len(),
            spacing: self.spacing.latent.map(f32::to_bits),
            history: self.solver.history(),
            noise: self.noise,
        }))
    }

    /// Both plans.
    pub(crate) fn plans(&self) -> Result<Chosen> {
        Ok(Chosen::group(vec![self.record(DENOISE)?, self.record(KEEP)?]))
    }

    fn record(&self, which: usize) -> Result<Graph> {
        let plan = Plan::new();
        let once = |name: &str, dims: &[usize]| plan.input(name, dims, Cadence::Once);
        let (rows, history, capacity) = (self.tokens(), self.solver.history(), self.causal.capacity());
        let [_, height, width] = self.grid;
        let state = plan.state("state", &[(1 + history) * rows, self.channels()]);
        let cache_rows = capacity * self.area();
        let context = (capacity > 0).then(|| Context {
            grid: [capacity, height, width],
            mask: once("mask", &[cache_rows + rows]),
            order: (which == KEEP).then(|| plan.index_input("order", cache_rows, Cadence::EveryStep)),
        });
        let tables = self.tables(0);
        let mut inputs = DenoiserInputs {
            tokens: state.first_rows(rows),
            text: once(TEXTS[0], &[self.branches.text_rows[0], self.denoiser.text_channels()]),
            features: None,
            pictures: None,
            context,
            timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
            tables: tables.iter().map(|table| (table.name, once(&table_input(table), &table.shape))).collect(),
        };
        let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
        let mut prediction = self.denoiser.record(&plan, &self.call(&[self.grid], &self.branches.text_rows[..1], 0), &inputs);
        if let [_, unconditional] = self.branches.text_rows[..] {
            inputs.text = once(TEXTS[1], &[unconditional, self.denoiser.text_channels()]);
            let record = || self.denoiser.record(&plan, &self.call(&[self.grid], &self.branches.text_rows[1..], 0), &inputs);
            let other = plan.scope("unconditional", record);
            if which == DENOISE {
                let features = self.channels();
                let [both, other] = [prediction, other].map(|x| x.contiguous().reshape(&[1, rows, 1, 1, features]));
                let index = plan.index_input("unconditional", rows, Cadence::Once);
                let guidance = every("guidance", &[rows]);
                prediction =
                    both.concat_frames(other).reshape(&[2 * rows, features]).guide(index, guidance, None, self.branches.guided_channels);
            }
        }
        if which == DENOISE {
            let inputs = LinearStepInputs {
                level: plan.index_input("level", rows, Cadence::Once),
                table: every("coefficients", &[1, LinearStep::COEFFICIENTS]),
                noise: self.noise.map(|amplitude| (every("noise", &[rows, self.channels()]), amplitude)),
            };
            plan.output("state", state.linear_step(prediction, &inputs, history));
        }
        Ok(plan.finish()?)
    }

    /// Nothing made yet.
    ///
    /// # Errors
    /// [`Error::Kernels`], [`Error::Memory`].
    pub fn start(&self, (device, executables): (&Device, &Executables), cancel: &CancelToken) -> Result<Running> {
        let lease = executables.take_pieces(self.key(), device, cancel, || self.plans())?;
        Ok(Running { lease, cached: Cached::default(), frames: 0 })
    }

    /// The clean tokens `[R, C]` of the next block, from noise. `fresh` gives the noise `[R, C]` that a
    /// step adds, for a solver that adds some; `on_step` hears of finished steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::NonFinite`], [`Error::Kernels`], those of `on_step`.
    pub async fn block(
        &self,
        running: &mut Running,
        words: &Words<'_>,
        noise: &[f32],
        fresh: &mut dyn FnMut(usize) -> Vec<f32>,
        on_step: &mut impl AsyncFnMut(usize) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let mut state = noise.to_vec();
        state.resize(noise.len() * (1 + self.solver.history()), 0.0);
        let (rows, is_first) = (self.tokens(), running.frames == 0);
        let exec = self.ready(running, DENOISE, words)?;
        let is_guided = self.branches.text_rows.len() > 1;
        if is_guided {
            exec.write_indices("unconditional", &(rows as u32..2 * rows as u32).collect::<Vec<_>>())?;
        }
        exec.write("state", &state)?;
        exec.write_indices("level", &vec![0; rows])?;
        exec.run_prelude().await?;
        let steps = &self.steps[usize::from(!is_first)];
        for (at, step) in steps.iter().enumerate() {
            exec.write_indices("timestep_index", &vec![step.row; rows])?;
            exec.write("coefficients", &step.table)?;
            if is_guided {
                exec.write("guidance", &vec![words.guidance.at(step.sigma, step.sigma); rows])?;
            }
            if self.noise.is_some() {
                // The last step leaves none.
                exec.write("noise", &if at + 1 < steps.len() { fresh(at) } else { vec![0.0; noise.len()] })?;
            }
            exec.run_step().await?;
            exec.idle().await?;
            on_step(at + 1).await?;
        }
        let mut clean = exec.read("state").await?;
        clean.truncate(noise.len());
        let count = clean.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(Error::NonFinite { at: "latents".into(), count, total: clean.len() });
        }
        self.keep(running, words).await?;
        Ok(clean)
    }

    /// Puts clean tokens `[R, C]` that are given into the cache, as if they had been made.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`].
    pub async fn give(&self, running: &mut Running, words: &Words<'_>, tokens: &[f32]) -> Result<()> {
        let mut state = tokens.to_vec();
        state.resize(tokens.len() * (1 + self.solver.history()), 0.0);
        running.lease.piece(KEEP).write("state", &state)?;
        self.keep(running, words).await
    }

    /// Puts what is in the state into the cache.
    async fn keep(&self, running: &mut Running, words: &Words<'_>) -> Result<()> {
        if self.causal.capacity() > 0 {
            let exec = self.ready(running, KEEP, words)?;
            exec.write_indices("timestep_index", &vec![self.kept_row; self.tokens()])?;
            exec.run_prelude().await?;
            let mut after = running.cached;
            let order = after.take(&self.causal, self.area());
            let exec = running.lease.piece(KEEP);
            exec.write_indices("order", &order)?;
            exec.run_step().await?;
            running.cached = after;
        }
        running.frames += self.grid[0];
        Ok(())
    }

    /// A plan with what it needs to know of the next block: the two share their memory, so each is told anew.
    fn ready<'r>(&self, running: &'r mut Running, which: usize, words: &Words<'_>) -> Result<&'r mut Executable> {
        let exec = running.lease.piece(which);
        for (name, text) in TEXTS.into_iter().zip(words.texts) {
            exec.write(name, text)?;
        }
        for table in self.tables(running.frames) {
            exec.write(&table_input(&table), &table.values)?;
        }
        if self.causal.capacity() > 0 {
            exec.write("mask", &running.cached.mask(&self.causal, self.area()))?;
        }
        Ok(exec)
    }
}

impl Running {
    /// Gives back what it ran on.
    pub fn end(self, executables: &Executables) {
        executables.keep(self.lease);
    }
}

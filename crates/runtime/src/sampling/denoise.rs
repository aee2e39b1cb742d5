//! The denoising loop: noise to latents in the token space of the denoisers, with guidance and given tokens.

use kinora_kernels::op::{Amplitude, LinearStep};
use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, LinearStepInputs, Plan, Rescale};

use super::guidance::Guidance;
use super::noise;
use super::schedule::Schedule;
use super::solvers::Solver;
use super::solvers::table::Variance;
use super::track::{Track, levels};
use crate::error::{Error, Result};
use crate::executables::{Executables, Key, Lease};
use crate::models::family::{Call, Denoiser, DenoiserInputs, Table};

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
    /// Tokens in time, height and width, L together.
    pub grid: [usize; 3],
    /// Noise on each of the L tokens at the start, in thousandths; empty if all are pure noise. A token stays at that
    /// level until the schedule falls below it, so a clean one stays as it is. To the solver, what follows is the whole run.
    pub noise: &'a [u16],
}

impl Sequence<'_> {
    /// L.
    fn length(&self) -> usize {
        self.grid.iter().product()
    }
}

/// Everything a denoising run is made of: sequences that share one packed row of R tokens, and attend only to themselves.
pub struct Denoise<'a> {
    /// The models from high noise to low, at least one, which agree in what a token is.
    pub experts: &'a [Expert],
    /// The generations.
    pub sequences: &'a [Sequence<'a>],
    /// Seconds, and rows and columns of pixels, from one latent to the next.
    pub spacing: [f32; 3],
    /// Features of a token that guidance acts on, counted from the first.
    pub guided_channels: usize,
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
    /// The clean tokens `[R, C]` as the model predicts them now, where they were asked for.
    pub predicted: Option<Vec<f32>>,
}

/// One step as the kernels see it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Step {
    /// Which of the experts does it.
    expert: usize,
    /// Row of the timestep table for each row of each branch `[Rv]`.
    timestep_index: Vec<u32>,
    /// Coefficients of each level of noise that tokens start from `[T, 12]`.
    table: Vec<f32>,
    /// `[R]`.
    guidance: Vec<f32>,
    /// Which of the schedule it is.
    index: usize,
}

/// A run before anything is recorded.
struct Course {
    /// Which of the levels of noise each token starts from `[R]`.
    level: Vec<u32>,
    /// The distinct timesteps of the run.
    timesteps: Vec<f32>,
    /// Those steps in which something moves.
    steps: Vec<Step>,
    /// Predicted clean samples that are kept beside each token.
    history: usize,
    /// Where fresh noise has its amplitude from, if there is any.
    noise: Option<Amplitude>,
}

/// What a run writes once, before its first step. Its plan knows nothing of it but sizes, so that one of the same sizes follows
/// other prompts, for as many steps, without being prepared again.
struct Fixed {
    /// Text states of all branches, conditional first.
    text: Vec<f32>,
    /// Rows of text of each branch.
    text_rows: Vec<usize>,
    /// Tokens of each branch in time, height and width.
    grids: Vec<[usize; 3]>,
    /// Those of the expert.
    tables: Vec<Table>,
    /// The token of each row of the prediction.
    branches: Vec<u32>,
    /// The row to guide each token away from.
    unconditional: Vec<u32>,
    /// How far the prediction of each token is rescaled, and where each sequence begins and the last ends.
    rescale: Option<(Vec<f32>, Vec<u32>)>,
}

/// Everything that the plan of a run depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    expert: usize,
    rows: usize,
    grids: Vec<[usize; 3]>,
    text_rows: Vec<usize>,
    timesteps: usize,
    /// Bits of the spacing.
    spacing: [u32; 3],
    guided_channels: usize,
    is_rescaled: bool,
    levels: usize,
    history: usize,
    noise: Option<Amplitude>,
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
        let course = self.course()?;
        let steps = &course.steps;
        // The tokens, and room for what was predicted before.
        let mut state = tokens.to_vec();
        state.resize(tokens.len() * (1 + course.history), 0.0);
        let mut layer = None;
        let mut done = 0_usize;
        for own in steps.chunk_by(|a, b| a.expert == b.expert) {
            let start = state;
            let mut exec = self.start(runner, own[0].expert, &course, &start, cancel).await?;
            for step in own {
                self.write(&mut exec, step, &course)?;
                exec.run_step().await?;
                done += 1;
                if done < steps.len() {
                    exec.idle().await?;
                }
                // The last step's result is the clip itself.
                let predict = self.predict_every > 0 && done.is_multiple_of(self.predict_every) && done < steps.len();
                let predicted = match predict {
                    true => Some(exec.read("state").await?[tokens.len()..][..tokens.len()].to_vec()),
                    false => None,
                };
                on_step(StepDone { step: done, steps: steps.len(), predicted }).await?;
            }
            state = exec.read("state").await?;
            if state.iter().any(|v| !v.is_finite()) {
                exec.write("state", &start)?;
                match exec.find_non_finite().await {
                    Err(found @ kinora_kernels::Error::NonFinite { .. }) => layer = layer.or(Some(found)),
                    other => other?,
                }
            }
            runner.1.keep(exec);
        }
        Ok(self.split(&state[..tokens.len()], layer.as_ref()))
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
        exec.write("coefficients", &step.table)?;
        if self.is_guided() {
            exec.write("guidance", &step.guidance)?;
        }
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
        course.steps.chunk_by(|a, b| a.expert == b.expert).map(|own| of(own[0].expert)).collect()
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

    /// Features of a token.
    fn channels(&self) -> usize {
        let denoiser = &self.experts[0].denoiser;
        denoiser.latent_channels() * denoiser.packing().iter().product::<usize>()
    }

    /// R.
    fn rows(&self) -> usize {
        self.sequences.iter().map(Sequence::length).sum()
    }

    /// For each row of the prediction the token it belongs to, and for each token the row to guide away from: the
    /// conditional rows first, then those of the sequences with a negative prompt.
    fn branches(&self) -> (Vec<u32>, Vec<u32>) {
        let mut tokens: Vec<u32> = (0..self.rows() as u32).collect();
        let mut unconditional = tokens.clone();
        let mut first = 0;
        for sequence in self.sequences {
            let own = first..first + sequence.length();
            if sequence.negative.is_some() {
                for row in own.clone() {
                    unconditional[row] = tokens.len() as u32;
                    tokens.push(row as u32);
                }
            }
            first = own.end;
        }
        (tokens, unconditional)
    }

    /// Whether any sequence has another branch.
    fn is_guided(&self) -> bool {
        self.sequences.iter().any(|s| s.negative.is_some())
    }

    /// Everything about the run that is known before it.
    fn course(&self) -> Result<Course> {
        let (tokens, _) = self.branches();
        let mut course = Course { level: Vec::new(), timesteps: Vec::new(), steps: Vec::new(), history: 0, noise: None };
        // Previews are the cleaned tokens of the step before.
        course.history = usize::from(self.predict_every > 0);
        let mut tracks: Vec<Vec<Track>> = Vec::new();
        for sequence in self.sequences {
            let first = tracks.iter().map(Vec::len).sum::<usize>() as u32;
            let (distinct, own) = levels(sequence.noise, sequence.length());
            course.level.extend(own.iter().map(|level| first + level));
            tracks.push(distinct.into_iter().map(|noise| Track::new(sequence.schedule, sequence.solver, noise)).collect());
            course.history = course.history.max(sequence.solver.history());
            if sequence.solver.takes_noise() {
                let amplitude = match sequence.solver.variance() {
                    Variance::Fixed => Amplitude::One,
                    Variance::Learned => Amplitude::Root,
                    Variance::Range => Amplitude::Exponential,
                };
                // Packs hold one kind only.
                course.noise = Some(amplitude);
            }
        }
        let count = self.sequences.iter().map(|s| s.schedule.num_steps()).max().unwrap_or(0);
        for index in 0..count {
            let of_level: Vec<u32> = tracks.iter().flatten().map(|track| course.row_of(track.timestep(index))).collect();
            let guidance = |s: &Sequence<'_>| s.guidance.at(s.schedule.sigmas.get(index).copied().unwrap_or(0.0));
            // Packed sequences have schedules that differ little; the noisiest of them decides.
            let timestep = self.sequences.iter().filter_map(|s| s.schedule.timesteps.get(index)).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let expert = self.experts.iter().position(|expert| timestep >= expert.lowest_timestep);
            if tracks.iter().flatten().any(|track| track.moves(index)) {
                course.steps.push(Step {
                    expert: expert.unwrap_or(self.experts.len() - 1),
                    timestep_index: tokens.iter().map(|token| of_level[course.level[*token as usize] as usize]).collect(),
                    table: tracks.iter().flatten().flat_map(|track| track.row(index).packed()).collect(),
                    guidance: self.sequences.iter().flat_map(|s| std::iter::repeat_n(guidance(s), s.length())).collect(),
                    index,
                });
            }
        }
        Ok(course)
    }

    /// What an expert needs to know of the run before it begins.
    fn fixed(&self, expert: usize, course: &Course) -> Fixed {
        let denoiser = &self.experts[expert].denoiser;
        let guided = || self.sequences.iter().filter(|s| s.negative.is_some());
        let grids: Vec<[usize; 3]> = self.sequences.iter().chain(guided()).map(|s| s.grid).collect();
        let texts: Vec<&[f32]> = self.sequences.iter().map(|s| s.prompt).chain(guided().filter_map(|s| s.negative)).collect();
        let text_rows: Vec<usize> = texts.iter().map(|states| states.len() / denoiser.text_channels()).collect();
        let (branches, unconditional) = self.branches();
        let call = Call { grids: &grids, text_rows: &text_rows, timesteps: &course.timesteps, spacing: self.spacing };
        let tables = denoiser.tables(&call);
        Fixed { text: texts.concat(), text_rows, grids, tables, branches, unconditional, rescale: self.rescale() }
    }

    fn sizes(&self, expert: usize, course: &Course, fixed: &Fixed) -> Sizes {
        Sizes {
            expert,
            rows: fixed.unconditional.len(),
            grids: fixed.grids.clone(),
            text_rows: fixed.text_rows.clone(),
            timesteps: course.timesteps.len(),
            spacing: self.spacing.map(f32::to_bits),
            guided_channels: self.guided_channels,
            is_rescaled: fixed.rescale.is_some(),
            levels: course.levels(),
            history: course.history,
            noise: course.noise,
        }
    }

    fn record(&self, expert: usize, course: &Course, fixed: &Fixed) -> Result<Graph> {
        let plan = Plan::new();
        let once = |name: &str, dims: &[usize]| plan.input(name, dims, Cadence::Once);
        let index = |name, indices: &[u32]| plan.index_input(name, indices.len(), Cadence::Once);
        let denoiser = &self.experts[expert].denoiser;
        let Fixed { text_rows, grids, tables, branches, unconditional, rescale, .. } = fixed;
        let rows = unconditional.len();
        let state = plan.state("state", &[(1 + course.history) * rows, self.channels()]);
        let tokens = state.first_rows(rows);
        let call = Call { grids, text_rows, timesteps: &course.timesteps, spacing: self.spacing };
        let inputs = DenoiserInputs {
            tokens: if branches.len() == rows { tokens } else { tokens.gather_rows(index("branches", branches)) },
            text: once("text", &[text_rows.iter().sum(), denoiser.text_channels()]),
            timestep_index: plan.index_input("timestep_index", branches.len(), Cadence::EveryStep),
            tables: tables.iter().map(|table| (table.name, once(&table_input(table), &table.shape))).collect(),
        };
        let mut prediction = denoiser.record(&plan, &call, &inputs);
        if self.is_guided() {
            let guidance = plan.input("guidance", &[rows], Cadence::EveryStep);
            let rescale = rescale.as_ref().map(|(_, starts)| Rescale { share: once("rescale", &[rows]), starts: index("starts", starts) });
            prediction = prediction.guide(index("unconditional", unconditional), guidance, rescale, self.guided_channels);
        }
        let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
        let inputs = LinearStepInputs {
            level: plan.index_input("level", rows, Cadence::Once),
            table: every("coefficients", &[course.levels(), LinearStep::COEFFICIENTS]),
            noise: course.noise.map(|amplitude| (every("noise", &[rows, self.channels()]), amplitude)),
        };
        plan.output("state", state.linear_step(prediction, &inputs, course.history));
        Ok(plan.finish()?)
    }

    /// How far the prediction of each token is rescaled, and where each sequence begins and the last ends, if any is rescaled.
    fn rescale(&self) -> Option<(Vec<f32>, Vec<u32>)> {
        let (mut rescale, mut starts) = (Vec::new(), vec![0]);
        for sequence in self.sequences {
            rescale.resize(rescale.len() + sequence.length(), sequence.guidance.rescale);
            starts.push(rescale.len() as u32);
        }
        rescale.iter().any(|share| *share > 0.0).then_some((rescale, starts))
    }
}

impl Fixed {
    fn write(&self, exec: &mut Executable, is_guided: bool) -> Result<()> {
        exec.write("text", &self.text)?;
        for table in &self.tables {
            exec.write(&table_input(table), &table.values)?;
        }
        if self.branches.len() != self.unconditional.len() {
            exec.write_indices("branches", &self.branches)?;
        }
        if is_guided {
            exec.write_indices("unconditional", &self.unconditional)?;
            if let Some((share, starts)) = &self.rescale {
                exec.write("rescale", share)?;
                exec.write_indices("starts", starts)?;
            }
        }
        Ok(())
    }
}

/// The input of the plan that a table is written to; families name tables, not inputs.
fn table_input(table: &Table) -> String {
    format!("table.{}", table.name)
}

impl Course {
    /// How many levels of noise tokens start from.
    fn levels(&self) -> usize {
        self.level.iter().max().map_or(1, |last| *last as usize + 1)
    }

    /// The row of a timestep in the table, which gets it if it is new.
    fn row_of(&mut self, timestep: f32) -> u32 {
        let known = self.timesteps.iter().rposition(|t| t.to_bits() == timestep.to_bits());
        let row = known.unwrap_or_else(|| {
            self.timesteps.push(timestep);
            self.timesteps.len() - 1
        });
        row as u32
    }

    /// The expert of the first step.
    fn first_expert(&self) -> usize {
        self.steps.first().map_or(0, |step| step.expert)
    }
}

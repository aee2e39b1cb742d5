//! What a run of denoising writes and records: which steps move which tokens, and the plan of one step.

use kinora_kernels::op::{Amplitude, LinearStep};
use kinora_kernels::{Cadence, Executable, Graph, LinearStepInputs, Plan, Rescale, Tensor};

use super::super::solvers::Solver;
use super::super::solvers::table::Variance;
use super::super::track::{Track, levels};
use super::{Denoise, Sequence};
use crate::error::Result;
use crate::models::family::{Beside, Call, DenoiserInputs, Table};

/// One step as the kernels see it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Step {
    /// Which of the experts does it.
    pub(super) expert: usize,
    /// Row of the timestep table for each row of each branch `[Rv]`.
    pub(super) timestep_index: Vec<u32>,
    /// Coefficients of each level of noise that tokens start from `[T, 12]`.
    pub(super) table: Vec<f32>,
    /// `[R]`.
    pub(super) guidance: Vec<f32>,
    /// Which of the schedule it is.
    pub(super) index: usize,
}

/// A run before anything is recorded.
pub(super) struct Course {
    /// Which of the levels of noise each token starts from `[R]`.
    pub(super) level: Vec<u32>,
    /// The distinct timesteps of the run.
    pub(super) timesteps: Timesteps,
    /// Those steps in which something moves.
    pub(super) steps: Vec<Step>,
    /// Predicted clean samples that are kept beside each token.
    pub(super) history: usize,
    /// Where fresh noise has its amplitude from, if there is any.
    pub(super) noise: Option<Amplitude>,
}

/// What a run writes once, before its first step. Its plan knows nothing of it but sizes, so that one of the same sizes follows
/// other prompts, for as many steps, without being prepared again.
pub(super) struct Fixed {
    /// Text states of all branches, conditional first.
    pub(super) text: Vec<f32>,
    /// Rows of text of each branch.
    pub(super) text_rows: Vec<usize>,
    /// What is given beside each token `[R, G]`.
    pub(super) features: Vec<f32>,
    /// States of pictures of all branches.
    pub(super) pictures: Vec<f32>,
    /// Rows of pictures of each branch.
    pub(super) picture_rows: Vec<usize>,
    /// Tokens of each branch in time, height and width.
    pub(super) grids: Vec<[usize; 3]>,
    /// Those beside them.
    pub(super) beside: Vec<Vec<Beside>>,
    /// Those of the expert.
    pub(super) tables: Vec<Table>,
    /// The token of each row of the prediction.
    pub(super) branches: Vec<u32>,
    /// The row to guide each token away from.
    pub(super) unconditional: Vec<u32>,
    /// How far the prediction of each token is rescaled, and where each sequence begins and the last ends.
    pub(super) rescale: Option<(Vec<f32>, Vec<u32>)>,
}

/// Everything that the plan of a run depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    expert: usize,
    rows: usize,
    grids: Vec<[usize; 3]>,
    beside: Vec<Vec<Beside>>,
    text_rows: Vec<usize>,
    picture_rows: Vec<usize>,
    timesteps: usize,
    /// Bits of the spacing.
    spacing: [u32; 3],
    guided_channels: usize,
    /// Bits of it.
    conditioning_scale: Option<u32>,
    is_rescaled: bool,
    levels: usize,
    history: usize,
    noise: Option<Amplitude>,
    is_cached: bool,
}

/// Everything that the plan of a step without its model depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovingSizes {
    rows: usize,
    channels: usize,
    levels: usize,
    history: usize,
    noise: Option<Amplitude>,
}

impl Denoise<'_> {
    /// Features of a token.
    pub(super) fn channels(&self) -> usize {
        let denoiser = &self.experts[0].denoiser;
        denoiser.latent_channels() * denoiser.packing().iter().product::<usize>()
    }

    /// R.
    pub(super) fn rows(&self) -> usize {
        self.sequences.iter().map(Sequence::length).sum()
    }

    /// For each row of the prediction the token it belongs to, and for each token the row to guide away from: the
    /// conditional rows first, then those of the sequences with a negative prompt.
    pub(super) fn branches(&self) -> (Vec<u32>, Vec<u32>) {
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
    pub(super) fn is_guided(&self) -> bool {
        self.sequences.iter().any(|s| s.negative.is_some())
    }

    /// Everything about the run that is known before it.
    pub(super) fn course(&self) -> Result<Course> {
        let (tokens, _) = self.branches();
        let timesteps = Timesteps::of(self.experts.iter().any(|expert| expert.denoiser.is_told_ends()));
        let mut course = Course { level: Vec::new(), timesteps, steps: Vec::new(), history: 0, noise: None };
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
                // Packs hold one kind only.
                course.noise = Some(amplitude(sequence.solver));
            }
        }
        let count = self.sequences.iter().map(|s| s.schedule.num_steps()).max().unwrap_or(0);
        for index in 0..count {
            let of_level: Vec<u32> = tracks.iter().flatten().map(|track| course.timesteps.of_step(track, index)).collect();
            let guidance = |s: &Sequence<'_>| s.guidance.at(s.schedule.sigmas.get(index).copied().unwrap_or(0.0), s.schedule.share(index));
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
    pub(super) fn fixed(&self, expert: usize, course: &Course) -> Fixed {
        let denoiser = &self.experts[expert].denoiser;
        let guided = || self.sequences.iter().filter(|s| s.negative.is_some());
        let grids: Vec<[usize; 3]> = self.sequences.iter().chain(guided()).map(|s| s.grid).collect();
        let beside: Vec<Vec<Beside>> = self.sequences.iter().chain(guided()).map(|s| s.beside.to_vec()).collect();
        let texts: Vec<&[f32]> = self.sequences.iter().map(|s| s.prompt).chain(guided().filter_map(|s| s.negative)).collect();
        let text_rows: Vec<usize> = texts.iter().map(|states| states.len() / denoiser.text_channels()).collect();
        let (branches, unconditional) = self.branches();
        let features = self.sequences.iter().flat_map(|s| s.features.iter().copied()).collect();
        let pictures: Vec<&[f32]> = self.sequences.iter().chain(guided()).map(|s| s.pictures).collect();
        let channels = denoiser.pictures().map_or(1, |pictures| pictures.channels);
        let picture_rows: Vec<usize> = pictures.iter().map(|states| states.len() / channels).collect();
        let Timesteps { starts: timesteps, ends, .. } = &course.timesteps;
        let tables = denoiser.tables(&Call {
            grids: &grids,
            beside: &beside,
            text_rows: &text_rows,
            picture_rows: &picture_rows,
            timesteps,
            ends,
            first_frame: 0,
            conditioning_scale: self.conditioning_scale,
            variance: course.takes_variance(),
            spacing: self.spacing,
        });
        let (text, pictures, rescale) = (texts.concat(), pictures.concat(), self.rescale());
        Fixed { text, text_rows, features, pictures, picture_rows, grids, beside, tables, branches, unconditional, rescale }
    }

    pub(super) fn sizes(&self, expert: usize, course: &Course, fixed: &Fixed) -> Sizes {
        Sizes {
            expert,
            rows: fixed.unconditional.len(),
            grids: fixed.grids.clone(),
            beside: fixed.beside.clone(),
            text_rows: fixed.text_rows.clone(),
            picture_rows: fixed.picture_rows.clone(),
            timesteps: course.timesteps.starts.len(),
            spacing: self.spacing.latent.map(f32::to_bits),
            guided_channels: self.guided_channels,
            conditioning_scale: self.conditioning_scale.map(f32::to_bits),
            is_rescaled: fixed.rescale.is_some(),
            levels: course.levels(),
            history: course.history,
            noise: course.noise,
            is_cached: self.step_cache.is_some(),
        }
    }

    pub(super) fn moving_sizes(&self, course: &Course) -> MovingSizes {
        let (rows, channels, levels) = (self.rows(), self.channels(), course.levels());
        MovingSizes { rows, channels, levels, history: course.history, noise: course.noise }
    }

    /// The plan of one step from a `prediction [R, C]` that is given.
    pub(super) fn record_moving(&self, course: &Course) -> Result<Graph> {
        let plan = Plan::new();
        let prediction = plan.input("prediction", &[self.rows(), self.channels()], Cadence::EveryStep);
        self.move_by(&plan, prediction, course);
        Ok(plan.finish()?)
    }

    /// Records how a prediction `[R, C]` moves the tokens.
    fn move_by<'p>(&self, plan: &'p Plan, prediction: Tensor<'p>, course: &Course) {
        let (rows, channels) = (self.rows(), self.channels());
        let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
        let inputs = LinearStepInputs {
            level: plan.index_input("level", rows, Cadence::Once),
            table: every("coefficients", &[course.levels(), LinearStep::COEFFICIENTS]),
            noise: course.noise.map(|amplitude| (every("noise", &[rows, channels]), amplitude)),
        };
        let state = plan.state("state", &[(1 + course.history) * rows, channels]);
        plan.output("state", state.linear_step(prediction, &inputs, course.history));
    }

    pub(super) fn record(&self, expert: usize, course: &Course, fixed: &Fixed) -> Result<Graph> {
        let plan = Plan::new();
        let once = |name: &str, dims: &[usize]| plan.input(name, dims, Cadence::Once);
        let index = |name, indices: &[u32]| plan.index_input(name, indices.len(), Cadence::Once);
        let denoiser = &self.experts[expert].denoiser;
        let Fixed { text_rows, picture_rows, grids, beside, tables, branches, unconditional, rescale, .. } = fixed;
        let rows = unconditional.len();
        let state = plan.state("state", &[(1 + course.history) * rows, self.channels()]);
        let tokens = state.first_rows(rows);
        let Timesteps { starts: timesteps, ends, .. } = &course.timesteps;
        let (conditioning_scale, variance, spacing) = (self.conditioning_scale, course.takes_variance(), self.spacing);
        let call = Call { grids, beside, text_rows, picture_rows, timesteps, ends, first_frame: 0, conditioning_scale, variance, spacing };
        let branched = (branches.len() != rows).then(|| index("branches", branches));
        let pictures = denoiser.pictures().filter(|_| picture_rows.iter().any(|rows| *rows > 0));
        let inputs = DenoiserInputs {
            tokens: of_branches(tokens, branched),
            features: (!fixed.features.is_empty()).then(|| of_branches(once("features", &[rows, fixed.features.len() / rows]), branched)),
            pictures: pictures.map(|pictures| once("pictures", &[picture_rows.iter().sum(), pictures.channels])),
            text: once("text", &[text_rows.iter().sum(), denoiser.text_channels()]),
            context: None,
            timestep_index: plan.index_input("timestep_index", branches.len(), Cadence::EveryStep),
            tables: tables.iter().map(|table| (table.name, once(&table_input(table), &table.shape))).collect(),
        };
        let mut prediction = denoiser.record(&plan, &call, &inputs);
        if self.is_guided() {
            let guidance = plan.input("guidance", &[rows], Cadence::EveryStep);
            let rescale = rescale.as_ref().map(|(_, starts)| Rescale { share: once("rescale", &[rows]), starts: index("starts", starts) });
            prediction = prediction.guide(index("unconditional", unconditional), guidance, rescale, self.guided_channels);
        }
        if self.step_cache.is_some() {
            prediction = prediction.contiguous();
            plan.output("prediction", prediction);
        }
        self.move_by(&plan, prediction, course);
        Ok(plan.finish()?)
    }

    /// How far the prediction of each token is rescaled, and where each sequence begins and the last ends, if any is rescaled.
    pub(super) fn rescale(&self) -> Option<(Vec<f32>, Vec<u32>)> {
        let (mut rescale, mut starts) = (Vec::new(), vec![0]);
        for sequence in self.sequences {
            rescale.resize(rescale.len() + sequence.length(), sequence.guidance.rescale);
            starts.push(rescale.len() as u32);
        }
        rescale.iter().any(|share| *share > 0.0).then_some((rescale, starts))
    }
}

impl Fixed {
    pub(super) fn write(&self, exec: &mut Executable, is_guided: bool) -> Result<()> {
        exec.write("text", &self.text)?;
        for (name, values) in [("features", &self.features), ("pictures", &self.pictures)] {
            if !values.is_empty() {
                exec.write(name, values)?;
            }
        }
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

/// The rows of tokens for each row of the prediction, where there are more of these.
fn of_branches<'p>(x: Tensor<'p>, branches: Option<Tensor<'p>>) -> Tensor<'p> {
    branches.map_or(x, |index| x.gather_rows(index))
}

/// The input of the plan that a table is written to; families name tables, not inputs.
pub(super) fn table_input(table: &Table) -> String {
    format!("table.{}", table.name)
}

/// The distinct timesteps of a run, each with the one where its step ends for a denoiser that is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timesteps {
    pub(super) starts: Vec<f32>,
    /// As many, or none.
    pub(super) ends: Vec<f32>,
    has_ends: bool,
}

impl Timesteps {
    pub(super) fn of(has_ends: bool) -> Self {
        Self { has_ends, ..Self::default() }
    }

    /// The row of what the model is told in step `index` of a track.
    pub(super) fn of_step(&mut self, track: &Track, index: usize) -> u32 {
        let end = if track.moves(index) { track.timestep(index + 1) } else { track.timestep(index) };
        self.row_of(track.timestep(index), end)
    }

    /// The row of a timestep and the end of its step, which get one if they are new.
    pub(super) fn row_of(&mut self, start: f32, end: f32) -> u32 {
        let same = |at: &usize| {
            let ends_there = self.ends.get(*at).is_none_or(|known| known.to_bits() == end.to_bits());
            self.starts[*at].to_bits() == start.to_bits() && ends_there
        };
        let known = (0..self.starts.len()).rev().find(same);
        let row = known.unwrap_or_else(|| {
            self.starts.push(start);
            self.ends.extend(self.has_ends.then_some(end));
            self.starts.len() - 1
        });
        row as u32
    }
}

/// Where the amplitude of a solver's fresh noise comes from.
pub(super) fn amplitude(solver: &dyn Solver) -> Amplitude {
    match solver.variance() {
        Variance::Fixed => Amplitude::One,
        Variance::Learned => Amplitude::Root,
        Variance::Range => Amplitude::Exponential,
    }
}

impl Course {
    /// Whether the amplitude of fresh noise is predicted.
    pub(super) fn takes_variance(&self) -> bool {
        matches!(self.noise, Some(Amplitude::Root | Amplitude::Exponential))
    }

    /// How many levels of noise tokens start from.
    pub(super) fn levels(&self) -> usize {
        self.level.iter().max().map_or(1, |last| *last as usize + 1)
    }

    /// The expert of the first step.
    pub(super) fn first_expert(&self) -> usize {
        self.steps.first().map_or(0, |step| step.expert)
    }
}

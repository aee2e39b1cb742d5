//! The denoising loop: noise to latents in the token space of the denoisers, with guidance and given tokens.

use kinora_kernels::{Cadence, CancelToken, Device, Executable, Graph, Plan, Tensor};

use super::guidance::Guidance;
use super::schedule::Schedule;
use crate::conditioning::PURE_NOISE;
use crate::error::{Error, Result};
use crate::models::family::{Call, Denoiser, DenoiserInputs};

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
    /// Tokens in time, height and width, L together.
    pub grid: [usize; 3],
    /// Noise on each of the L tokens at the start, in thousandths; empty if all are pure noise. A token stays at that
    /// level until the schedule falls below it, so a clean one stays as it is.
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
    /// Predict the clean tokens after every so many steps; 0 for never. Costs two small readbacks each time.
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
    /// Change of σ of each token `[R]`.
    dt: Vec<f32>,
    /// `[R]`.
    guidance: Vec<f32>,
    /// σ of each token after the step, if it moves `[R]`.
    sigma: Vec<f32>,
}

impl Step {
    fn write(&self, exec: &mut Executable) -> Result<()> {
        exec.write_indices("timestep_index", &self.timestep_index)?;
        exec.write("dt", &self.dt)?;
        Ok(exec.write("guidance", &self.guidance)?)
    }
}

impl Denoise<'_> {
    /// Turns `tokens [R, C]`, the noisy tokens of all sequences one after another, into the latents of each sequence.
    /// One that is not finite is an error of its own. `on_step` hears of each finished step and how many there are.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`]; per sequence [`Error::NonFinite`] naming the layer.
    pub async fn run(
        &self,
        device: &Device,
        tokens: &[f32],
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let (timesteps, steps) = self.steps();
        // Nothing moves where every token is given.
        let mut latents = tokens.to_vec();
        let mut layer = None;
        let mut done = 0_usize;
        for own in steps.chunk_by(|a, b| a.expert == b.expert) {
            let start = latents;
            let mut exec = self.start(device, own[0].expert, &timesteps, &start, cancel).await?;
            for step in own {
                step.write(&mut exec)?;
                // The last step's result is the clip itself.
                let predict = self.predict_every > 0 && (done + 1).is_multiple_of(self.predict_every) && done + 1 < steps.len();
                let before = if predict { Some(exec.read("latents").await?) } else { None };
                exec.run_step().await?;
                done += 1;
                if done < steps.len() {
                    exec.idle().await?;
                }
                let predicted = match before {
                    Some(before) => Some(predict_clean(&before, &exec.read("latents").await?, step)),
                    None => None,
                };
                on_step(StepDone { step: done, steps: steps.len(), predicted }).await?;
            }
            latents = exec.read("latents").await?;
            if latents.iter().any(|v| !v.is_finite()) {
                exec.write("tokens", &start)?;
                match exec.find_non_finite().await {
                    Err(found @ kinora_kernels::Error::NonFinite { .. }) => layer = layer.or(Some(found)),
                    other => other?,
                }
            }
        }
        Ok(self.split(&latents, layer.as_ref()))
    }

    /// An expert ready for its first step, with these tokens.
    async fn start(&self, device: &Device, expert: usize, timesteps: &[f32], tokens: &[f32], cancel: &CancelToken) -> Result<Executable> {
        let mut exec = Executable::new(device, self.record(expert, timesteps)?)?.with_cancel(cancel.clone());
        exec.write("tokens", tokens)?;
        exec.run_prelude().await?;
        Ok(exec)
    }

    /// Seconds that a step takes on `device` once its kernels are compiled; `clock` tells seconds.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`].
    pub async fn time_step(&self, device: &Device, tokens: &[f32], clock: &dyn Fn() -> f64, cancel: &CancelToken) -> Result<f64> {
        let (timesteps, steps) = self.steps();
        let mut exec = self.start(device, self.first_expert(&steps), &timesteps, tokens, cancel).await?;
        // The CPU twins need no warming up.
        let runs = if device.preset().is_some() { 2 } else { 1 };
        let mut seconds = 0.0;
        for step in steps.iter().take(1).cycle().take(runs) {
            step.write(&mut exec)?;
            exec.idle().await?;
            let begun = clock();
            exec.run_step().await?;
            exec.idle().await?;
            seconds = clock() - begun;
        }
        Ok(seconds)
    }

    /// The plan of the run, until another expert takes over: text and timesteps in the prelude, one Euler step replayed.
    ///
    /// # Errors
    /// [`Error::Kernels`] if prompts, tokens and model do not fit each other.
    pub fn plan(&self) -> Result<Graph> {
        let (timesteps, steps) = self.steps();
        self.record(self.first_expert(&steps), &timesteps)
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

    /// The expert of the first step.
    fn first_expert(&self, steps: &[Step]) -> usize {
        steps.first().map_or(0, |step| step.expert)
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

    /// For each row of the velocity the token it belongs to, and for each token the row to guide away from: the
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

    /// The distinct timesteps of the run, and the steps in which something moves.
    fn steps(&self) -> (Vec<f32>, Vec<Step>) {
        let (tokens, _) = self.branches();
        let mut timesteps: Vec<f32> = Vec::new();
        let mut steps = Vec::new();
        let count = self.sequences.iter().map(|s| s.schedule.num_steps()).max().unwrap_or(0);
        for i in 0..count {
            let mut step = Step::default();
            let mut of_token: Vec<u32> = Vec::new();
            for sequence in self.sequences {
                let sigma = sequence.schedule.sigmas.get(i + 1).copied().unwrap_or(0.0);
                let guidance = sequence.guidance.at(sequence.schedule.sigmas.get(i).copied().unwrap_or(0.0));
                for token in 0..sequence.length() {
                    let noise = sequence.noise.get(token).copied().unwrap_or(PURE_NOISE);
                    let (timestep, dt) = sequence.schedule.clamped_step(i, noise);
                    let known = timesteps.iter().rposition(|t| t.to_bits() == timestep.to_bits());
                    of_token.push(known.unwrap_or_else(|| {
                        timesteps.push(timestep);
                        timesteps.len() - 1
                    }) as u32);
                    step.dt.push(dt);
                    step.guidance.push(guidance);
                    step.sigma.push(sigma);
                }
            }
            // Packed sequences have schedules that differ little; the noisiest of them decides.
            let timestep = self.sequences.iter().filter_map(|s| s.schedule.timesteps.get(i)).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            let expert = self.experts.iter().position(|expert| timestep >= expert.lowest_timestep);
            step.expert = expert.unwrap_or(self.experts.len() - 1);
            step.timestep_index = tokens.iter().map(|token| of_token[*token as usize]).collect();
            if step.dt.iter().any(|dt| *dt != 0.0) {
                steps.push(step);
            }
        }
        (timesteps, steps)
    }

    fn record(&self, expert: usize, timesteps: &[f32]) -> Result<Graph> {
        let plan = Plan::new();
        let denoiser = &self.experts[expert].denoiser;
        let (branches, unconditional) = self.branches();
        let rows = unconditional.len();
        let tokens = plan.state("tokens", &[rows, self.channels()]);
        let both = || self.sequences.iter().chain(self.sequences.iter().filter(|s| s.negative.is_some()));
        let grids: Vec<[usize; 3]> = both().map(|s| s.grid).collect();
        let (text, text_rows) = self.text(&plan, denoiser.text_channels());
        let call = Call { grids: &grids, text_rows: &text_rows, timesteps, spacing: self.spacing };
        let tables = denoiser.tables(&call).into_iter().map(|table| (table.name, plan.constant(&table.shape, &table.values)));
        let inputs = DenoiserInputs {
            tokens: if branches.len() == rows { tokens } else { tokens.gather_rows(plan.index_constant(&branches)) },
            text,
            timestep_index: plan.index_input("timestep_index", branches.len(), Cadence::EveryStep),
            tables: tables.collect(),
        };
        let velocity = denoiser.record(&plan, &call, &inputs);
        let dt = plan.input("dt", &[rows], Cadence::EveryStep);
        let guidance = plan.input("guidance", &[rows], Cadence::EveryStep);
        let unconditional = plan.index_constant(&unconditional);
        let dt = match self.rescale() {
            None => dt,
            Some((rescale, starts)) => {
                let rescale = plan.constant(&[rows], &rescale);
                dt * velocity.guidance_rescale(unconditional, guidance, rescale, plan.index_constant(&starts), self.guided_channels)
            }
        };
        plan.output("latents", tokens.guided_euler_step(velocity, unconditional, dt, guidance, self.guided_channels));
        Ok(plan.finish()?)
    }

    /// How far the velocity of each token is rescaled, and where each sequence begins and the last ends, if any is rescaled.
    fn rescale(&self) -> Option<(Vec<f32>, Vec<u32>)> {
        let (mut rescale, mut starts) = (Vec::new(), vec![0]);
        for sequence in self.sequences {
            rescale.resize(rescale.len() + sequence.length(), sequence.guidance.rescale);
            starts.push(rescale.len() as u32);
        }
        rescale.iter().any(|share| *share > 0.0).then_some((rescale, starts))
    }

    /// Text states of all branches, conditional first, and the rows of each.
    fn text<'p>(&self, plan: &'p Plan, channels: usize) -> (Tensor<'p>, Vec<usize>) {
        let all: Vec<&[f32]> = self.sequences.iter().map(|s| s.prompt).chain(self.sequences.iter().filter_map(|s| s.negative)).collect();
        let rows: Vec<usize> = all.iter().map(|states| states.len() / channels).collect();
        (plan.constant(&[rows.iter().sum(), channels], &all.concat()), rows)
    }
}

/// The clean tokens that a step from `before` to `after` points at: with velocity v = (after − before) / dt, the straight
/// path of rectified flow (arXiv 2209.03003, eq. 1) reaches σ = 0 at after − σ·v. Tokens that do not move stay as they are.
fn predict_clean(before: &[f32], after: &[f32], step: &Step) -> Vec<f32> {
    let channels = after.len() / step.dt.len().max(1);
    let mut clean = after.to_vec();
    let tokens = clean.chunks_exact_mut(channels.max(1)).zip(before.chunks_exact(channels.max(1)));
    for ((token, before), (dt, sigma)) in tokens.zip(step.dt.iter().zip(&step.sigma)).filter(|(_, (dt, _))| **dt != 0.0) {
        for (x, before) in token.iter_mut().zip(before) {
            *x -= sigma * (*x - before) / dt;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_path_is_predicted_to_its_end() {
        // x(σ) = clean + σ·(noise − clean), and a token that is given.
        let at = |sigma: f32| vec![2.0 + sigma * (5.0 - 2.0), -1.0, 7.0, 8.0];
        let step = Step { dt: vec![-0.25, 0.0], sigma: vec![0.5, 0.5], ..Step::default() };
        assert_eq!(predict_clean(&at(0.75), &at(0.5), &step), [2.0, -1.0, 7.0, 8.0]);
    }
}

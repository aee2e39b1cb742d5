//! The stages of a generation: a request becomes tokens, tokens become latents, latents become frames.

use std::borrow::Cow;
use std::cell::Cell;

use kinora_kernels::{CancelToken, Device};

use super::decode::each;
use super::sources::GivenSegment;
#[cfg(feature = "families")]
use super::sources::planned_latents;
use super::text::Texts;
use super::{Generated, Made, VideoPipeline, moving};
use crate::conditioning::{Conditioning, PURE_NOISE, join};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::models::family::{Beside, Direction, Given, NoiseLevels, Spacing};
use crate::request::{GenerateRequest, MAX_STEPS};
use crate::sampling::denoise::{Denoise, Sequence, Standing, StepDone};
use crate::sampling::guidance::Guidance;
use crate::sampling::packing::Item;
use crate::sampling::schedule::{Levels, Schedule};
use crate::sampling::solvers::table::Variance;
use crate::sampling::solvers::{self, Solver};
use crate::sampling::{noise, step_cache, tokens};
use crate::shape::LatentShape;

/// The stream of the noise that latents are decoded under; those of steps and windows are lower.
const DECODE_STREAM: u64 = u64::MAX;
/// The stream of the noise on the latent frames of references.
const REFERENCES_STREAM: u64 = u64::MAX - (1 << 20);

/// A generation before denoising.
pub(super) struct Job {
    pub(super) shape: LatentShape,
    /// Latent frames before those of the clip.
    lead: usize,
    conditioning_scale: Option<f32>,
    step_cache: Option<f32>,
    pub(super) schedule: Schedule,
    solver: Box<dyn Solver>,
    pub(super) seed: u64,
    texts: Texts,
    guidance: Guidance,
    /// Frames per second.
    pub(super) fps: f32,
    /// Tokens in time, height and width.
    grid: [usize; 3],
    /// Tokens after those of the grid.
    pub(super) beside: Vec<Beside>,
    /// Thousandths of noise on each token.
    pub(super) noise: Vec<u16>,
    /// Noise, and what is given under its share of it, as tokens `[L, C]`.
    pub(super) tokens: Vec<f32>,
    pub(super) given: Vec<GivenSegment>,
    /// What is given beside each token `[L, G]`.
    features: Vec<f32>,
    /// States of the pictures that are looked at.
    pub(super) pictures: Vec<f32>,
}

impl Job {
    pub(super) fn sequence(&self) -> Sequence<'_> {
        Sequence {
            prompt: &self.texts.prompt,
            negative: self.texts.negative.as_deref(),
            guidance: self.guidance,
            schedule: &self.schedule,
            solver: self.solver.as_ref(),
            seed: self.seed,
            grid: self.grid,
            beside: &self.beside,
            noise: &self.noise,
            features: &self.features,
            pictures: &self.pictures,
        }
    }

    /// What it follows.
    #[cfg(feature = "families")]
    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// What it is given in its place `[1, C, F, H, W]`, 0 elsewhere.
    #[cfg(feature = "families")]
    pub(super) fn given_latents(&self) -> Vec<f32> {
        planned_latents(&self.given, self.shape)
    }
}

impl VideoPipeline {
    /// Everything between the text and denoising. `before` is the window whose last frames the request is given, if there is one.
    pub(super) async fn prepare(
        &self,
        request: &GenerateRequest,
        before: Option<&Generated>,
        texts: Texts,
        cancel: &CancelToken,
    ) -> Result<Job> {
        let shape = self.check(request)?;
        // The decoder needs the largest buffers, and comes last.
        self.coder(Direction::Decode, &self.device()).check_decode(self.decoded_shape(request, shape))?;
        let mut job = self.job(request, shape, texts)?;
        if self.given() != Given::Tokens {
            self.check_given(request)?;
            job.features = self.features(request, shape, cancel).await?;
            job.pictures = self.picture_states(request, cancel).await?;
        } else {
            self.give(request, before, &mut job, cancel).await?;
        }
        Ok(job)
    }

    /// The job of a request whose text is encoded, with nothing given yet.
    pub(super) fn job(&self, request: &GenerateRequest, shape: LatentShape, texts: Texts) -> Result<Job> {
        let (solver, schedule) = self.schedule(request, &shape)?;
        let mut latents = request.latents.clone().unwrap_or_else(|| noise::normal(request.seed, 0, shape.elements()));
        latents.iter_mut().for_each(|v| *v *= schedule.start as f32);
        let mut noise = self.token_noise(request, shape)?;
        // References come before the clip, and are generated like all of it.
        let lead = request.conditioning.references.len();
        let whole = LatentShape { grid: [lead + shape.grid[0], shape.grid[1], shape.grid[2]], ..shape };
        if lead > 0 {
            latents = led(&noise::normal(request.seed, REFERENCES_STREAM, whole.elements() - shape.elements()), &latents, shape.channels);
            noise = vec![PURE_NOISE; whole.tokens(self.compression.packing).iter().product()];
        }
        let tokens = tokens::pack(&latents, whole.extents(), self.compression.packing);
        #[cfg(not(feature = "families"))]
        let beside = Vec::new();
        #[cfg(feature = "families")]
        let mut tokens = tokens;
        #[cfg(feature = "families")]
        let beside = self.add_beside(request, shape, &mut tokens, &mut noise)?;
        Ok(Job {
            shape,
            lead,
            conditioning_scale: request.conditioning_scale,
            step_cache: request.step_cache,
            schedule,
            solver,
            seed: request.seed,
            texts,
            guidance: request.guidance,
            fps: self.manifest.fps,
            grid: whole.tokens(self.compression.packing),
            beside,
            noise,
            tokens,
            given: Vec::new(),
            features: self.no_features(whole),
            pictures: self.no_pictures(),
        })
    }

    /// Denoises jobs of equal steps side by side to latents `[1, C, F, H, W]`; `predict_every` as in [`Denoise`].
    pub(super) async fn denoise(
        &self,
        jobs: &[&Job],
        predict_every: usize,
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let sequences: Vec<Sequence<'_>> = jobs.iter().map(|job| job.sequence()).collect();
        let guided_channels = jobs.first().map_or(0, |job| self.guided_channels(job));
        let spacing = jobs.first().map_or_else(|| self.spacing(), |job| self.job_spacing(job));
        let (conditioning_scale, step_cache) = jobs.first().map_or((None, None), |job| (job.conditioning_scale, job.step_cache));
        let (experts, sequences) = (self.experts.as_slice(), sequences.as_slice());
        let denoise = Denoise { experts, sequences, spacing, guided_channels, conditioning_scale, step_cache, predict_every };
        let tokens: Vec<f32> = jobs.iter().flat_map(|job| job.tokens.iter().copied()).collect();
        let (done, mut standing) = (Cell::new(0), Standing::default());
        let go_on = async |device: &Device| {
            let end = denoise.go_on((device, &self.executables), &tokens, &mut standing, cancel, on_step).await;
            done.set(standing.steps);
            end
        };
        let denoised = self.going_on(&done, go_on).await?;
        Ok(denoised.into_iter().zip(jobs).map(|(tokens, job)| tokens.map(|tokens| self.clip_latents(&tokens, job))).collect())
    }

    /// Latents `[1, C, F, H, W]` of tokens `[L, C]`, without those before and beside the clip.
    fn clip_latents(&self, tokens: &[f32], job: &Job) -> Vec<f32> {
        let lead = job.lead * job.shape.first_frame().elements();
        tokens::unpack(&tokens[lead..][..job.shape.elements()], job.shape.extents(), self.compression.packing)
    }

    /// RGBA bytes of the first frame of tokens `[L, C]`: the first latent frame decoded by itself, a fraction of the
    /// clip's work; and of later frames up to so many.
    pub(super) async fn preview(&self, tokens: &[f32], job: &Job, count: usize, cancel: &CancelToken) -> Result<Vec<u8>> {
        let (latents, shape) = (self.clip_latents(tokens, job), job.shape);
        let [frames, height, width] = shape.grid;
        let first: Vec<f32> =
            latents.chunks_exact(frames * height * width).flat_map(|channel| &channel[..height * width]).copied().collect();
        let first = self.decode(&first, shape.first_frame(), cancel).await?.swap_remove(0);
        Ok(if count > 1 { moving::frames(&latents, shape, &first, count) } else { first })
    }

    /// Features of a token that guidance acts on.
    pub(super) fn guided_channels(&self, job: &Job) -> usize {
        self.guided_features(job.guidance)
    }

    /// What decides with which others it is denoised.
    pub(super) fn job_item(&self, job: &Job) -> Item {
        self.item(job.noise.len(), job.guidance, (job.conditioning_scale, job.step_cache), &job.schedule, job.solver.as_ref())
    }

    /// Latents to the finished clip. `sink` is given them, and its frames while they are decoded where nothing changes them afterwards.
    pub(super) async fn finish(
        &self,
        request: &GenerateRequest,
        job: &Job,
        latents: Vec<f32>,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Made) -> Result<()>,
    ) -> Result<Generated> {
        #[cfg(feature = "families")]
        let (last, latents) = self.later_passes(request, job, latents, cancel, on_event).await?;
        #[cfg(feature = "families")]
        let job = last.as_ref().unwrap_or(job);
        let frames = 1 + (job.shape.grid[0] - 1) * self.compression.latent[0];
        sink(Made::Latents(latents.clone(), job.shape.dims())).await?;
        on_event(Event::Decode { frames });
        if request.conditioning.plan.is_none() && !self.is_refined(request) {
            let decoded = self.decoded_latents(request, &latents, job.shape);
            let taken = Cell::new(0);
            let decode = async |device: &Device| {
                // Those that were there before a loss are not given again.
                let (first, mut at) = (taken.get(), 0);
                let rest = &mut async |frame| {
                    at += 1;
                    if at > first {
                        sink(Made::Frame(frame)).await?;
                        taken.set(at);
                    }
                    Ok(())
                };
                self.coder(Direction::Decode, device).decode(&decoded, job.shape, cancel, rest).await
            };
            self.going_on(&taken, decode).await?;
            return Ok(self.made(job, Vec::new(), 0..frames, latents));
        }
        let whole = self.whole(request, job, latents, cancel).await?;
        let mut refined = self.refined(request, whole, cancel, on_event).await?;
        each(std::mem::take(&mut refined.frames), &mut async |frame| sink(Made::Frame(frame)).await).await?;
        Ok(refined)
    }

    /// Latents to a clip with all its frames, and those of the clips that it continues.
    pub(super) async fn whole(&self, request: &GenerateRequest, job: &Job, latents: Vec<f32>, cancel: &CancelToken) -> Result<Generated> {
        let mut decoded = self.decode(&self.decoded_latents(request, &latents, job.shape), job.shape, cancel).await?;
        let conditioning = match &request.conditioning.larger {
            Some(larger) if job.shape.grid[1] * self.compression.latent[1] > request.height => larger,
            _ => &request.conditioning,
        };
        self.restore(conditioning, job, &mut decoded, cancel).await?;
        let (frames, decoded) = join(decoded, conditioning, self.compression.latent[0])?;
        Ok(self.made(job, frames, decoded, latents))
    }

    /// The latents as they are decoded: under noise, where the decoder is told of it.
    fn decoded_latents<'l>(&self, request: &GenerateRequest, latents: &'l [f32], shape: LatentShape) -> Cow<'l, [f32]> {
        let decoder = self.decoder.as_ref().unwrap_or(&self.vae);
        let share = decoder.decode_noise();
        if share == 0.0 {
            return latents.into();
        }
        let mut noisy = latents.to_vec();
        decoder.stats().add_noise(&mut noisy, share, &noise::normal(request.seed, DECODE_STREAM, shape.elements()));
        noisy.into()
    }

    /// A finished clip of these frames and latents.
    pub(super) fn made(&self, job: &Job, frames: Vec<Vec<u8>>, decoded: std::ops::Range<usize>, latents: Vec<f32>) -> Generated {
        let ([_, rows, columns], [_, row, column]) = (job.shape.grid, self.compression.latent);
        let latents_shape = job.shape.dims();
        Generated { width: columns * column, height: rows * row, fps: job.fps, frames, decoded, latents, latents_shape }
    }

    /// The extents of the latents, if everything in the request is possible.
    pub(crate) fn check(&self, request: &GenerateRequest) -> Result<LatentShape> {
        let channels = self.vae.latent_channels();
        let shape = LatentShape::of_clip(request.width, request.height, request.frames, channels, self.compression)?;
        request.guidance.check(channels)?;
        #[cfg(feature = "images")]
        self.check_image(request)?;
        if !(1..=MAX_STEPS).contains(&request.steps) {
            let (found, expected) = (request.steps.to_string(), format!("1 to {MAX_STEPS}"));
            return Err(Error::InvalidRequest { parameter: "steps".into(), found, expected });
        }
        self.check_refined(request)?;
        step_cache::check(request.step_cache, request.sigmas.as_ref().map_or(request.steps, Vec::len))?;
        if let Some(scale) = request.conditioning_scale.filter(|_| !matches!(self.given(), Given::Control(_))) {
            let expected = "none: this model has no branch that steers it".into();
            return Err(Error::InvalidRequest { parameter: "conditioningScale".into(), found: scale.to_string(), expected });
        }
        #[cfg(feature = "families")]
        if self.causal().is_some() {
            self.check_blocks(request)?;
        }
        // Three floats for each pixel of a frame, which is less than what anything else needs of a clip that is decoded piece by piece,
        // and known at once.
        let [_, height, width] = self.decoded_extents(request, request.frames);
        self.device().check_frame(12 * (width * height) as u64)?;
        if let Some(latents) = request.latents.as_ref().filter(|l| l.len() != shape.elements()) {
            let expected = format!("{:?}", shape.dims());
            return Err(Error::InvalidRequest { parameter: "latents".into(), found: format!("{} values", latents.len()), expected });
        }
        Ok(shape)
    }

    /// Whether a model that is told a class, or makes images, is asked for them.
    #[cfg(feature = "images")]
    fn check_image(&self, request: &GenerateRequest) -> Result<()> {
        self.words.check([&request.prompt, &request.negative])?;
        if request.frames > 1 && self.experts[0].denoiser.is_of_images() {
            let (found, expected) = (request.frames.to_string(), "1: this model makes images".into());
            return Err(Error::InvalidRequest { parameter: "frames".into(), found, expected });
        }
        let [_, rows, columns] = self.compression.token();
        match self.experts[0].denoiser.grid() {
            Some([_, height, width]) if [height * rows, width * columns] != [request.height, request.width] => {
                let found = format!("{}x{}", request.width, request.height);
                let expected = format!("{}x{}, the only size that this model knows", width * columns, height * rows);
                Err(Error::InvalidRequest { parameter: "size".into(), found, expected })
            }
            _ => Ok(()),
        }
    }

    /// Thousandths of noise on each token, which the denoisers must be able to tell apart.
    pub(crate) fn token_noise(&self, request: &GenerateRequest, shape: LatentShape) -> Result<Vec<u16>> {
        self.conditioned_noise(&request.conditioning, shape)
    }

    /// [`token_noise`](Self::token_noise) of what is given.
    pub(super) fn conditioned_noise(&self, conditioning: &Conditioning, shape: LatentShape) -> Result<Vec<u16>> {
        #[cfg_attr(not(feature = "families"), expect(unused_mut, reason = "nothing is given beside the tokens"))]
        let mut noise = conditioning.token_noise(shape, self.compression)?;
        #[cfg(feature = "families")]
        self.leave_open(conditioning, &mut noise)?;
        if self.given() != Given::Tokens {
            // What is given stands beside the tokens, all of which are generated.
            return Ok(vec![PURE_NOISE; noise.len()]);
        }
        #[cfg(feature = "families")]
        if let Some(causal) = self.causal() {
            self.check_given_blocks(causal, &noise, shape)?;
        }
        self.experts.iter().try_for_each(|expert| check_levels(&noise, expert.denoiser.noise_levels()))?;
        Ok(noise)
    }

    /// What leads from noise to latents, and by which levels.
    pub(crate) fn schedule(&self, request: &GenerateRequest, shape: &LatentShape) -> Result<(Box<dyn Solver>, Schedule)> {
        let shifted = request.shift.map(|shift| self.scheduler.with_shift(shift));
        let file = shifted.as_ref().unwrap_or(&self.scheduler);
        let solver = match &request.sampler {
            Some(name) => solvers::by_name(name, file)?,
            None => solvers::of_file(file)?,
        };
        let levels = match &request.sigmas {
            Some(sigmas) => Levels::Sigmas(sigmas.clone()),
            // What the pipeline starts from is made for its own solver.
            None if request.sampler.as_ref().is_some_and(|name| !solvers::is_of_file(name, file)) => Levels::Steps(request.steps),
            None => (self.class.levels)(request.steps),
        };
        if solver.variance() != Variance::Fixed && !self.experts.iter().all(|expert| expert.denoiser.predicts_variance()) {
            return Err(file.without_variance());
        }
        let tokens = shape.tokens(self.compression.packing).iter().product();
        let schedule = solver.schedule(&levels, solver.mu(tokens))?;
        Ok((solver, schedule))
    }

    /// [`spacing`](Self::spacing) of a job, which may have more frames per second.
    pub(super) fn job_spacing(&self, job: &Job) -> Spacing {
        let Spacing { latent: [_, height, width], frames } = self.spacing();
        Spacing { latent: [frames as f32 / job.fps, height, width], frames }
    }

    /// How far apart latents are.
    pub(super) fn spacing(&self) -> Spacing {
        let [t, h, w] = self.compression.latent.map(|n| n as f32);
        Spacing { latent: [t / self.manifest.fps, h, w], frames: self.compression.latent[0] }
    }
}

/// Latents of so many channels, outermost, with other frames before them.
pub(super) fn led(lead: &[f32], latents: &[f32], channels: usize) -> Vec<f32> {
    let parts = |all: &[f32]| all.len() / channels;
    let both = lead.chunks(parts(lead).max(1)).zip(latents.chunks(parts(latents).max(1)));
    both.flat_map(|(lead, latents)| lead.iter().chain(latents)).copied().collect()
}

/// Refuses noise that differs between tokens for a denoiser that is told one level.
fn check_levels(noise: &[u16], levels: NoiseLevels) -> Result<()> {
    if levels == NoiseLevels::PerToken || noise.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Error::InvalidConditioning {
        parameter: "given frames".into(),
        found: "frames or regions that are given beside others that are not".into(),
        expected: "the same noise everywhere, which is all this model can be told".into(),
        remedy: "give a whole clip with a strength below 1, or use a model of images to video",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_frames_come_before_those_of_each_channel() {
        assert_eq!(led(&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0], 2), [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
    }

    #[test]
    fn models_of_one_level_take_whole_clips_alone() {
        let image = [0, 0, 1000, 1000];
        assert!(check_levels(&image, NoiseLevels::PerToken).is_ok(), "a frame of its own");
        assert!(check_levels(&[600; 4], NoiseLevels::Uniform).is_ok(), "a clip under some noise");
        let error = check_levels(&image, NoiseLevels::Uniform).expect_err("a frame of its own");
        assert_eq!((error.code(), error.hint().is_some()), ("invalid-conditioning", true), "{error}");
    }
}

//! The stages of a generation: a request becomes tokens, tokens become latents, latents become frames.

use std::borrow::Cow;
use std::cell::Cell;

use kinora_kernels::{CancelToken, Device};

use super::decode::each;
use super::refine::is_refined;
use super::text::{Text, encode_ids, encoded_negative, encoded_text, padded, tokenize};
use super::{Generated, VideoPipeline};
use crate::conditioning::{CLEAN, Conditioning, PURE_NOISE, Segment, Timeline, join};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::models::family::{Direction, Given, NoiseLevels, TextPadding};
use crate::request::{GenerateRequest, MAX_STEPS};
use crate::sampling::denoise::{Denoise, Sequence, Standing, StepDone};
use crate::sampling::guidance::Guidance;
use crate::sampling::packing::Item;
use crate::sampling::schedule::{Levels, Schedule};
use crate::sampling::solvers::{self, Solver};
use crate::sampling::{noise, tokens};
use crate::shape::LatentShape;

/// The stream of the noise that latents are decoded under; those of steps and windows are lower.
const DECODE_STREAM: u64 = u64::MAX;

/// What a generation follows, and what it is guided away from.
#[derive(Default)]
pub(super) struct Texts {
    /// Text states `[T, Ct]`.
    pub(super) prompt: Vec<f32>,
    pub(super) negative: Option<Vec<f32>>,
}

/// A generation before denoising.
pub(super) struct Job {
    pub(super) shape: LatentShape,
    schedule: Schedule,
    solver: Box<dyn Solver>,
    seed: u64,
    texts: Texts,
    guidance: Guidance,
    /// Tokens in time, height and width.
    grid: [usize; 3],
    /// Thousandths of noise on each token.
    noise: Vec<u16>,
    /// Noise, and what is given under its share of it, as tokens `[L, C]`.
    pub(super) tokens: Vec<f32>,
    given: Vec<GivenSegment>,
    /// What is given beside each token `[L, G]`.
    features: Vec<f32>,
    /// States of the pictures that are looked at.
    pictures: Vec<f32>,
}

/// A segment of the sources as the autoencoder sees it.
struct GivenSegment {
    segment: Segment,
    /// `[1, C, F, H, W]`, the lead included.
    latents: Vec<f32>,
    shape: LatentShape,
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
            noise: &self.noise,
            features: &self.features,
            pictures: &self.pictures,
        }
    }

    /// What it is given in its place `[1, C, F, H, W]`, 0 elsewhere.
    #[cfg(feature = "families")]
    pub(super) fn given_latents(&self) -> Vec<f32> {
        planned_latents(&self.given, self.shape)
    }
}

impl GivenSegment {
    /// Replaces what was encoded by the last of the latents it was decoded from, `[1, C, F, H, W]` of `shape`: decoding and
    /// encoding again loses detail, and would lose more with each window. The first latent frame, which stands for a single
    /// frame here, has no counterpart among them.
    fn take_over(&mut self, latents: &[f32], shape: LatentShape) {
        let area = shape.grid[1] * shape.grid[2];
        let [own, all] = [self.shape.grid[0] * area, shape.grid[0] * area];
        for (to, from) in self.latents.chunks_exact_mut(own).zip(latents.chunks_exact(all)) {
            to[area..].copy_from_slice(&from[all - own + area..]);
        }
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
        self.coder(Direction::Decode, &self.device()).check_decode(shape)?;
        let mut job = self.job(request, shape, texts)?;
        if self.given() != Given::Tokens {
            self.check_given(request)?;
            job.features = self.features(request, shape, cancel).await?;
            job.pictures = self.picture_states(request, cancel).await?;
        } else if request.conditioning.plan.is_some() {
            job.given = self.encode_sources(request, shape, cancel).await?;
            if let (Some(before), Some(given)) = (before, job.given.first_mut()) {
                given.take_over(&before.latents, shape);
            }
            let sources = planned_latents(&job.given, shape);
            let sources = tokens::pack(&sources, shape.extents(), self.compression.packing);
            noise::add_sources(&mut job.tokens, &sources, &job.noise, |thousandths| job.schedule.starting_level(thousandths));
        }
        Ok(job)
    }

    /// The job of a request whose text is encoded, with nothing given yet.
    pub(super) fn job(&self, request: &GenerateRequest, shape: LatentShape, texts: Texts) -> Result<Job> {
        let (solver, schedule) = self.schedule(request, &shape)?;
        let mut latents = request.latents.clone().unwrap_or_else(|| noise::normal(request.seed, 0, shape.elements()));
        latents.iter_mut().for_each(|v| *v *= schedule.start as f32);
        Ok(Job {
            shape,
            schedule,
            solver,
            seed: request.seed,
            texts,
            guidance: request.guidance,
            grid: shape.tokens(self.compression.packing),
            noise: self.token_noise(request, shape)?,
            tokens: tokens::pack(&latents, shape.extents(), self.compression.packing),
            given: Vec::new(),
            features: self.no_features(shape),
            pictures: self.no_pictures(),
        })
    }

    /// What the plan gives, encoded segment by segment.
    async fn encode_sources(&self, request: &GenerateRequest, shape: LatentShape, cancel: &CancelToken) -> Result<Vec<GivenSegment>> {
        let conditioning = &request.conditioning;
        let Some(plan) = &conditioning.plan else { return Ok(Vec::new()) };
        let mut given = Vec::new();
        for segment in plan.segments(self.compression.latent[0], &conditioning.lengths())? {
            let source: Vec<&[u8]> = segment.clip_frames.iter().map(|i| conditioning.sources[segment.clip][*i].as_slice()).collect();
            let frames = segment.lead + segment.latent_frames.len();
            let own = LatentShape { channels: shape.channels, grid: [frames, shape.grid[1], shape.grid[2]] };
            let encode = async |device: &Device| self.coder(Direction::Encode, device).encode(&source, own, cancel).await;
            let latents = self.on_device(encode).await?;
            given.push(GivenSegment { segment, latents, shape: own });
        }
        Ok(given)
    }

    /// Puts frames that are kept in the place of what was decoded for them. A decoder that is not causal draws every frame
    /// with its neighbours in view, so that generated ones would change those that are given; these are decoded alone.
    async fn restore(&self, request: &GenerateRequest, job: &Job, decoded: &mut [Vec<u8>], cancel: &CancelToken) -> Result<()> {
        let Some(plan) = request.conditioning.plan.as_ref().filter(|_| request.conditioning.mask.is_none()) else { return Ok(()) };
        let timeline = Timeline { frames: job.shape.grid[0], step: self.compression.latent[0] };
        for GivenSegment { segment, latents, shape } in &job.given {
            if plan.frames[segment.latent_frames.clone()].iter().all(|frame| frame.noise == CLEAN) {
                let own = self.decode(latents, *shape, cancel).await?;
                let first = timeline.span(segment.latent_frames.start).start;
                // The lead is one latent frame, hence one frame.
                for (place, frame) in decoded[first..].iter_mut().zip(own.into_iter().skip(segment.lead)) {
                    *place = frame;
                }
            }
        }
        Ok(())
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
        let denoise = Denoise { experts: &self.experts, sequences: &sequences, spacing: self.spacing(), guided_channels, predict_every };
        let tokens: Vec<f32> = jobs.iter().flat_map(|job| job.tokens.iter().copied()).collect();
        let (done, mut standing) = (Cell::new(0), Standing::default());
        let go_on = async |device: &Device| {
            let end = denoise.go_on((device, &self.executables), &tokens, &mut standing, cancel, on_step).await;
            done.set(standing.steps);
            end
        };
        let denoised = self.going_on(&done, go_on).await?;
        let latents = |job: &Job, tokens: &[f32]| tokens::unpack(tokens, job.shape.extents(), self.compression.packing);
        Ok(denoised.into_iter().zip(jobs).map(|(tokens, job)| tokens.map(|tokens| latents(job, &tokens))).collect())
    }

    /// RGBA bytes of the first frame of tokens `[L, C]`: the first latent frame decoded by itself, a fraction of the
    /// clip's work.
    pub(super) async fn preview(&self, tokens: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<u8>> {
        let latents = tokens::unpack(tokens, shape.extents(), self.compression.packing);
        let [frames, height, width] = shape.grid;
        let first: Vec<f32> =
            latents.chunks_exact(frames * height * width).flat_map(|channel| &channel[..height * width]).copied().collect();
        Ok(self.decode(&first, shape.first_frame(), cancel).await?.swap_remove(0))
    }

    /// Features of a token that guidance acts on.
    pub(super) fn guided_channels(&self, job: &Job) -> usize {
        self.guided_features(job.guidance)
    }

    /// What decides with which others it is denoised.
    pub(super) fn job_item(&self, job: &Job) -> Item {
        self.item(job.noise.len(), job.guidance, &job.schedule, job.solver.as_ref())
    }

    /// Latents to the finished clip, whose frames `sink` is given while they are decoded where nothing changes them afterwards.
    pub(super) async fn finish(
        &self,
        request: &GenerateRequest,
        job: &Job,
        latents: Vec<f32>,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Generated> {
        on_event(Event::Decode { frames: request.frames });
        if request.conditioning.plan.is_none() && !is_refined(request) {
            let decoded = self.decoded_latents(request, &latents, job.shape);
            let taken = Cell::new(0);
            let decode = async |device: &Device| {
                // Those that were there before a loss are not given again.
                let (first, mut at) = (taken.get(), 0);
                let rest = &mut async |frame| {
                    at += 1;
                    if at > first {
                        sink(frame).await?;
                        taken.set(at);
                    }
                    Ok(())
                };
                self.coder(Direction::Decode, device).decode(&decoded, job.shape, cancel, rest).await
            };
            self.going_on(&taken, decode).await?;
            return Ok(self.made(request, job, Vec::new(), 0..request.frames, latents));
        }
        let whole = self.whole(request, job, latents, cancel).await?;
        let mut refined = self.refined(request, whole, cancel, on_event).await?;
        each(std::mem::take(&mut refined.frames), sink).await?;
        Ok(refined)
    }

    /// Latents to a clip with all its frames, and those of the clips that it continues.
    pub(super) async fn whole(&self, request: &GenerateRequest, job: &Job, latents: Vec<f32>, cancel: &CancelToken) -> Result<Generated> {
        let mut decoded = self.decode(&self.decoded_latents(request, &latents, job.shape), job.shape, cancel).await?;
        self.restore(request, job, &mut decoded, cancel).await?;
        let (frames, decoded) = join(decoded, &request.conditioning, self.compression.latent[0])?;
        Ok(self.made(request, job, frames, decoded, latents))
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
    pub(super) fn made(
        &self,
        request: &GenerateRequest,
        job: &Job,
        frames: Vec<Vec<u8>>,
        decoded: std::ops::Range<usize>,
        latents: Vec<f32>,
    ) -> Generated {
        let latents_shape = job.shape.dims();
        Generated { width: request.width, height: request.height, fps: self.manifest.fps, frames, decoded, latents, latents_shape }
    }

    /// The extents of the latents, if everything in the request is possible.
    pub(crate) fn check(&self, request: &GenerateRequest) -> Result<LatentShape> {
        let channels = self.vae.latent_channels();
        let shape = LatentShape::of_clip(request.width, request.height, request.frames, channels, self.compression)?;
        request.guidance.check(channels)?;
        if !(1..=MAX_STEPS).contains(&request.steps) {
            let (found, expected) = (request.steps.to_string(), format!("1 to {MAX_STEPS}"));
            return Err(Error::InvalidRequest { parameter: "steps".into(), found, expected });
        }
        self.check_refined(request)?;
        #[cfg(feature = "families")]
        if self.causal().is_some() {
            self.check_blocks(request)?;
        }
        // The decoded clip, three floats for each pixel: less than what anything else needs, and known at once.
        self.device().check_bytes("the clip", 12 * (request.width * request.height * request.frames) as u64)?;
        if let Some(latents) = request.latents.as_ref().filter(|l| l.len() != shape.elements()) {
            let expected = format!("{:?}", shape.dims());
            return Err(Error::InvalidRequest { parameter: "latents".into(), found: format!("{} values", latents.len()), expected });
        }
        Ok(shape)
    }

    /// Thousandths of noise on each token, which the denoisers must be able to tell apart.
    pub(crate) fn token_noise(&self, request: &GenerateRequest, shape: LatentShape) -> Result<Vec<u16>> {
        self.conditioned_noise(&request.conditioning, shape)
    }

    /// [`token_noise`](Self::token_noise) of what is given.
    pub(super) fn conditioned_noise(&self, conditioning: &Conditioning, shape: LatentShape) -> Result<Vec<u16>> {
        let noise = conditioning.token_noise(shape, self.compression)?;
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
        let tokens = shape.tokens(self.compression.packing).iter().product();
        let schedule = solver.schedule(&levels, solver.mu(tokens))?;
        Ok((solver, schedule))
    }

    /// Seconds and pixels from one latent to the next.
    pub(super) fn spacing(&self) -> [f32; 3] {
        let [t, h, w] = self.compression.latent.map(|n| n as f32);
        [t / self.manifest.fps, h, w]
    }

    /// Hidden states of each text.
    pub(super) async fn text_states(&self, texts: &[Text], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let encoder = self.text_encoder.as_ref();
        self.on_device(async |device: &Device| encode_ids(encoder, (device, &self.executables), texts, cancel).await).await
    }

    /// Prompt and, where it guides, negative prompt of each request, in one pass; equal texts are encoded once.
    pub(super) async fn encode_texts(
        &self,
        requests: &[&GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Texts>> {
        let (rules, max_tokens, width) = (&self.class.text, self.manifest.max_text_tokens, self.text_encoder.width());
        let mut distinct: Vec<Text> = Vec::new();
        let mut index = |text: Text| match distinct.iter().position(|known| *known == text) {
            Some(at) => at,
            None => {
                distinct.push(text);
                distinct.len() - 1
            }
        };
        let mut places = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            let prompt = tokenize(&self.tokenizer, rules, max_tokens, &request.prompt);
            let tokens = prompt.ids.len();
            on_event(i, Event::Text { tokens, truncated: prompt.truncated });
            let negative = (!request.guidance.is_off()).then(|| {
                let ids = tokenize(&self.tokenizer, rules, max_tokens, &request.negative).ids;
                index(encoded_negative(ids, rules, max_tokens, tokens))
            });
            places.push((index(encoded_text(prompt.ids, rules, max_tokens)), negative));
        }
        let states = self.text_states(&distinct, cancel).await?;
        let text = |at: usize| padded(states[at].clone(), rules, max_tokens, width);
        let texts = places.into_iter().map(|(prompt, negative)| {
            let (prompt, mut negative) = (text(prompt), negative.map(text));
            if let (TextPadding::Paired(_), Some(negative)) = (rules.padding, &mut negative) {
                negative.truncate(prompt.len());
            }
            Texts { prompt, negative }
        });
        Ok(texts.collect())
    }
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

/// Latents `[1, C, F, H, W]` of a plan with what is given in its place, 0 elsewhere.
fn planned_latents(given: &[GivenSegment], shape: LatentShape) -> Vec<f32> {
    let [frames, height, width] = shape.grid;
    let area = height * width;
    let mut latents = vec![0.0; shape.elements()];
    for GivenSegment { segment, latents: own, shape: own_shape } in given {
        let count = segment.latent_frames.len() * area;
        for channel in 0..shape.channels {
            let from = (channel * own_shape.grid[0] + segment.lead) * area;
            let to = (channel * frames + segment.latent_frames.start) * area;
            latents[to..to + count].copy_from_slice(&own[from..from + count]);
        }
    }
    latents
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latents of two channels, numbered by channel, frame and pixel.
    fn latents(frames: usize, sign: f32) -> Vec<f32> {
        let value = |c: usize, t: usize, at: usize| sign * (100 * c + 10 * t + at) as f32;
        (0..2).flat_map(|c| (0..frames).flat_map(move |t| (0..2).map(move |at| value(c, t, at)))).collect()
    }

    fn shape(frames: usize) -> LatentShape {
        LatentShape { channels: 2, grid: [frames, 1, 2] }
    }

    fn given(frames: usize, lead: usize, latent_frames: std::ops::Range<usize>) -> GivenSegment {
        let segment = Segment { clip: 0, clip_frames: Vec::new(), lead, latent_frames };
        GivenSegment { segment, latents: latents(frames, -1.0), shape: shape(frames) }
    }

    #[test]
    fn models_of_one_level_take_whole_clips_alone() {
        let image = [0, 0, 1000, 1000];
        assert!(check_levels(&image, NoiseLevels::PerToken).is_ok(), "a frame of its own");
        assert!(check_levels(&[600; 4], NoiseLevels::Uniform).is_ok(), "a clip under some noise");
        let error = check_levels(&image, NoiseLevels::Uniform).expect_err("a frame of its own");
        assert_eq!((error.code(), error.hint().is_some()), ("invalid-conditioning", true), "{error}");
    }

    #[test]
    fn windows_take_over_all_latents_but_the_first() {
        let mut given = given(3, 0, 0..3);
        given.take_over(&latents(5, 1.0), shape(5));
        let expected = [0.0, -1.0, 30.0, 31.0, 40.0, 41.0, -100.0, -101.0, 130.0, 131.0, 140.0, 141.0];
        assert_eq!(given.latents, expected, "frames 3 and 4 of both channels");
    }

    #[test]
    fn given_latents_stand_where_the_plan_says() {
        let found = planned_latents(&[given(1, 0, 0..1), given(2, 1, 3..4)], shape(4));
        let expected = [0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -10.0, -11.0, -100.0, -101.0, 0.0, 0.0, 0.0, 0.0, -110.0, -111.0];
        assert_eq!(found, expected, "the first frame, and the last without its lead");
    }
}

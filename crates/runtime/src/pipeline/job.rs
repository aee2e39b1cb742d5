//! The stages of a generation: a request becomes tokens, tokens become latents, latents become frames.

use kinora_kernels::CancelToken;

use super::{Event, GenerateRequest, Generated, VideoPipeline};
use crate::conditioning::{PURE_NOISE, join};
use crate::decode::{decode_plan, decode_rgba};
use crate::encode::encode_rgba;
use crate::error::{Error, Result};
use crate::models::ltx::tokens;
use crate::sampling::denoise::{Denoise, Sequence, StepDone, TextStates};
use crate::sampling::guidance::Guidance;
use crate::sampling::noise;
use crate::sampling::schedule::{Levels, Schedule};
use crate::shape::LatentShape;

/// A generation before denoising.
pub(super) struct Job {
    pub(super) shape: LatentShape,
    schedule: Schedule,
    prompt: TextStates,
    negative: Option<TextStates>,
    guidance: Guidance,
    rope: Vec<f32>,
    coordinates: Vec<f32>,
    /// Thousandths of noise on each token.
    noise: Vec<u16>,
    /// Noise, and what is given under its share of it, as tokens `[L, C]`.
    tokens: Vec<f32>,
}

impl Job {
    pub(super) fn sequence(&self) -> Sequence<'_> {
        Sequence {
            prompt: &self.prompt,
            negative: self.negative.as_ref(),
            guidance: self.guidance,
            schedule: &self.schedule,
            rope: &self.rope,
            coordinates: &self.coordinates,
            noise: &self.noise,
        }
    }

    /// Puts source tokens `[L, C]` under the noise: x = (1 − σ)·source + σ·noise for each token's own σ.
    fn add_sources(&mut self, sources: &[f32]) {
        let channels = self.tokens.len() / self.noise.len();
        let top = self.schedule.sigmas.first().copied().unwrap_or(1.0);
        let tokens = self.tokens.chunks_exact_mut(channels).zip(sources.chunks_exact(channels)).zip(&self.noise);
        for ((token, source), noise) in tokens.filter(|(_, noise)| **noise < PURE_NOISE) {
            let sigma = (f32::from(*noise) / f32::from(PURE_NOISE)).min(top);
            for (x, source) in token.iter_mut().zip(source) {
                *x = (1.0 - sigma) * source + sigma * *x;
            }
        }
    }
}

impl VideoPipeline {
    /// Everything that comes before denoising.
    pub(super) async fn prepare(&self, request: &GenerateRequest, cancel: &CancelToken, on_event: &mut dyn FnMut(Event)) -> Result<Job> {
        let shape = self.check(request)?;
        // The decoder needs the largest buffers, and comes last.
        self.device.check_limits(&decode_plan(&self.vae, shape)?)?;
        let prompt = self.encode_text(&request.prompt, cancel, on_event).await?;
        let negative = if request.guidance.is_off() { None } else { Some(self.encode_text(&request.negative, cancel, &mut |_| {}).await?) };
        let mut job = self.job(request, shape, prompt, negative)?;
        if request.conditioning.plan.is_some() {
            job.add_sources(&tokens::pack(&self.encode_sources(request, shape, cancel).await?, shape.extents(), self.compression.packing));
        }
        Ok(job)
    }

    /// The job of a request whose text is encoded, with nothing given yet.
    pub(super) fn job(
        &self,
        request: &GenerateRequest,
        shape: LatentShape,
        prompt: TextStates,
        negative: Option<TextStates>,
    ) -> Result<Job> {
        let grid = shape.tokens(self.compression.packing);
        let latents = request.latents.clone().unwrap_or_else(|| noise::normal(request.seed, 0, shape.elements()));
        Ok(Job {
            shape,
            schedule: self.schedule(request, &shape)?,
            prompt,
            negative,
            guidance: request.guidance,
            rope: self.transformer.rope(grid, Some(self.rope_scale())),
            coordinates: if self.manifest.coordinate_channels == 0 { Vec::new() } else { tokens::coordinates(grid) },
            noise: request.conditioning.token_noise(shape, self.compression)?,
            tokens: tokens::pack(&latents, shape.extents(), self.compression.packing),
        })
    }

    /// Latents `[1, C, F, H, W]` of the frames that the plan gives, 0 elsewhere.
    async fn encode_sources(&self, request: &GenerateRequest, shape: LatentShape, cancel: &CancelToken) -> Result<Vec<f32>> {
        let conditioning = &request.conditioning;
        let Some(plan) = &conditioning.plan else { return Ok(vec![0.0; shape.elements()]) };
        let step = self.compression.latent[0];
        let [frames, height, width] = shape.grid;
        let area = height * width;
        let mut latents = vec![0.0; shape.elements()];
        for segment in plan.segments(step, &conditioning.lengths())? {
            let source: Vec<&[u8]> = segment.clip_frames.iter().map(|i| conditioning.sources[segment.clip][*i].as_slice()).collect();
            let encoded_frames = segment.lead + segment.latent_frames.len();
            let own = LatentShape { channels: shape.channels, grid: [encoded_frames, height, width] };
            let encoded = encode_rgba(&self.vae, &self.device, &source, own, cancel).await?;
            for channel in 0..shape.channels {
                let from = (channel * encoded_frames + segment.lead) * area;
                let to = (channel * frames + segment.latent_frames.start) * area;
                let count = segment.latent_frames.len() * area;
                latents[to..to + count].copy_from_slice(&encoded[from..from + count]);
            }
        }
        Ok(latents)
    }

    /// Denoises jobs side by side to latents `[1, C, F, H, W]`; `predict_every` as in [`Denoise`].
    pub(super) async fn denoise(
        &self,
        jobs: &[Job],
        predict_every: usize,
        cancel: &CancelToken,
        on_step: &mut impl AsyncFnMut(StepDone) -> Result<()>,
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let sequences: Vec<Sequence<'_>> = jobs.iter().map(Job::sequence).collect();
        let guided_channels = self.guided_channels(jobs);
        let denoise = Denoise { transformer: &self.transformer, sequences: &sequences, guided_channels, predict_every };
        let tokens: Vec<f32> = jobs.iter().flat_map(|job| job.tokens.iter().copied()).collect();
        let denoised = denoise.run(&self.device, &tokens, cancel, on_step).await?;
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
        Ok(decode_rgba(&self.vae, &self.device, &first, shape.first_frame(), cancel).await?.swap_remove(0))
    }

    /// Features of a token that guidance acts on: the latent channel is their outermost axis.
    pub(super) fn guided_channels(&self, jobs: &[Job]) -> usize {
        let features = self.compression.packing.iter().product::<usize>();
        let channels = jobs.iter().filter_map(|job| job.guidance.channels).min();
        features * channels.unwrap_or(self.vae.config.latent_channels)
    }

    /// Latents to the finished clip.
    pub(super) async fn finish(&self, request: &GenerateRequest, job: &Job, latents: Vec<f32>, cancel: &CancelToken) -> Result<Generated> {
        let decoded = self.decode(&latents, job.shape, cancel).await?;
        let (frames, decoded) = join(decoded, &request.conditioning, self.compression.latent[0])?;
        Ok(Generated {
            width: request.width,
            height: request.height,
            fps: self.manifest.fps,
            frames,
            decoded,
            latents,
            latents_shape: job.shape.dims(),
        })
    }

    /// The extents of the latents, if everything in the request is possible.
    pub(super) fn check(&self, request: &GenerateRequest) -> Result<LatentShape> {
        let channels = self.vae.config.latent_channels;
        let shape = LatentShape::of_clip(request.width, request.height, request.frames, channels, self.compression)?;
        request.guidance.check(channels)?;
        if let Some(latents) = request.latents.as_ref().filter(|l| l.len() != shape.elements()) {
            let expected = format!("{:?}", shape.dims());
            return Err(Error::InvalidRequest { parameter: "latents".into(), found: format!("{} values", latents.len()), expected });
        }
        Ok(shape)
    }

    fn schedule(&self, request: &GenerateRequest, shape: &LatentShape) -> Result<Schedule> {
        let mut config = self.schedule;
        if let Some(shift) = request.shift {
            config.shift = shift;
            config.use_dynamic_shifting = false;
        }
        let tokens = shape.tokens(self.compression.packing).iter().product();
        config.schedule(&Levels::ramp(request.steps), config.mu(tokens))
    }

    /// Seconds and pixels from one token to the next.
    fn rope_scale(&self) -> [f32; 3] {
        self.manifest.rope_interpolation_scale.unwrap_or_else(|| {
            let [t, h, w] = self.compression.latent.map(|n| n as f32);
            [t / self.manifest.fps, h, w]
        })
    }

    async fn encode_text(&self, text: &str, cancel: &CancelToken, on_event: &mut dyn FnMut(Event)) -> Result<TextStates> {
        let encoding = self.tokenizer.encode(text, self.manifest.max_text_tokens);
        on_event(Event::Text { tokens: encoding.ids.len(), truncated: encoding.truncated });
        // Without padding there is nothing to mask, here and in the transformer.
        let states = self.text_encoder.encode(&self.device, &encoding.ids, cancel).await?;
        Ok(TextStates { states, mask: Vec::new() })
    }
}

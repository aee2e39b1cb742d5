//! [`VideoPipeline`]: a model folder, and a prompt to frames.

#[cfg(feature = "families")]
mod beside;
mod blend;
mod coder;
mod decode;
mod encode;
mod given;
mod job;
mod load;
mod moving;
mod outlook;
#[cfg(not(target_arch = "wasm32"))]
mod packed;
mod packs;
pub mod parts;
mod passes;
mod prompts;
mod recover;
mod refine;
mod requirements;
#[cfg(feature = "families")]
mod rollout;
mod sink;
mod sources;
mod states;
mod text;
mod windows;
mod words;

use std::ops::Range;
use std::sync::Mutex;

use kinora_kernels::{CancelToken, Device};

pub use self::coder::{Coder, CoderMemory};
use self::job::Job;
pub use self::outlook::Estimate;
pub use self::parts::ModelParts;
use self::refine::Refiners;
pub use self::requirements::{Requirements, StageMemory};
pub use self::sink::Made;
use self::sink::Sink;
use self::states::TextStates;
use self::words::Words;
use crate::conditioning::{Conditioning, Timeline};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::executables::Executables;
use crate::layout::Budget;
use crate::manifest::Manifest;
use crate::models::family::{Autoencoder, Direction, ImageEncoder, PipelineClass};
use crate::request::GenerateRequest;
use crate::sampling::denoise::{Expert, StepDone};
use crate::sampling::packing::{self, Item};
use crate::sampling::solvers::SchedulerFile;
use crate::shape::{Compression, LatentShape};
use crate::understanding::{Understanding, Vocabulary, expansion_task};
use crate::weights::LoraReport;

/// A finished clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Frames per second.
    pub fps: f32,
    /// RGBA bytes of each frame, row-major.
    pub frames: Vec<Vec<u8>>,
    /// Which of the frames were decoded; before and after them are those of the clips that they continue.
    pub decoded: Range<usize>,
    /// The final latents `[1, C, F, H, W]`, row-major, as the transformer left them.
    pub latents: Vec<f32>,
    /// Their extents.
    pub latents_shape: [usize; 5],
}

/// A loaded text-to-video model.
pub struct VideoPipeline {
    /// Another after it was lost.
    device: Mutex<Device>,
    executables: Executables,
    class: &'static PipelineClass,
    manifest: Manifest,
    scheduler: SchedulerFile,
    words: Words,
    texts: TextStates,
    /// There if the denoisers look at pictures.
    image_encoder: Option<Box<dyn ImageEncoder>>,
    /// From high noise to low; at least one.
    experts: Vec<Expert>,
    vae: Box<dyn Autoencoder>,
    refiners: Refiners,
    compression: Compression,
    understanding: Option<Understanding>,
    loras: Vec<LoraReport>,
    budget: Budget,
    /// Decodes in place of the autoencoder.
    decoder: Option<Box<dyn Autoencoder>>,
    /// Bytes of the device that everything together may take.
    memory: Option<u64>,
}

impl VideoPipeline {
    /// Moves to another device: weights are uploaded again when they are needed, and texts encoded again, whose states may differ there.
    pub fn set_device(&mut self, device: Device) {
        self.device = Mutex::new(device);
        self.executables = Executables::with_budget(self.memory);
        self.forget_texts();
    }

    /// Forgets the texts that were encoded, with their states; those that were given stay.
    pub fn forget_texts(&self) {
        self.texts.forget();
    }

    /// What the autoencoder may take of the device's memory; where that is not enough for a clip as a whole, it is encoded and
    /// decoded in parts.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
        self.executables = Executables::with_budget(self.memory);
    }

    /// How many executables (a recorded, fused and allocated plan) were made so far: clips, windows and previews of the same
    /// sizes use those of the ones before.
    pub fn executables_made(&self) -> usize {
        self.executables.made()
    }

    /// What encodes or decodes on a device.
    fn coder<'a>(&'a self, direction: Direction, device: &'a Device) -> Coder<'a> {
        let vae = match direction {
            Direction::Encode => &self.vae,
            Direction::Decode => self.decoder.as_ref().unwrap_or(&self.vae),
        };
        Coder { vae: vae.as_ref(), device, executables: &self.executables, budget: self.budget }
    }

    /// Pixels per latent and latents per token: sizes must be multiples of their product.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The defaults and limits of the model.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What came of each adaptation it was loaded with, for each denoiser.
    pub fn loras(&self) -> &[LoraReport] {
        &self.loras
    }

    /// The words of a model that lists them.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        self.understanding.as_ref().map(Understanding::vocabulary)
    }

    /// What a language model is told that is to expand prompts for this model.
    pub fn expansion_task(&self) -> String {
        expansion_task(self.vocabulary())
    }

    /// A request for `prompt` with the model's defaults.
    pub fn request(&self, prompt: impl Into<String>) -> GenerateRequest {
        let m = &self.manifest;
        GenerateRequest {
            prompt: prompt.into(),
            original_prompt: None,
            negative: String::new(),
            width: m.default_width,
            height: m.default_height,
            frames: m.default_frames,
            fps: m.fps.into(),
            steps: m.default_steps,
            sampler: None,
            sigmas: None,
            guidance: m.guidance(m.default_guidance),
            conditioning_scale: None,
            step_cache: None,
            shift: None,
            seed: 0,
            latents: None,
            conditioning: Conditioning::default(),
            long: None,
            preview_every: 0,
            preview_frames: 1,
            upscale: 1,
            interpolate: 1,
        }
    }

    /// Prompt to frames: encode the text and whatever is given, denoise, decode; for a clip of windows over and over, with
    /// events that count over all of them. Ends with [`Error::Cancelled`] soon after `cancel` is.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::InvalidConditioning`], [`Error::Cancelled`], [`Error::NonFinite`],
    /// [`Error::Kernels`].
    pub async fn generate(&self, request: &GenerateRequest, cancel: &CancelToken, on_event: &mut dyn FnMut(Event)) -> Result<Generated> {
        self.generate_many(std::slice::from_ref(request), cancel, &mut |_, event| on_event(event)).await?.remove(0)
    }

    /// [`generate`](Self::generate), with each frame given to `sink` as soon as it is there: a piece of the clip is decoded when the
    /// frames of the one before are taken, so that memory does not grow with the clip, and the `frames` returned are none. A clip
    /// that is given frames comes as a whole at its end, one of windows window by window unless it is refined afterwards.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and those of `sink`.
    pub async fn generate_frames(
        &self,
        request: &GenerateRequest,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Generated> {
        let mut ended = Err(Error::Cancelled);
        let sink = &mut async |_: usize, made| match made {
            Made::Latents(..) => Ok(()),
            Made::Frame(frame) => sink(frame).await,
            Made::End(made) => {
                ended = made;
                Ok(())
            }
        };
        self.generate_each(std::slice::from_ref(request), cancel, &mut |_, event| on_event(event), sink).await?;
        ended
    }

    /// [`generate`](Self::generate) of one window, which may go on with the latents of the one before.
    async fn continued(
        &self,
        request: &GenerateRequest,
        before: Option<&Generated>,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Generated> {
        self.check(request)?;
        let texts = self.encode_texts(&[request], cancel, &mut |_, event| on_event(event)).await?.remove(0);
        let job = self.prepare(request, before, texts, cancel).await?;
        let latents = self.denoise_told(&[(request, &job)], cancel, &mut |_, event| on_event(event)).await?.remove(0)?;
        on_event(Event::Decode { frames: request.frames });
        self.whole(request, &job, latents, cancel).await
    }

    /// Jobs of equal steps, denoised side by side to latents; one alone has previews.
    async fn denoise_told(
        &self,
        pack: &[(&GenerateRequest, &Job)],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Result<Vec<f32>>>> {
        let jobs: Vec<&Job> = pack.iter().map(|(_, job)| *job).collect();
        let (preview_every, preview_frames) =
            if let [(request, _)] = pack { (request.preview_every, request.preview_frames) } else { (0, 0) };
        let on_step = &mut async |StepDone { step, steps, reused, predicted }: StepDone| {
            let mut preview = match predicted {
                Some(tokens) => Some(self.preview(&tokens, jobs[0], preview_frames, cancel).await?),
                None => None,
            };
            for (at, (request, _)) in pack.iter().enumerate() {
                on_event(at, Event::Step { step, steps: steps + self.later_steps(request), reused, preview: preview.take() });
            }
            Ok(())
        };
        self.denoise(&jobs, preview_every, cancel, on_step).await
    }

    /// Whether [`generate`](Self::generate) could make it, found without running anything.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::InvalidConditioning`].
    pub fn validate(&self, request: &GenerateRequest) -> Result<()> {
        let shape = self.check(request)?;
        self.token_noise(request, shape)?;
        self.check_given(request)?;
        if let Some(plan) = &request.conditioning.plan {
            plan.outside(self.compression.latent[0], &request.conditioning.lengths())?;
        }
        if let Some(long) = &request.long {
            self.windows(request, long)?;
        }
        Ok(())
    }

    /// Several generations at once, of any shapes: those with equal steps are packed and denoised side by side, which
    /// costs less than one after another and gives each what it would get alone. Those of windows come last, one after
    /// another. `on_event` is told which one it is about. One that fails does not stop the others. Only those that are
    /// denoised alone have previews.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`]; per generation those of [`generate`](Self::generate).
    pub async fn generate_many(
        &self,
        requests: &[GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Result<Generated>>> {
        let mut frames: Vec<Vec<Vec<u8>>> = vec![Vec::new(); requests.len()];
        let mut results: Vec<Option<Result<Generated>>> = requests.iter().map(|_| None).collect();
        let sink = &mut async |at: usize, made| {
            match made {
                Made::Latents(..) => {}
                Made::Frame(frame) => frames[at].push(frame),
                Made::End(made) => results[at] = Some(made.map(|made| Generated { frames: std::mem::take(&mut frames[at]), ..made })),
            }
            Ok(())
        };
        self.generate_each(requests, cancel, on_event, sink).await?;
        Ok(results.into_iter().flatten().collect())
    }

    /// [`generate_many`](Self::generate_many), with each frame given to `sink` as soon as it is there, as
    /// [`generate_frames`](Self::generate_frames) does, and the rest of each generation after its last: frames of two never
    /// alternate.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`], and those of `sink` that are not about one frame.
    pub async fn generate_each(
        &self,
        requests: &[GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
        sink: &mut impl AsyncFnMut(usize, Made) -> Result<()>,
    ) -> Result<()> {
        self.each(requests, cancel, on_event, sink).await
    }

    async fn each(
        &self,
        requests: &[GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
        sink: &mut dyn Sink,
    ) -> Result<()> {
        // Whatever else is wrong with one is found when its turn comes.
        let refused = |request: &GenerateRequest| {
            let memory = || self.check_memory(request).err().filter(|error| matches!(error, Error::Memory { .. }));
            // Prompts are read together, of which one that names nothing must not stop the others.
            #[cfg(feature = "images")]
            if let Err(error) = self.words.check([&request.prompt, &request.negative]) {
                return Some(error);
            }
            memory()
        };
        let mut open: Vec<(usize, &GenerateRequest)> = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            match refused(request) {
                Some(error) => sink.take(at, Made::End(Err(error))).await?,
                None => open.push((at, request)),
            }
        }
        let (long, short): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, request)| self.is_alone(request));
        let (places, short): (Vec<usize>, Vec<&GenerateRequest>) = short.into_iter().unzip();
        let texts = self.encode_texts(&short, cancel, &mut |at, event| on_event(places[at], event)).await?;
        let mut jobs = Vec::with_capacity(short.len());
        for ((at, request), texts) in places.into_iter().zip(short).zip(texts) {
            match self.prepare(request, None, texts, cancel).await {
                Ok(job) => jobs.push((at, job)),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => sink.take(at, Made::End(Err(error))).await?,
            }
        }
        let items: Vec<Item> = jobs.iter().map(|(_, job)| self.job_item(job)).collect();
        for pack in packing::pack(&items, packing::MAX_PACKED_TOKENS) {
            let members: Vec<(&GenerateRequest, &Job)> = pack.iter().map(|at| (&requests[jobs[*at].0], &jobs[*at].1)).collect();
            let denoised = self.denoise_told(&members, cancel, &mut |at, event| on_event(jobs[pack[at]].0, event)).await?;
            for ((pack_at, (request, job)), latents) in pack.iter().zip(members).zip(denoised) {
                let at = jobs[*pack_at].0;
                let take = &mut async |made| sink.take(at, made).await;
                let made = match latents {
                    Ok(latents) => self.finish(request, job, latents, cancel, &mut |event| on_event(at, event), take).await,
                    Err(error) => Err(error),
                };
                sink.end(at, made).await?;
            }
        }
        for (at, request) in long {
            let frames = &mut async |frame| sink.take(at, Made::Frame(frame)).await;
            #[cfg(feature = "families")]
            if let Some(causal) = self.causal() {
                let made = self.generate_blocks(request, causal, cancel, &mut |event| on_event(at, event), frames).await;
                sink.end(at, made).await?;
                continue;
            }
            let Some(windows) = &request.long else { continue };
            let made = self.generate_windows(request, windows, cancel, &mut |event| on_event(at, event), frames).await;
            sink.end(at, made).await?;
        }
        Ok(())
    }

    /// Whether it is denoised beside no other: it is made piece by piece.
    fn is_alone(&self, request: &GenerateRequest) -> bool {
        request.long.is_some() || self.goes_on_alone()
    }

    /// Frames as RGBA bytes, `[height, width, 4]` each, to normalised latents `[1, C, F, H, W]` and their extents.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a size the model cannot take, [`Error::Cancelled`], [`Error::NonFinite`],
    /// [`Error::Kernels`].
    pub async fn encode(&self, frames: &[&[u8]], width: usize, height: usize, cancel: &CancelToken) -> Result<(Vec<f32>, LatentShape)> {
        let shape = LatentShape::of_clip(width, height, frames.len(), self.vae.latent_channels(), self.compression)?;
        let encode = async |device: &Device| self.coder(Direction::Encode, device).encode(frames, shape, cancel).await;
        Ok((self.on_device(encode).await?, shape))
    }

    /// Normalised latents `[1, C, F, H, W]` to frames of RGBA bytes.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::NonFinite`], [`Error::Kernels`].
    pub async fn decode(&self, latents: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<Vec<u8>>> {
        self.on_device(async |device: &Device| self.coder(Direction::Decode, device).decode_all(latents, shape, cancel).await).await
    }

    /// Latent frames of a clip of so many frames, for the tasks of [`conditioning`](crate::conditioning).
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the nearest number that works.
    pub fn timeline(&self, frames: usize) -> Result<Timeline> {
        let [step, height, width] = self.compression.latent;
        let [_, ph, pw] = self.compression.packing;
        let shape = LatentShape::of_clip(width * pw, height * ph, frames, 1, self.compression)?;
        Ok(Timeline { frames: shape.grid[0], step })
    }
}

//! [`VideoPipeline`]: a model folder, and a prompt to frames.

mod job;
mod windows;

use std::ops::Range;
use std::path::Path;

use kinora_kernels::{CancelToken, Device, Graph, WeightFormat};

use self::job::Job;
use crate::conditioning::{Conditioning, Timeline};
use crate::decode::{decode_plan, decode_rgba};
use crate::encode::encode_rgba;
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::models::Model;
use crate::models::ltx;
use crate::models::text::TextEncoder;
use crate::sampling::denoise::{Denoise, TextStates};
use crate::sampling::guidance::Guidance;
use crate::sampling::packing::{self, Item};
use crate::sampling::schedule::ScheduleConfig;
use crate::shape::{Compression, LatentShape, size_for_aspect};
use crate::text::Tokenizer;

/// What to generate. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// What the clip shows.
    pub prompt: String,
    /// What it must not show; used with a guidance above 1.
    pub negative: String,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
    /// Number of frames.
    pub frames: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance; a scale of 1 follows the prompt alone, with half the work.
    pub guidance: Guidance,
    /// Replaces the schedule's shift.
    pub shift: Option<f64>,
    /// Chooses the noise.
    pub seed: u64,
    /// Starting noise `[1, C, F, H, W]`, row-major, instead of the seed's.
    pub latents: Option<Vec<f32>>,
    /// Images and clips to work from, and what becomes of them; nothing for text alone.
    pub conditioning: Conditioning,
}

/// How far a generation is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt was read.
    Text {
        /// Its tokens.
        tokens: usize,
        /// Whether it was longer than the model reads.
        truncated: bool,
    },
    /// A denoising step is done.
    Step {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
    },
    /// The latents are being decoded to this many frames.
    Decode {
        /// Frames.
        frames: usize,
    },
}

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
    device: Device,
    manifest: Manifest,
    schedule: ScheduleConfig,
    tokenizer: Tokenizer,
    text_encoder: TextEncoder,
    transformer: ltx::Transformer,
    vae: ltx::Vae,
    compression: Compression,
}

impl VideoPipeline {
    /// Loads a model folder in diffusers layout. Matrices and convolutions are stored on the device as `format`.
    ///
    /// # Errors
    /// Those of missing, corrupt or unsupported files; each names the file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(device: Device, folder: &Path, format: WeightFormat) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::NotFound { what: "model folder".into(), path: folder.into() });
        }
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|e| Error::io("read", path, e))
        };
        let file = |name: &str| folder.join(name).display().to_string();
        let manifest = Manifest::parse(&read("model_index.json")?, &file("model_index.json"))?;
        let schedule =
            ScheduleConfig::from_json(read("scheduler/scheduler_config.json")?.as_bytes(), &file("scheduler/scheduler_config.json"))?;
        let open = |component: &str| Model::open(&folder.join(component), format);
        let wrong = |component: &str, known: &str| Error::UnknownClass {
            class: "another class".into(),
            file: file(&format!("{component}/config.json")),
            known: known.into(),
        };
        let Model::LtxTransformer(transformer) = open("transformer")? else {
            return Err(wrong("transformer", "LTXVideoTransformer3DModel"));
        };
        let Model::LtxVae(vae) = open("vae")? else { return Err(wrong("vae", "AutoencoderKLLTXVideo")) };
        let text_encoder = TextEncoder::new(open("text_encoder")?).ok_or_else(|| wrong("text_encoder", "T5EncoderModel, BertModel"))?;
        let tokenizer = Tokenizer::from_file(folder.join("tokenizer/tokenizer.json"))?;
        let compression = Compression { latent: vae.config.compression(), packing: manifest.token_packing };
        Ok(Self { device, manifest, schedule, tokenizer, text_encoder, transformer, vae, compression })
    }

    /// The defaults and limits of the model.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A request for `prompt` with the model's defaults.
    pub fn request(&self, prompt: impl Into<String>) -> GenerateRequest {
        let m = &self.manifest;
        GenerateRequest {
            prompt: prompt.into(),
            negative: String::new(),
            width: m.default_width,
            height: m.default_height,
            frames: m.default_frames,
            steps: m.default_steps,
            guidance: m.default_guidance.into(),
            shift: None,
            seed: 0,
            latents: None,
            conditioning: Conditioning::default(),
        }
    }

    /// Prompt to frames: encode the text and whatever is given, denoise, decode. Ends with [`Error::Cancelled`] soon
    /// after `cancel` is.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::InvalidConditioning`], [`Error::Cancelled`], [`Error::NonFinite`],
    /// [`Error::Kernels`].
    pub async fn generate(&self, request: &GenerateRequest, cancel: &CancelToken, on_event: &mut dyn FnMut(Event)) -> Result<Generated> {
        let job = self.prepare(request, cancel, on_event).await?;
        let on_step = &mut |step, steps| on_event(Event::Step { step, steps });
        let latents = self.denoise(&[&job], cancel, on_step).await?.remove(0)?;
        on_event(Event::Decode { frames: request.frames });
        self.finish(request, &job, latents, cancel).await
    }

    /// Whether [`generate`](Self::generate) could make it, found without running anything.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::InvalidConditioning`].
    pub fn validate(&self, request: &GenerateRequest) -> Result<()> {
        let shape = self.check(request)?;
        request.conditioning.token_noise(shape, self.compression)?;
        if let Some(plan) = &request.conditioning.plan {
            plan.outside(self.compression.latent[0], &request.conditioning.lengths())?;
        }
        Ok(())
    }

    /// Several generations at once, of any shapes: those with equal steps are packed and denoised side by side, which
    /// costs less than one after another and gives each what it would get alone. `on_event` is told which one it is about.
    /// One that fails does not stop the others.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Kernels`]; per generation those of [`generate`](Self::generate).
    pub async fn generate_many(
        &self,
        requests: &[GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Result<Generated>>> {
        let mut results: Vec<Option<Result<Generated>>> = requests.iter().map(|_| None).collect();
        let mut jobs = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            match self.prepare(request, cancel, &mut |event| on_event(i, event)).await {
                Ok(job) => jobs.push((i, job)),
                Err(error) if error.code() == "cancelled" => return Err(error),
                Err(error) => results[i] = Some(Err(error)),
            }
        }
        let items: Vec<Item> = jobs.iter().map(|(_, job)| self.item(job)).collect();
        for pack in packing::pack(&items, packing::MAX_PACKED_TOKENS) {
            let members: Vec<&Job> = pack.iter().map(|at| &jobs[*at].1).collect();
            let on_step = &mut |step, steps| pack.iter().for_each(|at| on_event(jobs[*at].0, Event::Step { step, steps }));
            for (at, latents) in pack.iter().zip(self.denoise(&members, cancel, on_step).await?) {
                let (i, job) = &jobs[*at];
                results[*i] = Some(match latents {
                    Err(error) => Err(error),
                    Ok(latents) => {
                        on_event(*i, Event::Decode { frames: requests[*i].frames });
                        match self.finish(&requests[*i], job, latents, cancel).await {
                            Err(error) if error.code() == "cancelled" => return Err(error),
                            finished => finished,
                        }
                    }
                });
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Frames as RGBA bytes, `[height, width, 4]` each, to normalised latents `[1, C, F, H, W]` and their extents.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a size the model cannot take, [`Error::Cancelled`], [`Error::NonFinite`],
    /// [`Error::Kernels`].
    pub async fn encode(&self, frames: &[&[u8]], width: usize, height: usize, cancel: &CancelToken) -> Result<(Vec<f32>, LatentShape)> {
        let shape = LatentShape::of_clip(width, height, frames.len(), self.vae.config.latent_channels, self.compression)?;
        Ok((encode_rgba(&self.vae, &self.device, frames, shape, cancel).await?, shape))
    }

    /// Normalised latents `[1, C, F, H, W]` to frames of RGBA bytes.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::NonFinite`], [`Error::Kernels`].
    pub async fn decode(&self, latents: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<Vec<u8>>> {
        decode_rgba(&self.vae, &self.device, latents, shape, cancel).await
    }

    /// The size nearest to an aspect ratio (width, height) with about as many pixels as the model's default.
    pub fn size_for_aspect(&self, aspect: [usize; 2]) -> [usize; 2] {
        let unit = |axis: usize| self.compression.latent[axis] * self.compression.packing[axis];
        size_for_aspect(aspect, self.manifest.default_width * self.manifest.default_height, [unit(2), unit(1)])
    }

    /// The largest number of frames up to `most` that a clip can have; at least 1 latent frame.
    pub fn frames_up_to(&self, most: usize) -> usize {
        let [step, packing] = [self.compression.latent[0], self.compression.packing[0]];
        let groups = (1 + most.saturating_sub(1) / step) / packing;
        1 + (groups.max(1) * packing - 1) * step
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

    /// The plans of a generation with the model's defaults and one branch of guidance, for measurements: denoising, decoding.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn plans(&self) -> Result<(Graph, Graph)> {
        const TEXT_TOKENS: usize = 8;
        let request = GenerateRequest { guidance: 1.0.into(), ..self.request("") };
        let shape = self.check(&request)?;
        let states = vec![0.5; TEXT_TOKENS * self.transformer.config().caption_channels];
        let job = self.job(&request, shape, TextStates { states, mask: Vec::new() }, None)?;
        let denoise = Denoise { transformer: &self.transformer, sequences: &[job.sequence()], guided_channels: self.guided_channels(&job) };
        Ok((denoise.plan()?, decode_plan(&self.vae, shape)?))
    }
}

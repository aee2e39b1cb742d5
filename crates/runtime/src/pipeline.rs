//! [`VideoPipeline`]: a model folder, and a prompt to frames.

use std::cell::RefCell;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use kinora_kernels::{CancelToken, Device, Graph, Kernel, WeightFormat};

use crate::decode::{decode_plan, decode_rgba};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::models::Model;
use crate::models::ltx::{self, tokens};
use crate::models::text::TextEncoder;
use crate::sampling::denoise::{Denoise, StepDone, TextStates};
use crate::sampling::noise;
use crate::sampling::schedule::{Levels, ScheduleConfig};
use crate::shape::{Compression, LatentShape};
use crate::text::Tokenizer;
use crate::weights::ModelFiles;

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
    /// Classifier-free guidance; 1 follows the prompt alone, with half the work.
    pub guidance: f32,
    /// Replaces the schedule's shift.
    pub shift: Option<f64>,
    /// Chooses the noise.
    pub seed: u64,
    /// Starting noise `[1, C, F, H, W]`, row-major, instead of the seed's.
    pub latents: Option<Vec<f32>>,
    /// Show the first frame as predicted after every so many steps, in [`Event::Step`]; 0 for never.
    pub preview_every: usize,
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
        /// RGBA bytes of the first frame as the model predicts it now, where [`GenerateRequest::preview_every`] asks for it.
        preview: Option<Vec<u8>>,
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
    /// The final latents `[1, C, F, H, W]`, row-major, as the transformer left them.
    pub latents: Vec<f32>,
    /// Their extents.
    pub latents_shape: [usize; 5],
}

/// Length of a prompt, for plans without one.
const TYPICAL_TOKENS: usize = 8;

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
        let read = &mut |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|e| Error::io("read", path, e))
        };
        let open = &mut |component: &str| Model::open(&folder.join(component), format);
        Self::assemble(device, &|name| folder.join(name).display().to_string(), read, open)
    }

    /// Loads a model whose files are in memory: what a program without a file system has.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_files(device: Device, files: ModelFiles, format: WeightFormat) -> Result<Self> {
        let files = RefCell::new(files);
        let path = |name: &str| files.borrow().path(name);
        let read = &mut |name: &str| files.borrow_mut().take(name);
        let open = &mut |component: &str| {
            let config = files.borrow_mut().take(&format!("{component}/config.json"))?;
            let file = path(&format!("{component}/config.json"));
            let checkpoint = files.borrow_mut().take_checkpoint(component)?;
            Model::load(&utf8(config, &file)?, &file, &checkpoint, format)
        };
        Self::assemble(device, &path, read, open)
    }

    /// The pipeline of a folder: `path` names a file in errors, `read` reads one, `open` loads a component.
    fn assemble(
        device: Device,
        path: &dyn Fn(&str) -> String,
        read: &mut dyn FnMut(&str) -> Result<Vec<u8>>,
        open: &mut dyn FnMut(&str) -> Result<Model>,
    ) -> Result<Self> {
        let index = path("model_index.json");
        let manifest = Manifest::parse(&utf8(read("model_index.json")?, &index)?, &index)?;
        let scheduler = "scheduler/scheduler_config.json";
        let schedule = ScheduleConfig::from_json(&read(scheduler)?, &path(scheduler))?;
        let wrong = |component: &str, known: &str| Error::UnknownClass {
            class: "another class".into(),
            file: path(&format!("{component}/config.json")),
            known: known.into(),
        };
        let Model::LtxTransformer(transformer) = open("transformer")? else {
            return Err(wrong("transformer", "LTXVideoTransformer3DModel"));
        };
        let Model::LtxVae(vae) = open("vae")? else { return Err(wrong("vae", "AutoencoderKLLTXVideo")) };
        let text_encoder = TextEncoder::new(open("text_encoder")?).ok_or_else(|| wrong("text_encoder", "T5EncoderModel, BertModel"))?;
        let tokenizer = Tokenizer::from_json(&read("tokenizer/tokenizer.json")?)?;
        let compression = Compression { latent: vae.config.compression(), packing: manifest.token_packing };
        Ok(Self { device, manifest, schedule, tokenizer, text_encoder, transformer, vae, compression })
    }

    /// Moves to another device, for when the one in use was lost: weights are uploaded again when they are needed.
    pub fn set_device(&mut self, device: Device) {
        self.device = device;
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Pixels per latent and latents per token: sizes must be multiples of their product.
    pub fn compression(&self) -> Compression {
        self.compression
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
            guidance: m.default_guidance,
            shift: None,
            seed: 0,
            latents: None,
            preview_every: 0,
        }
    }

    /// Prompt to frames: encode the text, denoise, decode. Ends with [`Error::Cancelled`] soon after `cancel` is.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::Cancelled`], [`Error::NonFinite`], [`Error::Kernels`].
    pub async fn generate(&self, request: &GenerateRequest, cancel: &CancelToken, on_event: &mut dyn FnMut(Event)) -> Result<Generated> {
        let shape = self.check(request)?;
        // The decoder needs the largest buffers, and comes last.
        self.device.check_limits(&decode_plan(&self.vae, shape)?)?;
        let schedule = self.schedule(request, &shape)?;
        let prompt = self.encode_text(&request.prompt, cancel, on_event).await?;
        let negative = if request.guidance == 1.0 { None } else { Some(self.encode_text(&request.negative, cancel, &mut |_| {}).await?) };

        let noise = match &request.latents {
            Some(latents) => latents.clone(),
            None => noise::normal(request.seed, 0, shape.elements()),
        };
        let (rope, coordinates) = self.positions(&shape);
        let denoise = Denoise {
            transformer: &self.transformer,
            schedule: &schedule,
            prompts: &[prompt],
            negatives: negative.as_slice(),
            guidance: request.guidance,
            rope: &rope,
            coordinates: &coordinates,
            given: &[],
            predict_every: request.preview_every,
        };
        let packed = tokens::pack(&noise, shape.extents(), self.compression.packing);
        let on_step = &mut async |StepDone { step, steps, predicted }: StepDone| {
            let preview = match predicted {
                Some(tokens) => Some(self.preview(&tokens, shape, cancel).await?),
                None => None,
            };
            on_event(Event::Step { step, steps, preview });
            Ok(())
        };
        let denoised = denoise.run(&self.device, &packed, cancel, on_step).await?;
        let latents = tokens::unpack(&denoised, shape.extents(), self.compression.packing);

        on_event(Event::Decode { frames: request.frames });
        let frames = decode_rgba(&self.vae, &self.device, &latents, shape, cancel).await?;
        let fps = self.manifest.fps;
        Ok(Generated { width: request.width, height: request.height, fps, frames, latents, latents_shape: shape.dims() })
    }

    /// The plans of a generation with the model's defaults and one branch of guidance, for measurements: denoising, decoding.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn plans(&self) -> Result<(Graph, Graph)> {
        let request = self.request("");
        let shape = self.check(&request)?;
        let (rope, coordinates) = self.positions(&shape);
        let states = vec![0.5; TYPICAL_TOKENS * self.transformer.config().caption_channels];
        let denoise = Denoise {
            transformer: &self.transformer,
            schedule: &self.schedule(&request, &shape)?,
            prompts: &[TextStates { states, mask: Vec::new() }],
            negatives: &[],
            guidance: 1.0,
            rope: &rope,
            coordinates: &coordinates,
            given: &[],
            predict_every: 0,
        };
        Ok((denoise.plan()?, decode_plan(&self.vae, shape)?))
    }

    /// The kernels of a generation with the model's defaults, previews included, each once and in the order of their first
    /// use: to be compiled ahead of time. None on the CPU.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn kernels(&self) -> Result<Vec<&'static Kernel>> {
        let Some(family) = self.device.family() else { return Ok(Vec::new()) };
        let (denoise, decode) = self.plans()?;
        let first = self.check(&self.request(""))?.first_frame();
        let mut kernels: Vec<&'static Kernel> = Vec::new();
        for graph in [self.text_encoder.plan(TYPICAL_TOKENS)?, denoise, decode_plan(&self.vae, first)?, decode] {
            let new = graph.kernels(family).into_iter().filter(|kernel| !kernels.iter().any(|known| known.name == kernel.name));
            kernels.extend(new.collect::<Vec<_>>());
        }
        Ok(kernels)
    }

    /// RGBA bytes of the first frame: the first latent frame decoded by itself, a fraction of the clip's work.
    async fn preview(&self, tokens: &[f32], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<u8>> {
        let latents = tokens::unpack(tokens, shape.extents(), self.compression.packing);
        let [frames, height, width] = shape.grid;
        let first: Vec<f32> =
            latents.chunks_exact(frames * height * width).flat_map(|channel| &channel[..height * width]).copied().collect();
        Ok(decode_rgba(&self.vae, &self.device, &first, shape.first_frame(), cancel).await?.swap_remove(0))
    }

    /// Rotary table `[L, D]` and position features `[L, 15]`, or none, of the tokens.
    fn positions(&self, shape: &LatentShape) -> (Vec<f32>, Vec<f32>) {
        let grid = shape.tokens(self.compression.packing);
        let coordinates = if self.manifest.coordinate_channels == 0 { Vec::new() } else { tokens::coordinates(grid) };
        (self.transformer.rope(grid, Some(self.rope_scale())), coordinates)
    }

    fn check(&self, request: &GenerateRequest) -> Result<LatentShape> {
        let channels = self.vae.config.latent_channels;
        let shape = LatentShape::of_clip(request.width, request.height, request.frames, channels, self.compression)?;
        if !request.guidance.is_finite() {
            let expected = "a finite number, 1 for none".into();
            return Err(Error::InvalidRequest { parameter: "guidance".into(), found: request.guidance.to_string(), expected });
        }
        if let Some(latents) = request.latents.as_ref().filter(|l| l.len() != shape.elements()) {
            let expected = format!("{:?}", shape.dims());
            return Err(Error::InvalidRequest { parameter: "latents".into(), found: format!("{} values", latents.len()), expected });
        }
        Ok(shape)
    }

    fn schedule(&self, request: &GenerateRequest, shape: &LatentShape) -> Result<crate::sampling::schedule::Schedule> {
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

fn utf8(bytes: Vec<u8>, file: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| Error::InvalidConfig { file: file.into(), problem: e.to_string() })
}

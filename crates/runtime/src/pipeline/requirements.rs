//! What a generation takes in memory, stage by stage, found by recording its plans: nothing of it runs and no weight is read.

use super::VideoPipeline;
use super::job::Job;
use super::text::{Text, Texts, encoded_negative, encoded_text, padded_rows, text_plan};
use crate::error::{Error, Result};
use crate::executables::Key;
use crate::layout::{Chosen, Time};
use crate::models::family::{Direction, Given};
use crate::request::GenerateRequest;
use crate::residency::{Account, Kept};
use crate::sampling::denoise::Denoise;
use crate::shape::LatentShape;

/// Copies of a clip's frames in host memory: as they are read and as they are kept.
const FRAME_COPIES: u64 = 2;

/// How often sides are halved to find a size that fits.
const HALVINGS: usize = 6;

/// What one stage takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageMemory {
    /// Which: `text encoder`, `encoder`, `denoiser`, `decoder`, `refiner`.
    pub name: &'static str,
    /// Bytes on the device at most while it is prepared and runs, with everything that stays of others.
    pub peak_bytes: u64,
    /// Bytes of its activations.
    pub activation_bytes: u64,
    /// Bytes of its weights that stay on the device while it runs.
    pub weight_bytes: u64,
    /// Bytes of its quantised weights that stay on the device as they are in their files, to be unpacked each time.
    pub kept_bytes: u64,
    /// Bytes of its weights that pass through two slots each time they are needed.
    pub streamed_bytes: u64,
    /// Chunks or windows in time, and tiles in space, that it is cut into.
    pub pieces: [usize; 2],
}

/// What a generation takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// In the order they run.
    pub stages: Vec<StageMemory>,
    /// Bytes on the device at most; none on the CPU.
    pub device_bytes: u64,
    /// Bytes of host memory: the frames that are there at once where each is taken as it comes, and what is given, or on the CPU everything.
    pub host_bytes: u64,
}

/// The account of a run that does not take place.
struct Foresight<'a> {
    pipeline: &'a VideoPipeline,
    account: Account<()>,
    found: Requirements,
    /// Latent frames that the decoder hands over at once, at most.
    decoded: usize,
}

impl Foresight<'_> {
    /// A stage that is prepared and put back, or found.
    fn stage(&mut self, key: Key, choose: impl FnOnce() -> Result<Chosen>) -> Result<()> {
        let kept = self.prepare(key, choose)?;
        self.account.keep(kept);
        Ok(())
    }

    /// A stage that is prepared and in use.
    fn prepare(&mut self, key: Key, choose: impl FnOnce() -> Result<Chosen>) -> Result<Kept<()>> {
        if let Some(kept) = self.account.take(&key) {
            return Ok(kept);
        }
        let chosen = choose()?;
        chosen.graphs.iter().try_for_each(|graph| self.pipeline.device().check_weights(graph))?;
        if let Key::Decode(_) = key {
            self.decoded = self.decoded.max(chosen.layout.frames_at_once());
        }
        let chunks = match &chosen.layout.time {
            Time::Chunks(lengths) => lengths.len(),
            Time::Windows(cut) => cut.starts.len(),
        };
        let pieces = [chunks.max(1), chosen.layout.tiles().max(1)];
        let name = key.name();
        let Some(preset) = self.pipeline.device().preset() else {
            let host_bytes = chosen.graphs.iter().map(kinora_kernels::Graph::host_bytes).max().unwrap_or(0);
            self.found.host_bytes = self.found.host_bytes.max(host_bytes);
            self.found.stages.push(StageMemory {
                name,
                peak_bytes: 0,
                activation_bytes: host_bytes,
                weight_bytes: 0,
                kept_bytes: 0,
                streamed_bytes: 0,
                pieces,
            });
            return Ok(Kept { key, bytes: chosen.value_bytes, footprint: Default::default(), held: () });
        };
        let admission = self.account.admit(&key, &chosen.graphs, chosen.value_bytes, preset)?;
        let footprint = admission.footprint;
        let peak_bytes = self.account.take_peak();
        self.found.device_bytes = self.found.device_bytes.max(peak_bytes);
        self.found.stages.push(StageMemory {
            name,
            peak_bytes,
            activation_bytes: footprint.values,
            weight_bytes: footprint.weight_bytes(),
            kept_bytes: footprint.kept,
            streamed_bytes: footprint.streamed,
            pieces,
        });
        Ok(Kept { key, bytes: chosen.value_bytes, footprint, held: () })
    }

    fn code(&mut self, direction: Direction, shape: LatentShape) -> Result<()> {
        let key = if direction == Direction::Encode { Key::Encode(shape) } else { Key::Decode(shape) };
        let device = self.pipeline.device();
        let coder = self.pipeline.coder(direction, &device);
        self.stage(key, || coder.choose(direction, shape))
    }
}

impl VideoPipeline {
    /// Bytes of the device that everything together may take: weights then leave it after their stage or are streamed where that is
    /// needed, and what does not fit is refused before a weight is read. All that there is without it.
    pub fn set_memory(&mut self, bytes: Option<u64>) {
        self.memory = bytes;
        let default = super::Budget::default();
        let most = bytes.map_or(default.total_bytes, |bytes| default.total_bytes.min(bytes));
        self.set_budget(super::Budget { total_bytes: most, least_value_bytes: default.least_value_bytes.min(most / 2) });
    }

    /// What `request` takes if nothing of this pipeline is on the device yet. Windows that follow the first are taken to be like the
    /// second.
    ///
    /// # Errors
    /// [`Error::Memory`] if it takes more than the pipeline [may](Self::set_memory), and as [`generate`](Self::generate).
    pub fn requirements(&self, request: &GenerateRequest) -> Result<Requirements> {
        let shape = self.check(request)?;
        let found = Requirements { stages: Vec::new(), device_bytes: 0, host_bytes: 0 };
        let mut all = Foresight { pipeline: self, account: Account::with_budget(self.memory), found, decoded: 0 };
        let (prompt, negative) = self.encoded_texts(request)?;
        let negative = negative.filter(|negative| *negative != prompt);
        let texts: Vec<Text> = [Some(prompt), negative].into_iter().flatten().collect();
        let sequences: Vec<[usize; 2]> = texts.iter().map(|text| [text.ids.len(), text.seen]).collect();
        if texts.iter().any(|text| !text.ids.is_empty() && !self.texts.knows(text)) {
            let encoder = self.texts.encoder_for(&request.prompt)?;
            all.stage(Key::Text(sequences.clone()), || Ok(Chosen::of(text_plan(encoder, &sequences)?)))?;
        }
        self.window_requirements(request, shape, &mut all)?;
        if let Some(long) = &request.long {
            let windows = self.windows(request, long)?;
            if !self.goes_on_alone() && windows.count()?.is_none_or(|count| count > 1) {
                // Frames are given as in every window but the first; which ones does not matter.
                let side = [request.width, request.height].iter().product::<usize>() * 4;
                let tail = vec![vec![0; side]; windows.shared_frames()];
                let conditioning = crate::conditioning::Conditioning::new(vec![tail], windows.continuation()?);
                let next = GenerateRequest { conditioning, latents: None, ..request.clone() };
                self.window_requirements(&next, shape, &mut all)?;
            }
        }
        let frames = request.long.as_ref().and_then(|long| long.clip_frames).unwrap_or(request.frames);
        for (key, graph) in self.refine_stages(request, frames)? {
            all.stage(key, || Ok(Chosen::of(graph)))?;
        }
        let pixels = (request.width * request.upscale * request.height * request.upscale) as u64;
        // Frames leave as they come, unless something concerns all of them.
        let kept = if self.is_refined(request) {
            frames * request.interpolate
        } else if request.conditioning.plan.is_some() || (request.long.is_some() && !self.goes_on_alone()) {
            frames.min(request.frames)
        } else {
            frames.min(all.decoded * self.compression.latent[0])
        };
        let clip = 4 * pixels * kept as u64;
        let both = [Some(&request.conditioning), request.conditioning.larger.as_deref()].into_iter().flatten();
        let given = both.flat_map(|given| &given.sources).flatten().map(|frame| frame.len() as u64).sum::<u64>();
        all.found.host_bytes += FRAME_COPIES * clip + given + 16 * shape.elements() as u64;
        Ok(all.found)
    }

    /// Everything of one window but its text.
    fn window_requirements(&self, request: &GenerateRequest, shape: LatentShape, all: &mut Foresight<'_>) -> Result<()> {
        let (mut given, mut alone) = (Vec::new(), Vec::new());
        if self.given() != Given::Tokens {
            all.code(Direction::Encode, shape)?;
            if !request.conditioning.references.is_empty() {
                all.code(Direction::Encode, shape.first_frame())?;
            }
            if let Some((key, graph)) = self.picture_stage()? {
                all.stage(key, || Ok(Chosen::of(graph)))?;
            }
        } else if let Some(plan) = &request.conditioning.plan {
            for segment in self.segments(&request.conditioning)? {
                let frames = segment.encoded_frames();
                let own = LatentShape { grid: [frames, shape.grid[1], shape.grid[2]], ..shape };
                all.code(Direction::Encode, own)?;
                given.push(own);
                alone.extend((segment.is_kept(plan) && request.conditioning.mask.is_none()).then_some(self.decoded_shape(request, own)));
            }
        }
        let job = self.job_of_sizes(request, shape)?;
        #[cfg(feature = "families")]
        if let Some(causal) = self.causal() {
            let schedules = self.block_schedules(request, shape, causal)?;
            if let Some(rollout) = self.rollout(request, &schedules, shape, job.texts()) {
                all.stage(rollout.key(), || rollout.plans())?;
            }
            if !self.is_streamed(request) {
                return all.code(Direction::Decode, shape);
            }
            let device = self.device();
            let (key, choose) = self.coder(Direction::Decode, &device).stream_stage(shape);
            all.decoded = 1;
            return all.stage(key, choose);
        }
        let sequences = [job.sequence()];
        let guided_channels = self.guided_channels(&job);
        let (predict_every, conditioning_scale, step_cache) = (request.preview_every, request.conditioning_scale, request.step_cache);
        let (experts, spacing) = (self.experts.as_slice(), self.job_spacing(&job));
        let denoise = Denoise { experts, sequences: &sequences, spacing, guided_channels, conditioning_scale, step_cache, predict_every };
        for (key, graph) in denoise.stages()? {
            let kept = all.prepare(key, || Ok(Chosen::of(graph)))?;
            if predict_every > 0 {
                all.code(Direction::Decode, shape.first_frame())?;
            }
            all.account.keep(kept);
        }
        #[cfg(feature = "families")]
        for (_, key, graph) in self.later_plans(request, &job)? {
            all.stage(key, || Ok(Chosen::of(graph)))?;
        }
        // In the size of the last pass, where there is another.
        for own in given.into_iter().map(|own| self.decoded_shape(request, own)).filter(|own| own.grid[1] > shape.grid[1]) {
            all.code(Direction::Encode, own)?;
        }
        all.code(Direction::Decode, self.decoded_shape(request, shape))?;
        alone.into_iter().try_for_each(|shape| all.code(Direction::Decode, shape))
    }

    /// Prompt and, where it guides, negative prompt as they are encoded.
    fn encoded_texts(&self, request: &GenerateRequest) -> Result<(Text, Option<Text>)> {
        let (rules, most) = (&self.class.text, self.manifest.max_text_tokens);
        let prompt = self.words.read(rules, most, &request.prompt)?.ids;
        let tokens = prompt.len();
        let negative = match request.guidance.is_off() {
            true => None,
            false => Some(encoded_negative(self.words.read(rules, most, &request.negative)?.ids, rules, most, tokens)),
        };
        Ok((encoded_text(prompt, rules, most), negative))
    }

    /// The job of a request with text states of the right size.
    fn job_of_sizes(&self, request: &GenerateRequest, shape: LatentShape) -> Result<Job> {
        let states =
            |text: Text| vec![0.0; padded_rows(text.ids.len(), &self.class.text, self.manifest.max_text_tokens) * self.texts.width()];
        let (prompt, negative) = self.encoded_texts(request)?;
        self.job(request, shape, Texts { prompt: states(prompt), negative: negative.map(states) })
    }

    /// A smaller request like this one that would fit, as the options that say so: fewer frames first, then smaller ones.
    pub fn fitting(&self, request: &GenerateRequest) -> Option<String> {
        let step = self.compression.latent[0];
        let is_cut = request.conditioning.plan.is_none() && request.long.is_none();
        let halved = |frames: usize| 1 + (frames - 1) / 2 / step * step;
        let lengths = std::iter::successors(Some(request.frames), |frames| (is_cut && *frames > 1).then(|| halved(*frames)));
        let lengths: Vec<usize> = lengths.collect();
        let half = |side: usize, axis: usize| {
            let multiple = self.compression.latent[axis] * self.compression.packing[axis];
            (side / 2 / multiple).max(1) * multiple
        };
        let sizes =
            std::iter::successors(Some([request.width, request.height]), |[width, height]| Some([half(*width, 2), half(*height, 1)]));
        for [width, height] in sizes.take(HALVINGS) {
            let same = [width, height] == [request.width, request.height];
            for &frames in &lengths {
                let conditioning = if same { request.conditioning.clone() } else { Default::default() };
                let tried = GenerateRequest { width, height, frames, conditioning, latents: None, ..request.clone() };
                if self.requirements(&tried).is_ok() && self.check_memory(&tried).is_ok() {
                    let size = if same { String::new() } else { format!("--size {width}x{height} ") };
                    let length = if frames == request.frames { String::new() } else { format!("--frames {frames}") };
                    return Some(format!("{size}{length}").trim_end().to_owned());
                }
            }
        }
        None
    }

    /// Refuses what does not fit the memory of the device or the host, before anything runs.
    pub(super) fn check_memory(&self, request: &GenerateRequest) -> Result<()> {
        // Pages set no bound and know of none; without this line they would download all of the above.
        if cfg!(target_arch = "wasm32") {
            return Ok(());
        }
        let is_known = self.executables.has(&Key::Decode(self.check(request)?));
        let available = if self.device().uses_host_memory() { crate::host_memory::available() } else { None };
        if is_known || (self.memory.is_none() && available.is_none()) {
            return Ok(());
        }
        let found = self.requirements(request)?;
        let needed = found.host_bytes + found.device_bytes;
        match available {
            Some(allowed) if needed > allowed => Err(Error::Memory { stage: "clip", needed, allowed }),
            _ => Ok(()),
        }
    }
}

//! What is known of a generation before it runs: its plans, its kernels, its time and its memory.

use kinora_kernels::{Cadence, CancelToken, Cost, Device, Executable, Graph, Kernel, Plan, Shape, Weight, WeightFormat};

use super::VideoPipeline;
use super::job::Job;
use super::text::{Texts, encoded_tokens, padded_rows, text_plan};
use crate::conditioning::Conditioning;
use crate::error::Result;
use crate::models::family::Direction;
use crate::request::GenerateRequest;
use crate::residency::KEPT_BYTES;
use crate::sampling::denoise::{Denoise, Sequence};
use crate::shape::LatentShape;

/// Length of a prompt, for plans without one.
const TYPICAL_TOKENS: usize = 8;

/// A processor does so many floating-point operations in about a second.
const SOON_FLOPS: f64 = 2e9;

/// How long it is tried what a processor does.
const PROBE_SECONDS: f64 = 0.03;

/// What a generation will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds from the text to the last frame.
    pub seconds: f64,
    /// Bytes on the device, weights included.
    pub gpu_bytes: u64,
}

impl VideoPipeline {
    /// The plans of a generation with the model's defaults and one branch of guidance, for measurements: denoising, decoding (if
    /// that is done in chunks, of one that follows others).
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn plans(&self) -> Result<(Graph, Graph)> {
        let request = GenerateRequest { guidance: 1.0.into(), ..self.request("") };
        let job = self.typical_job(&request)?;
        let device = self.device();
        let decode = self.coder(Direction::Decode, &device).choose(Direction::Decode, job.shape)?;
        Ok((self.typical_denoise(&job, &[job.sequence()]).plan()?, decode.into_last()?))
    }

    /// Prefixes of the labels of a block's steps in both [`plans`](Self::plans).
    pub fn first_blocks(&self) -> [String; 2] {
        let vae = self.decoder.as_ref().unwrap_or(&self.vae);
        [self.experts[0].denoiser.first_block().into(), format!("decoder.{}", vae.first_block())]
    }

    /// The kernels of a generation with the model's defaults, previews included, each once and in the order of their first
    /// use: to be compiled ahead of time. None on the CPU.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn kernels(&self) -> Result<Vec<&'static Kernel>> {
        let device = self.device();
        let Some(preset) = device.preset() else { return Ok(Vec::new()) };
        let job = self.typical_job(&GenerateRequest { guidance: 1.0.into(), ..self.request("") })?;
        let mut graphs: Vec<Graph> = self.typical_text_plan()?.into_iter().collect();
        graphs.push(self.typical_denoise(&job, &[job.sequence()]).plan()?);
        graphs.extend(self.coder(Direction::Decode, &device).choose(Direction::Decode, job.shape.first_frame())?.graphs);
        graphs.extend(self.coder(Direction::Decode, &device).choose(Direction::Decode, job.shape)?.graphs);
        let mut kernels: Vec<&'static Kernel> = Vec::new();
        // A page may ask for the model's own stages at any time.
        let every = GenerateRequest { upscale: 2, interpolate: 2, ..self.request("") };
        graphs.extend(self.refine_plans(&every, every.frames)?.into_iter().map(|(_, plan)| plan));
        for graph in graphs {
            let new = graph.kernels(preset).into_iter().filter(|kernel| !kernels.iter().any(|known| known.name == kernel.name));
            kernels.extend(new.collect::<Vec<_>>());
        }
        Ok(kernels)
    }

    /// What `request` will take here, by one denoising step of it: the rest is in proportion to its floating-point operations,
    /// which kernels do at unlike speeds. Windows that follow the first also encode and decode what they begin with; encoding
    /// what the request is given is left out, and of a clip without an end all but its first window. `clock` tells seconds.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn estimate(&self, request: &GenerateRequest, clock: &dyn Fn() -> f64, cancel: &CancelToken) -> Result<Estimate> {
        let device = self.device();
        let job = self.typical_job(request)?;
        let shape = self.decoded_shape(request, job.shape);
        let decode = self.coder(Direction::Decode, &device).choose(Direction::Decode, shape)?;
        let sequences = [job.sequence()];
        let denoise = self.typical_denoise(&job, &sequences);
        let step_seconds = denoise.time_step((&device, &self.executables), &job.tokens, clock, cancel).await?;
        let denoise = denoise.plan()?.cost();
        // What runs besides the steps, and how often.
        let mut stages: Vec<(usize, Cost)> = self.typical_text_plan()?.into_iter().map(|plan| (1, plan.cost())).collect();
        stages.push((1, decode.cost()));
        #[cfg(feature = "families")]
        for (times, _, graph) in self.later_plans(request, &job)? {
            stages.push((times, graph.cost()));
        }
        let mut count = 1;
        if let Some(long) = &request.long {
            let windows = self.windows(request, long)?;
            count = windows.count()?.unwrap_or(1);
            let grid = [windows.overlap, job.shape.grid[1], job.shape.grid[2]];
            let shared = LatentShape { grid, ..job.shape };
            stages.iter_mut().for_each(|(times, _)| *times = count);
            let coded = |direction| Ok((count - 1, self.coder(direction, &device).choose(direction, shared)?.cost()));
            stages.extend([Direction::Encode, Direction::Decode].map(coded).into_iter().collect::<Result<Vec<_>>>()?);
        }
        let frames = request.long.as_ref().and_then(|long| long.clip_frames).unwrap_or(request.frames);
        let refining: Vec<(usize, Cost)> =
            self.refine_plans(request, frames)?.into_iter().map(|(times, plan)| (times, plan.cost())).collect();
        let once = |(times, cost): &(usize, Cost)| *times as f64 * (cost.once_flops + cost.step_flops);
        let once_flops = count as f64 * denoise.once_flops + stages.iter().chain(&refining).map(once).sum::<f64>();
        // Shared frames, the last stage, are decoded with the weights of all frames.
        let weighted = stages.iter().take(3).chain(&refining);
        let weight_bytes = denoise.weight_bytes + weighted.map(|(_, cost)| cost.weight_bytes).sum::<u64>();
        stages.extend(refining);
        // Other stages stay allocated while denoising as far as there is room for them, and else run alone.
        let others: u64 = stages.iter().map(|(_, cost)| cost.value_bytes).sum();
        let largest = stages.iter().map(|(_, cost)| cost.value_bytes).fold(0, u64::max);
        let value_bytes = largest.max(denoise.value_bytes + others.min(KEPT_BYTES));
        Ok(Estimate {
            seconds: step_seconds * ((count * request.steps) as f64 + once_flops / denoise.step_flops),
            gpu_bytes: weight_bytes + value_bytes,
        })
    }

    /// Seconds that `request` takes on the processor, of one in windows its first, by what the processor does in a moment: known before
    /// any of it runs. Nothing on other devices, and for what is soon done.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn processor_seconds(&self, request: &GenerateRequest, clock: &dyn Fn() -> f64) -> Result<Option<f64>> {
        let device = self.device();
        if !matches!(device, Device::Host(_)) {
            return Ok(None);
        }
        let flops = self.flops(request)?;
        if flops < SOON_FLOPS {
            return Ok(None);
        }
        let shape = Shape::new(&[256, 256]);
        let weight = Weight::from_f32("probe", shape, &vec![0.5; shape.elements()], WeightFormat::F32);
        let plan = Plan::new();
        plan.output("y", plan.input("x", &[64, 256], Cadence::EveryStep).linear(&weight, None));
        let mut probe = Executable::new(&device, plan.finish()?)?;
        let each = probe.graph().cost().step_flops;
        // The first one packs the weight.
        probe.run().await?;
        let (begun, mut runs) = (clock(), 0.0);
        while runs == 0.0 || clock() - begun < PROBE_SECONDS {
            probe.run().await?;
            runs += 1.0;
        }
        Ok(Some(flops / (runs * each) * (clock() - begun)))
    }

    /// Floating-point operations of `request`, of one in windows those of the first.
    fn flops(&self, request: &GenerateRequest) -> Result<f64> {
        let device = self.device();
        let job = self.typical_job(request)?;
        let coded = |direction, shape| -> Result<Cost> { Ok(self.coder(direction, &device).choose(direction, shape)?.cost()) };
        let mut stages: Vec<Cost> = self.typical_text_plan()?.iter().map(Graph::cost).collect();
        for segment in self.segments(&request.conditioning)? {
            let grid = [segment.encoded_frames(), job.shape.grid[1], job.shape.grid[2]];
            stages.push(coded(Direction::Encode, LatentShape { grid, ..job.shape })?);
        }
        stages.push(coded(Direction::Decode, self.decoded_shape(request, job.shape))?);
        stages.extend(self.refine_plans(request, request.frames)?.into_iter().map(|(_, plan)| plan.cost()));
        let sequences = [job.sequence()];
        let denoise = self.typical_denoise(&job, &sequences).plan()?.cost();
        let once = |cost: &Cost| cost.once_flops + cost.step_flops;
        Ok(stages.iter().map(once).sum::<f64>() + denoise.once_flops + request.steps as f64 * denoise.step_flops)
    }

    /// The plan of a prompt of typical length, if it is encoded here.
    pub(super) fn typical_text_plan(&self) -> Result<Option<Graph>> {
        let tokens = encoded_tokens(TYPICAL_TOKENS, &self.class.text, self.manifest.max_text_tokens);
        self.texts.encoder().map(|encoder| text_plan(encoder, &[[tokens, tokens]])).transpose()
    }

    /// A request for text of typical length.
    pub(super) fn typical_job(&self, request: &GenerateRequest) -> Result<Job> {
        let shape = self.check(request)?;
        let rows = padded_rows(TYPICAL_TOKENS, &self.class.text, self.manifest.max_text_tokens);
        let prompt = vec![0.5; rows * self.texts.width()];
        let negative = (!request.guidance.is_off()).then(|| prompt.clone());
        let request = GenerateRequest { conditioning: Conditioning::default(), ..request.clone() };
        self.job(&request, shape, Texts { prompt, negative })
    }

    pub(super) fn typical_denoise<'a>(&'a self, job: &Job, sequences: &'a [Sequence<'a>]) -> Denoise<'a> {
        let guided_channels = self.guided_channels(job);
        let (experts, spacing) = (self.experts.as_slice(), self.job_spacing(job));
        Denoise { experts, sequences, spacing, guided_channels, conditioning_scale: None, step_cache: None, predict_every: 0 }
    }
}

//! Speed of the kernels and of the parts of a model, as shares of what the adapter can do in the same moment.
//!
//! A machine's speed can drift by half within a minute. So every burst of a kernel is compared with the bursts of
//! multiply-adds (or, if it hardly computes, of copying) before and after it, and a row is the median of such shares.

use std::time::Instant;

use kinora_kernels::op::{LinearStep, ModulationColumns, Padding};
use kinora_kernels::{
    AttentionOptions, Cadence, CancelToken, Conv3dOptions, CopyRate, Device, Executable, Gpu, Graph, LinearStepInputs, PatchOrder, Peak,
    Plan, Rescale, Shape, Tensor, Weight, WeightFormat, dense_sequences,
};

use crate::error::Result;
use crate::pipeline::VideoPipeline;
use crate::request::GenerateRequest;

/// One measured kernel or part of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What, e.g. `gemm/f16/1024x1024x1024`.
    pub name: String,
    /// Dispatches of one run.
    pub dispatches: usize,
    /// Median of the runs.
    pub milliseconds: f64,
    /// Floating-point operations per second.
    pub flops_per_second: f64,
    /// Of the adapter's multiply-adds next to it in time.
    pub fraction_of_peak: f64,
}

/// One measured kernel that hardly computes.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryRow {
    /// What, e.g. `layer_norm/8192x512`.
    pub name: String,
    /// Median of the runs.
    pub milliseconds: f64,
    /// Of inputs read and results written, each counted once.
    pub bytes_per_second: f64,
    /// Of the adapter's copying next to it in time.
    pub fraction_of_copy: f64,
}

/// A rate measured many times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub lowest: f64,
    /// Half were smaller.
    pub median: f64,
    /// The largest.
    pub highest: f64,
}

/// Small clips of several shapes, made one after another and packed ([`VideoPipeline::generate_many`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// How many.
    pub clips: usize,
    /// Median time of one after another.
    pub milliseconds_alone: f64,
    /// Median time of all at once.
    pub milliseconds_packed: f64,
    /// Median of how many times faster that was than what ran just before.
    pub speedup: f64,
}

/// What the adapter can do, and the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// Floating-point operations per second of multiply-adds alone.
    pub peak_flops: Spread,
    /// What was measured against it.
    pub rows: Vec<Row>,
    /// Bytes read and written per second by copying a buffer.
    pub copy_bytes: Spread,
    /// What was measured against it.
    pub memory_rows: Vec<MemoryRow>,
    /// Generations side by side, with a pipeline.
    pub batch: Option<Batch>,
}

/// A burst of a kernel is at least this long, in seconds, so that its start is negligible.
const BURST: f64 = 0.04;
/// Bursts per row, and for rows so long that those would take seconds.
const ROUNDS: usize = 9;
const FEW_ROUNDS: usize = 3;

/// Measures the kernels, and the parts of `pipeline` if one is given.
///
/// # Errors
/// [`Kernels`](crate::Error::Kernels).
pub async fn bench(gpu: &std::sync::Arc<Gpu>, pipeline: Option<&VideoPipeline>) -> Result<Bench> {
    let device = Device::Gpu(gpu.clone());
    let begun = Instant::now();
    let now = || begun.elapsed().as_secs_f64();
    let peak = Peak::new(gpu, now).await?;
    let mut compute = Meter { rate: async || Ok(peak.burst(now).await?), rates: Vec::new() };
    let mut rows = Vec::new();
    for (name, graph) in compute_plans()? {
        rows.push(compute.row(name, &Executable::new(&device, graph)?, Cadence::EveryStep, "").await?);
    }
    if let Some(pipeline) = pipeline {
        let (transformer, decoder) = pipeline.plans()?;
        let [block, up_block] = pipeline.first_blocks();
        let transformer = Executable::new(&device, transformer)?;
        rows.push(compute.row("transformer/block0", &transformer, Cadence::EveryStep, &block).await?);
        rows.push(compute.row("transformer/step", &transformer, Cadence::EveryStep, "").await?);
        let decoder = Executable::new(&device, decoder)?;
        rows.push(compute.row("vae/up_block0", &decoder, Cadence::Once, &up_block).await?);
        rows.push(compute.row("vae/decode", &decoder, Cadence::Once, "").await?);
    }
    let copy = CopyRate::new(gpu, now).await?;
    let mut memory = Meter { rate: async || Ok(copy.burst(now).await?), rates: Vec::new() };
    let mut memory_rows = Vec::new();
    for (name, bytes, graph) in memory_plans()? {
        memory_rows.push(memory.memory_row(name, &Executable::new(&device, graph)?, bytes).await?);
    }
    let batch = match pipeline {
        Some(pipeline) => Some(batch(pipeline).await?),
        None => None,
    };
    Ok(Bench { peak_flops: spread(compute.rates), rows, copy_bytes: spread(memory.rates), memory_rows, batch })
}

/// From wide to tall, width and height in the smallest the model can make, and frames at most.
const BATCH: [[usize; 3]; 8] = [[3, 2, 9], [2, 3, 9], [2, 2, 5], [3, 1, 9], [1, 3, 5], [2, 2, 1], [3, 3, 5], [2, 1, 9]];
const BATCH_ROUNDS: usize = 5;

async fn batch(pipeline: &VideoPipeline) -> Result<Batch> {
    let [_, height, width] = pipeline.compression().token();
    let request = |[w, h, frames]: [usize; 3]| GenerateRequest {
        width: w * width,
        height: h * height,
        frames: pipeline.compression().frames_up_to(frames),
        ..pipeline.request("a small clip")
    };
    let (requests, cancel) = (BATCH.map(request), CancelToken::default());
    let (mut alone, mut packed, mut speedups) = (Vec::new(), Vec::new(), Vec::new());
    // The first round compiles.
    for round in 0..=BATCH_ROUNDS {
        let begun = Instant::now();
        for request in &requests {
            pipeline.generate(request, &cancel, &mut |_| {}).await?;
        }
        let one = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for clip in pipeline.generate_many(&requests, &cancel, &mut |_, _| {}).await? {
            clip?;
        }
        let many = begun.elapsed().as_secs_f64();
        if round > 0 {
            alone.push(one);
            packed.push(many);
            speedups.push(one / many);
        }
    }
    let milliseconds = |seconds| spread(seconds).median * 1e3;
    Ok(Batch {
        clips: requests.len(),
        milliseconds_alone: milliseconds(alone),
        milliseconds_packed: milliseconds(packed),
        speedup: spread(speedups).median,
    })
}

fn plan(record: impl for<'p> FnOnce(&'p Plan) -> Tensor<'p>) -> Result<Graph> {
    let plan = Plan::new();
    let y = record(&plan);
    plan.output("y", y);
    Ok(plan.finish()?)
}

fn input<'p>(plan: &'p Plan, name: &str, dims: &[usize]) -> Tensor<'p> {
    plan.input(name, dims, Cadence::EveryStep)
}

fn index(plan: &Plan, len: usize) -> Tensor<'_> {
    plan.index_input("index", len, Cadence::EveryStep)
}

/// The kernels that compute: name and plan.
fn compute_plans() -> Result<Vec<(String, Graph)>> {
    let mut plans = Vec::new();
    for (format, suffix) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        for n in [512, 1024] {
            let graph = plan(|plan| input(plan, "x", &[n, n]).linear(&weight(&[n, n], format), None))?;
            plans.push((format!("gemm/{suffix}/{n}x{n}x{n}"), graph));
        }
    }
    // Enough rows for the larger tiles of the kernels for GPUs.
    let graph = plan(|plan| input(plan, "x", &[2048, 1024]).linear(&weight(&[1024, 1024], WeightFormat::F16), None))?;
    plans.push(("gemm/f16/2048x1024x1024".into(), graph));
    let (time_padding, space_padding) = (Padding::Replicate, Padding::Zero);
    let options = Conv3dOptions { stride: [1; 3], front: [1; 3], back: [1; 3], time_padding, space_padding };
    for (format, suffix) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        let graph = plan(|plan| input(plan, "x", &[1, 8, 32, 32, 32]).conv3d(&weight(&[32, 32, 3, 3, 3], format), None, &options))?;
        plans.push((format!("conv3d/{suffix}/32-32/3x3x3/8x32x32"), graph));
    }
    // The last is the head of an autoencoder.
    for (heads, d) in [(4, 64), (2, 128), (1, 384)] {
        let graph = plan(|plan| {
            let [q, k, v] = input(plan, "qkv", &[512, 3 * heads * d]).split();
            let (sequences, scale) = (dense_sequences(1, 512, 512), 1.0 / (d as f32).sqrt());
            q.flash_attention(k, v, &AttentionOptions { heads, scale, sequences, mask: None, bias: None })
        })?;
        plans.push((format!("flash_attention/512/{heads}x{d}"), graph));
    }
    Ok(plans)
}

/// The kernels that hardly compute: name, bytes they read and write, plan.
fn memory_plans() -> Result<Vec<(&'static str, f64, Graph)>> {
    const DIMS: [usize; 2] = [8192, 512];
    let tensor = (DIMS[0] * DIMS[1] * 4) as f64;
    Ok(vec![
        ("layer_norm/8192x512", 2.0 * tensor, plan(|plan| input(plan, "x", &DIMS).layer_norm(None, None, 1e-6))?),
        ("modulate/8192x512", 2.0 * tensor, {
            let columns = ModulationColumns { shift: 0, scale: DIMS[1] };
            plan(|plan| input(plan, "x", &DIMS).modulate(input(plan, "table", &[1, 2 * DIMS[1]]), index(plan, DIMS[0]), columns))?
        }),
        ("add/8192x512", 3.0 * tensor, plan(|plan| input(plan, "x", &DIMS) + input(plan, "b", &DIMS))?),
        ("gather_rows/8192x512", 2.0 * tensor, plan(|plan| input(plan, "x", &DIMS).gather_rows(index(plan, DIMS[0])))?),
        ("concat_frames/8x32x32x512", 2.0 * tensor, {
            plan(|plan| input(plan, "a", &[1, 1, 32, 32, 512]).concat_frames(input(plan, "b", &[1, 7, 32, 32, 512])))?
        }),
        ("upsample_nearest/1x2x2/8x16x16x512", 1.25 * tensor, {
            plan(|plan| input(plan, "x", &[1, 8, 16, 16, 512]).upsample_nearest([1, 2, 2]))?
        }),
        ("pixel_unshuffle/1x2x2/8x32x32x512", 2.0 * tensor, {
            plan(|plan| input(plan, "x", &[1, 8, 32, 32, 512]).pixel_unshuffle_3d([1, 2, 2], PatchOrder::TimeHeightWidth))?
        }),
        ("pixel_shuffle/2x2x2/8x16x16x1024", 2.0 * (8 * 16 * 16 * 1024 * 4) as f64, {
            plan(|plan| input(plan, "x", &[1, 8, 16, 16, 1024]).pixel_shuffle_3d([2, 2, 2], PatchOrder::TimeHeightWidth))?
        }),
        ("guide/4096x512", 1.5 * tensor, guide_plan(DIMS, false)?),
        ("guide_rescaled/4096x512", 1.5 * tensor, guide_plan(DIMS, true)?),
        ("linear_step/2/8192x512", 7.0 * tensor, {
            let [rows, channels] = DIMS;
            plan(|plan| {
                let table = input(plan, "table", &[1, LinearStep::COEFFICIENTS]);
                let inputs = LinearStepInputs { level: plan.index_constant(&vec![0; rows]), table, noise: None };
                plan.state("state", &[3 * rows, channels]).linear_step(input(plan, "x", &DIMS), &inputs, 2)
            })?
        }),
    ])
}

/// The first half of the rows guided by the second.
fn guide_plan(dims: [usize; 2], rescaled: bool) -> Result<Graph> {
    let rows = dims[0] as u32 / 2;
    let unconditional: Vec<u32> = (rows..2 * rows).collect();
    plan(|plan| {
        let [guidance, share] = ["guidance", "share"].map(|name| input(plan, name, &[rows as usize]));
        let (unconditional, starts) = (plan.index_constant(&unconditional), plan.index_constant(&[0, rows]));
        input(plan, "x", &dims).guide(unconditional, guidance, rescaled.then_some(Rescale { share, starts }), dims[1])
    })
}

/// Values that no kernel can shortcut.
fn weight(dims: &[usize], format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    let values: Vec<f32> = (0..shape.elements()).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    Weight::from_f32("bench", shape, &values, format)
}

/// Compares kernels with one rate of the adapter.
struct Meter<R> {
    /// Measures the rate once.
    rate: R,
    /// All it has said.
    rates: Vec<f64>,
}

/// Medians of several bursts.
struct Timing {
    /// Of one run.
    seconds: f64,
    /// Work per second as a share of the rate.
    share: f64,
}

impl<R: AsyncFnMut() -> Result<f64>> Meter<R> {
    async fn row(&mut self, name: impl Into<String>, exec: &Executable, cadence: Cadence, scope: &str) -> Result<Row> {
        let (dispatches, flops) = exec.run_scope(cadence, scope, 1).await?; // compiles
        let Timing { seconds, share } = self.compare(flops, async |times| bursts(exec, cadence, scope, times).await).await?;
        let name = name.into();
        Ok(Row { name, dispatches, milliseconds: seconds * 1e3, flops_per_second: flops / seconds, fraction_of_peak: share })
    }

    async fn memory_row(&mut self, name: &str, exec: &Executable, bytes: f64) -> Result<MemoryRow> {
        exec.run_scope(Cadence::EveryStep, "", 1).await?; // compiles
        let Timing { seconds, share } = self.compare(bytes, async |times| bursts(exec, Cadence::EveryStep, "", times).await).await?;
        Ok(MemoryRow { name: name.into(), milliseconds: seconds * 1e3, bytes_per_second: bytes / seconds, fraction_of_copy: share })
    }

    /// `burst` takes how often to run and returns the seconds it took; one run does `work`.
    async fn compare(&mut self, work: f64, mut burst: impl AsyncFnMut(usize) -> Result<f64>) -> Result<Timing> {
        let once = burst(1).await?;
        let times = (BURST / once).ceil().max(1.0) as usize;
        let rounds = if once > 10.0 * BURST { FEW_ROUNDS } else { ROUNDS };
        let (mut seconds, mut shares) = (Vec::new(), Vec::new());
        let mut before = (self.rate)().await?;
        self.rates.push(before);
        for _ in 0..rounds {
            let one = burst(times).await? / times as f64;
            let after = (self.rate)().await?;
            self.rates.push(after);
            seconds.push(one);
            shares.push(work / one / f64::midpoint(before, after));
            before = after;
        }
        Ok(Timing { seconds: spread(seconds).median, share: spread(shares).median })
    }
}

/// Seconds of `times` runs.
async fn bursts(exec: &Executable, cadence: Cadence, scope: &str, times: usize) -> Result<f64> {
    let begun = Instant::now();
    exec.run_scope(cadence, scope, times).await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Of at least one value.
fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    Spread { lowest: values[0], median: values[values.len() / 2], highest: values[values.len() - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that gets slower with every burst, from full speed to a third, and a kernel at a quarter of its peak.
    #[test]
    fn a_drifting_machine_does_not_move_the_share() {
        let speed = std::cell::Cell::new(90e9);
        let drift = || {
            speed.set(speed.get() - 3e9);
            speed.get()
        };
        let mut meter = Meter { rate: async || Ok(drift()), rates: Vec::new() };
        let work = 5e9;
        let timing = meter.compare(work, async |times| Ok(times as f64 * work / (0.25 * drift())));
        let timing = pollster::block_on(timing).expect("nothing fails");
        assert!((timing.share - 0.25).abs() < 1e-9, "{}", timing.share);
        let rates = spread(meter.rates);
        assert!(rates.highest / rates.lowest > 1.05, "{rates:?}");
    }
}

//! Speed of the kernels and of the parts of a model, as shares of what the adapter can do in the same moment.
//!
//! A machine's speed can drift by half within a minute. So every burst of a kernel is compared with the bursts of
//! multiply-adds (or, if it hardly computes, of copying) before and after it, and a row is the median of such shares.

mod batch;
mod clip;
mod meter;
mod models;
mod plans;

use std::sync::Arc;
use std::time::Instant;

use kinora_kernels::{CopyRate, Executable, Gpu, Peak};
use kinora_runtime::{Device, Result, VideoPipeline};

pub use crate::batch::Batch;
pub use crate::clip::Clip;
use crate::meter::Meter;
pub use crate::meter::Spread;

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
    /// A whole clip, with a pipeline.
    pub clip: Option<Clip>,
    /// Generations side by side, with a pipeline.
    pub batch: Option<Batch>,
}

/// Measures the kernels, and the parts of `pipeline` if one is given.
///
/// # Errors
/// [`Kernels`](kinora_runtime::Error::Kernels).
pub async fn bench(gpu: &Arc<Gpu>, pipeline: Option<&VideoPipeline>) -> Result<Bench> {
    let device = Device::Gpu(gpu.clone());
    let begun = Instant::now();
    let now = || begun.elapsed().as_secs_f64();
    let peak = Peak::new(gpu, now).await?;
    let mut compute = Meter { rate: async || Ok(peak.burst(now).await?), rates: Vec::new() };
    let mut rows = Vec::new();
    for (name, graph) in plans::computing()? {
        rows.push(compute.row(name, &Executable::new(&device, graph)?, "").await?);
    }
    let reached = Spread::of(compute.rates.clone()).median;
    for (name, graph) in models::of_models(reached)? {
        rows.push(compute.row(name, &Executable::new(&device, graph)?, "").await?);
    }
    if let Some(pipeline) = pipeline {
        let (transformer, decoder) = pipeline.plans()?;
        let [block, up_block] = pipeline.first_blocks();
        let transformer = Executable::new(&device, transformer)?;
        rows.push(compute.row("transformer/block0", &transformer, &block).await?);
        rows.push(compute.row("transformer/step", &transformer, "").await?);
        let decoder = Executable::new(&device, decoder)?;
        rows.push(compute.row("vae/up_block0", &decoder, &up_block).await?);
        rows.push(compute.row("vae/decode", &decoder, "").await?);
    }
    let copy = CopyRate::new(gpu, now).await?;
    let mut memory = Meter { rate: async || Ok(copy.burst(now).await?), rates: Vec::new() };
    let mut memory_rows = Vec::new();
    for (name, bytes, graph) in plans::moving()? {
        memory_rows.push(memory.memory_row(name, &Executable::new(&device, graph)?, bytes).await?);
    }
    let (clip, batch) = match pipeline {
        Some(pipeline) => (Some(clip::measure(pipeline).await?), Some(batch::measure(pipeline).await?)),
        None => (None, None),
    };
    Ok(Bench { peak_flops: Spread::of(compute.rates), rows, copy_bytes: Spread::of(memory.rates), memory_rows, clip, batch })
}

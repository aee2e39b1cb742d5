//! Speed of the kernels and of the parts of a model, as shares of the adapter's peak measured in the same run.

use std::time::Instant;

use kinora_kernels::op::Padding;
use kinora_kernels::{
    AttentionOptions, Cadence, Conv3dOptions, Device, Executable, Gpu, Plan, Shape, Tensor, Weight, WeightFormat, dense_sequences,
};

use crate::error::Result;
use crate::pipeline::VideoPipeline;

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
    /// Of the adapter's peak.
    pub fraction_of_peak: f64,
}

/// The peak and the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// Floating-point operations per second of multiply-adds alone.
    pub peak_flops: f64,
    /// What was measured.
    pub rows: Vec<Row>,
}

/// Runs after the warm-up.
const RUNS: usize = 9;

/// Measures the kernels, and the parts of `pipeline` if one is given.
///
/// # Errors
/// [`Kernels`](crate::Error::Kernels).
pub async fn bench(gpu: &std::sync::Arc<Gpu>, pipeline: Option<&VideoPipeline>) -> Result<Bench> {
    let device = Device::Gpu(gpu.clone());
    let begun = Instant::now();
    let peak_flops = gpu.measure_peak(|| begun.elapsed().as_secs_f64()).await?;
    let mut bench = Bench { peak_flops, rows: Vec::new() };
    for (format, name) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        for n in [512, 1024] {
            let name = format!("gemm/{name}/{n}x{n}x{n}");
            bench.kernel(&device, name, |plan| plan.input("x", &[n, n], Cadence::EveryStep).linear(&weight(&[n, n], format), None)).await?;
        }
    }
    for (format, name) in [(WeightFormat::F32, "f32"), (WeightFormat::F16, "f16")] {
        let name = format!("conv3d/{name}/32-32/3x3x3/8x32x32");
        bench
            .kernel(&device, name, |plan| {
                let x = plan.input("x", &[1, 8, 32, 32, 32], Cadence::EveryStep);
                let (time_padding, space_padding) = (Padding::Replicate, Padding::Zero);
                let options = Conv3dOptions { stride: [1; 3], front: [1; 3], back: [1; 3], time_padding, space_padding };
                x.conv3d(&weight(&[32, 32, 3, 3, 3], format), None, &options)
            })
            .await?;
    }
    bench
        .kernel(&device, "flash_attention/512/4x64".into(), |plan| {
            let [q, k, v] = plan.input("qkv", &[512, 3 * 256], Cadence::EveryStep).split();
            q.flash_attention(
                k,
                v,
                &AttentionOptions { heads: 4, scale: 0.125, sequences: dense_sequences(1, 512, 512), mask: None, bias: None },
            )
        })
        .await?;
    if let Some(pipeline) = pipeline {
        let (transformer, decoder) = pipeline.plans()?;
        let transformer = Executable::new(&device, transformer)?;
        bench.measure(&transformer, "transformer/block0".into(), Cadence::EveryStep, "transformer_blocks.0.").await?;
        bench.measure(&transformer, "transformer/step".into(), Cadence::EveryStep, "").await?;
        let decoder = Executable::new(&device, decoder)?;
        bench.measure(&decoder, "vae/up_block0".into(), Cadence::Once, "decoder.up_blocks.0.").await?;
        bench.measure(&decoder, "vae/decode".into(), Cadence::Once, "").await?;
    }
    Ok(bench)
}

/// Values that no kernel can shortcut.
fn weight(dims: &[usize], format: WeightFormat) -> Weight {
    let shape = Shape::new(dims);
    let values: Vec<f32> = (0..shape.elements()).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    Weight::from_f32("bench", shape, &values, format)
}

impl Bench {
    async fn kernel(&mut self, device: &Device, name: String, record: impl for<'p> FnOnce(&'p Plan) -> Tensor<'p>) -> Result<()> {
        let plan = Plan::new();
        let y = record(&plan);
        plan.output("y", y);
        let exec = Executable::new(device, plan.finish()?)?;
        self.measure(&exec, name, Cadence::EveryStep, "").await
    }

    async fn measure(&mut self, exec: &Executable, name: String, cadence: Cadence, scope: &str) -> Result<()> {
        let (dispatches, flops) = exec.run_scope(cadence, scope).await?;
        exec.run_scope(cadence, scope).await?;
        let mut seconds = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let begun = Instant::now();
            exec.run_scope(cadence, scope).await?;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[RUNS / 2];
        let flops_per_second = flops / median;
        let fraction_of_peak = flops_per_second / self.peak_flops;
        self.rows.push(Row { name, dispatches, milliseconds: median * 1e3, flops_per_second, fraction_of_peak });
        Ok(())
    }
}

//! The rate of multiply-adds of an adapter, to compare the speed of kernels with. Not about memory bandwidth.

use crate::error::Result;
use crate::generated::peak_fma;
use crate::gpu::Gpu;

/// Workgroups of a measurement: more lanes than any GPU holds at once.
const ITEMS: u32 = 4096;
const LANES: u32 = 64;
/// Independent values per lane and steps per round, as in the shader.
const CHAINS: u32 = 12;
const STEPS: u32 = 32;
/// Keeps the values finite and gives a driver that compiles uniforms into kernels, as lavapipe does, nothing to simplify.
const FACTOR: f32 = 0.5;
/// A measurement at least this long, in seconds, makes the start of a submission negligible.
const LONG_ENOUGH: f64 = 0.1;

impl Gpu {
    /// Floating-point operations per second in f32 multiply-adds that touch no memory (two operations each). Takes
    /// under a second; `now` is a clock in seconds.
    pub async fn measure_peak(&self, now: impl Fn() -> f64) -> Result<f64> {
        let bench = Bench::new(self)?;
        let flops = |rounds: u32| 2.0 * f64::from(ITEMS * LANES) * f64::from(CHAINS * STEPS) * f64::from(rounds);
        bench.run(FACTOR, 1).await?; // compiles
        let mut rounds = 1;
        loop {
            let seconds = bench.time(rounds, &now).await?;
            if seconds >= LONG_ENOUGH {
                // Whatever else the machine does can only slow it down.
                let again = bench.time(rounds, &now).await?.min(bench.time(rounds, &now).await?);
                return Ok(flops(rounds) / seconds.min(again));
            }
            rounds *= 2;
        }
    }
}

struct Bench<'a> {
    gpu: &'a Gpu,
    params: wgpu::Buffer,
    y: wgpu::Buffer,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu) -> Result<Self> {
        let params = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: size_of::<peak_fma::Params>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Self { gpu, params, y: gpu.storage("peak_fma", u64::from(ITEMS * LANES) * 4)? })
    }

    async fn time(&self, rounds: u32, now: impl Fn() -> f64) -> Result<f64> {
        let begun = now();
        self.run(FACTOR, rounds).await?;
        Ok(now() - begun)
    }

    async fn run(&self, x: f32, rounds: u32) -> Result<()> {
        let params = peak_fma::Params { x, rounds, first: 0, end: ITEMS };
        self.gpu.queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&params));
        let pipeline = self.gpu.pipeline(peak_fma::KERNEL);
        let entries = [&self.params, &self.y].map(wgpu::Buffer::as_entire_binding);
        let entries: Vec<_> =
            entries.into_iter().enumerate().map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource }).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some("peak_fma"), layout: &pipeline.layout, entries: &entries };
        let bindings = self.gpu.device.create_bind_group(&descriptor);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(ITEMS, 1, 1);
        drop(pass);
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.idle().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{AdapterSelect, adapters};

    /// With x = 1 a step adds one, so the sums count the steps.
    #[test]
    fn every_multiply_add_is_done() {
        for index in 0..pollster::block_on(adapters()).len() {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed opens");
            let bench = Bench::new(&gpu).expect("fits");
            let bytes = pollster::block_on(async {
                bench.run(1.0, 1).await.expect("runs");
                gpu.download(&bench.y, 0, u64::from(ITEMS * LANES) * 4).await.expect("readable")
            });
            for (lane, sum) in bytemuck::cast_slice::<u8, f32>(&bytes).iter().enumerate() {
                let starts = (0..CHAINS).map(|i| (lane as u32 % LANES + 64 * (i / 4)) as f32 + 0.25 * (i % 4) as f32);
                let expected: f32 = starts.map(|a| a + STEPS as f32).sum();
                assert_eq!(*sum, expected, "lane {lane} on {}", gpu.info().name);
            }
            let begun = std::time::Instant::now();
            let peak = pollster::block_on(gpu.measure_peak(|| begun.elapsed().as_secs_f64())).expect("runs");
            println!("{}: {:.1} GFLOP/s", gpu.info().name, peak / 1e9);
            assert!((1e8..1e15).contains(&peak), "{peak} FLOP/s on {}", gpu.info().name);
        }
    }
}

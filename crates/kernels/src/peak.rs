//! The rates of multiply-adds and of copying of an adapter, to compare the speed of kernels with.

use crate::allocation::Buffer;
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
/// A burst at least this long, in seconds, makes the start of a submission negligible.
const LONG_ENOUGH: f64 = 0.04;
/// Of a copied buffer: what the activations of a block of a mid-sized model take, more than the caches of most adapters.
const COPIED_BYTES: u64 = 16 << 20;

/// The rate of f32 multiply-adds that touch no memory. Measured in bursts, since an adapter's speed can change between two
/// measurements: a kernel is compared with the bursts next to it.
pub struct Peak<'a> {
    gpu: &'a Gpu,
    params: Buffer,
    y: Buffer,
    rounds: u32,
}

impl<'a> Peak<'a> {
    /// Compiles and finds out how much work makes a burst; `now` is a clock in seconds.
    pub async fn new(gpu: &'a Gpu, now: impl Fn() -> f64) -> Result<Self> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.create("params", size_of::<peak_fma::Params>() as u64, usage);
        let mut peak = Self { gpu, params, y: gpu.storage("peak_fma", u64::from(ITEMS * LANES) * 4)?, rounds: 1 };
        peak.run(FACTOR, 1).await?;
        while peak.rounds < 1 << 20 && seconds_of(&now, peak.run(FACTOR, peak.rounds)).await? < LONG_ENOUGH {
            peak.rounds *= 2;
        }
        Ok(peak)
    }

    /// Floating-point operations per second in one burst, two for each multiply-add.
    pub async fn burst(&self, now: impl Fn() -> f64) -> Result<f64> {
        let flops = 2.0 * f64::from(ITEMS * LANES) * f64::from(CHAINS * STEPS) * f64::from(self.rounds);
        Ok(flops / seconds_of(&now, self.run(FACTOR, self.rounds)).await?)
    }

    async fn run(&self, x: f32, rounds: u32) -> Result<()> {
        let params = peak_fma::Params { x, rounds, first: 0, end: ITEMS };
        self.gpu.write(&self.params, 0, bytemuck::bytes_of(&params));
        let pipeline = self.gpu.pipeline(peak_fma::KERNEL);
        let entries = [&self.params, &self.y].map(|buffer| buffer.as_entire_binding());
        let entries: Vec<_> =
            entries.into_iter().enumerate().map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource }).collect();
        let bindings = self.gpu.bind_group("peak_fma", &pipeline.layout, &entries);
        let mut encoder = self.gpu.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &bindings, &[0]);
        pass.dispatch_workgroups(ITEMS, 1, 1);
        drop(pass);
        self.gpu.submit(Some(encoder.finish()));
        self.gpu.idle().await
    }
}

/// The rate at which the adapter copies one buffer to another: what kernels that hardly compute are compared with.
pub struct CopyRate<'a> {
    gpu: &'a Gpu,
    from: Buffer,
    to: Buffer,
    copies: u32,
}

impl<'a> CopyRate<'a> {
    /// Finds out how much work makes a burst; `now` is a clock in seconds.
    pub async fn new(gpu: &'a Gpu, now: impl Fn() -> f64) -> Result<Self> {
        let [from, to] = [gpu.storage("copied", COPIED_BYTES)?, gpu.storage("copy", COPIED_BYTES)?];
        let mut rate = Self { gpu, from, to, copies: 1 };
        rate.run().await?;
        while rate.copies < 1 << 12 && seconds_of(&now, rate.run()).await? < LONG_ENOUGH {
            rate.copies *= 2;
        }
        Ok(rate)
    }

    /// Bytes read and written per second in one burst.
    pub async fn burst(&self, now: impl Fn() -> f64) -> Result<f64> {
        Ok(2.0 * COPIED_BYTES as f64 * f64::from(self.copies) / seconds_of(&now, self.run()).await?)
    }

    async fn run(&self) -> Result<()> {
        let mut encoder = self.gpu.encoder();
        for _ in 0..self.copies {
            encoder.copy_buffer_to_buffer(&self.from, 0, &self.to, 0, COPIED_BYTES);
        }
        self.gpu.submit(Some(encoder.finish()));
        self.gpu.idle().await
    }
}

async fn seconds_of(now: &impl Fn() -> f64, work: impl Future<Output = Result<()>>) -> Result<f64> {
    let begun = now();
    work.await?;
    Ok(now() - begun)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{AdapterSelect, adapters};

    /// With x = 1 a step adds one, so the sums count the steps.
    #[test]
    fn every_multiply_add_is_done() {
        for index in 0..pollster::block_on(adapters()).len() {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed opens");
            let begun = std::time::Instant::now();
            let now = || begun.elapsed().as_secs_f64();
            let peak = pollster::block_on(Peak::new(&gpu, now)).expect("runs");
            let bytes = pollster::block_on(async {
                peak.run(1.0, 1).await.expect("runs");
                gpu.download(&peak.y, 0, u64::from(ITEMS * LANES) * 4).await.expect("readable")
            });
            for (lane, sum) in bytemuck::cast_slice::<u8, f32>(&bytes).iter().enumerate() {
                let starts = (0..CHAINS).map(|i| (lane as u32 % LANES + 64 * (i / 4)) as f32 + 0.25 * (i % 4) as f32);
                let expected: f32 = starts.map(|a| a + STEPS as f32).sum();
                assert_eq!(*sum, expected, "lane {lane} on {}", gpu.info().name);
            }
            let flops = pollster::block_on(peak.burst(now)).expect("runs");
            println!("{}: {:.1} GFLOP/s", gpu.info().name, flops / 1e9);
            assert!((1e8..1e15).contains(&flops), "{flops} FLOP/s on {}", gpu.info().name);
        }
    }

    #[test]
    fn what_is_timed_is_copied() {
        for index in 0..pollster::block_on(adapters()).len() {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed opens");
            let begun = std::time::Instant::now();
            let now = || begun.elapsed().as_secs_f64();
            let mut rate = pollster::block_on(CopyRate::new(&gpu, now)).expect("runs");
            let bytes_per_second = pollster::block_on(rate.burst(now)).expect("runs");
            println!("{}: copies {:.1} GB/s", gpu.info().name, bytes_per_second / 1e9);
            assert!((1e7..1e14).contains(&bytes_per_second), "{bytes_per_second} B/s on {}", gpu.info().name);
            let pattern: Vec<u8> = (0..COPIED_BYTES).map(|i| (i % 251) as u8).collect();
            rate.from = gpu.upload("pattern", &pattern).expect("fits");
            let found = pollster::block_on(async {
                rate.run().await.expect("runs");
                gpu.download(&rate.to, 0, COPIED_BYTES).await.expect("readable")
            });
            assert!(found == pattern, "the copy differs on {}", gpu.info().name);
        }
    }
}

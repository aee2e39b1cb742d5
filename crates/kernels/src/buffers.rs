//! Memory of a device: buffers, uploads of weights and tables, reading back.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::flight::Signal;
use crate::gpu::{Gpu, lock};
use crate::weight::Weight;

/// Bytes that may wait to be copied to where they belong.
const MOST_STAGED: u64 = 64 << 20;

impl Gpu {
    /// Fails if one buffer cannot hold `bytes`.
    pub(crate) fn check_limit(&self, what: &str, bytes: u64) -> Result<()> {
        let limit = self.info().max_binding_bytes.min(self.info().max_buffer_bytes);
        if bytes > limit {
            let remedy = "lower the size or the number of frames, or use f16 weights";
            return Err(Error::Limit { what: what.into(), needed: bytes, limit, remedy });
        }
        Ok(())
    }

    /// A storage buffer of at least `bytes`, checked against the limits.
    pub(crate) fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer> {
        self.check_limit(what, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = bytes.next_multiple_of(16).max(16);
        crate::counters::buffer();
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false });
        // Natively a failure is known now; the next allocation would only fail too.
        self.check()?;
        Ok(buffer)
    }

    /// A storage buffer with contents.
    pub(crate) fn upload(&self, what: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.storage(what, bytes.len() as u64)?;
        self.queue.write_buffer(&buffer, 0, bytes);
        self.stage(bytes.len() as u64)?;
        Ok(buffer)
    }

    /// Has the queue copy what was uploaded once that is much: until something is submitted, it is in memory twice.
    fn stage(&self, bytes: u64) -> Result<()> {
        let staged = self.staged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if staged < MOST_STAGED {
            return Ok(());
        }
        self.staged.store(0, Ordering::Relaxed);
        let index = self.queue.submit([]);
        self.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })
    }

    /// The device copy of a weight: panels for matrices and convolutions, padded f32 for vectors. Uploaded once, freed
    /// when the last [`Weight`] handle is gone.
    pub(crate) fn weight(&self, weight: &Weight) -> Result<wgpu::Buffer> {
        if let Some((_, buffer)) = lock(&self.weights).get(&weight.id()) {
            return Ok(buffer.clone());
        }
        weight.check()?;
        let bytes = if weight.shape().rank() == 1 { weight.vector_bytes() } else { weight.panel_bytes() };
        let buffer = self.upload(weight.name(), &bytes)?;
        let mut weights = lock(&self.weights);
        weights.retain(|_, (handle, _)| handle.alive());
        weights.insert(weight.id(), (weight.downgrade(), buffer.clone()));
        Ok(buffer)
    }

    /// A vector of `len` equal values.
    pub(crate) fn fill(&self, value: f32, len: usize) -> Result<wgpu::Buffer> {
        let key = (value.to_bits(), len);
        if let Some(buffer) = lock(&self.fills).get(&key) {
            return Ok(buffer.clone());
        }
        let mut values = vec![value; len];
        values.resize(len.next_multiple_of(4), 0.0);
        let buffer = self.upload("fill", bytemuck::cast_slice(&values))?;
        lock(&self.fills).insert(key, buffer.clone());
        Ok(buffer)
    }

    /// Reads `bytes` of a buffer from `offset`.
    pub(crate) async fn download(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: Some("read"), size: bytes, usage, mapped_at_creation: false });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let done = Signal::default();
        let notify = done.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |_| notify.set());
        self.wait(&done).await?;
        let view = staging.get_mapped_range(..).map_err(|e| Error::Device { detail: format!("reading back: {e}") })?;
        let contents = view.to_vec();
        drop(view);
        // In a browser, dropping it would wait for the garbage collector.
        staging.destroy();
        Ok(contents)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::adapter::AdapterSelect;

    /// Bytes of memory this process holds (`VmRSS`), or held at most (`VmHWM`).
    fn memory(kind: &str) -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status.lines().find(|line| line.starts_with(kind)).expect("Linux has it");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<usize>().ok()).expect("a number") * 1024
    }

    #[test]
    fn uploads_are_in_memory_once() {
        let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Auto, None)).expect("an adapter");
        let chunk = vec![0x55_u8; 8 << 20];
        // Forgets the peak until now.
        std::fs::write("/proc/self/clear_refs", "5").expect("Linux has it");
        let before = memory("VmRSS:");
        let buffers: Vec<wgpu::Buffer> = (0..48).map(|_| gpu.upload("weights", &chunk).expect("fits")).collect();
        gpu.queue.submit([]);
        pollster::block_on(gpu.idle()).expect("runs");
        let held = memory("VmHWM:").saturating_sub(before);
        let uploaded = buffers.len() * chunk.len();
        assert!(held < uploaded + uploaded / 2, "{} MiB held for {} MiB", held >> 20, uploaded >> 20);
    }
}

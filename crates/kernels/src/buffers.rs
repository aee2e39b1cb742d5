//! Memory of a device: buffers, uploads of weights and tables, reading back.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::allocation::Buffer;
use crate::calls::Call;
use crate::error::{Error, Result};
use crate::flight::Signal;
use crate::gpu::{Gpu, lock};
use crate::pack::{Packer, Pending};
use crate::weight::Weight;

/// Bytes that may wait to be copied to where they belong.
pub(crate) const MOST_STAGED: u64 = 64 << 20;

/// The part of a buffer that holds values; guard words surround it on a guarded device.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Memory {
    /// All of a buffer.
    pub(crate) fn whole(buffer: Buffer) -> Self {
        Self { offset: 0, bytes: buffer.size(), buffer }
    }

    pub(crate) fn resource(&self) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(self.bytes);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size })
    }
}

impl Gpu {
    /// Fails if one buffer cannot hold `bytes`.
    pub(crate) fn check_limit(&self, what: &str, bytes: u64) -> Result<()> {
        self.check_limit_of(what, bytes, "lower the size or the number of frames, or use f16 weights")
    }

    /// [`check_limit`](Self::check_limit) of what another remedy helps with.
    pub(crate) fn check_limit_of(&self, what: &str, bytes: u64, remedy: &'static str) -> Result<()> {
        let limit = self.info().max_binding_bytes.min(self.info().max_buffer_bytes);
        if bytes > limit {
            return Err(Error::Limit { what: what.into(), needed: bytes, limit, remedy });
        }
        Ok(())
    }

    /// Fails if one buffer cannot hold a weight, which smaller clips need too.
    pub(crate) fn check_weight(&self, weight: &Weight) -> Result<()> {
        let remedy = if weight.is_f16() { "use an adapter that allows more" } else { "use f16 weights, or an adapter that allows more" };
        self.check_limit_of(weight.name(), weight.stored_bytes(), remedy)
    }

    /// A storage buffer of at least `bytes`, checked against the limits.
    pub(crate) fn storage(&self, what: &str, bytes: u64) -> Result<Buffer> {
        self.check_limit(what, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = bytes.next_multiple_of(16).max(16);
        crate::counters::buffer();
        let buffer = self.create(what, size, usage);
        // Natively a failure is known now; the next allocation would only fail too.
        self.check()?;
        Ok(buffer)
    }

    /// A storage buffer with contents.
    pub(crate) fn upload(&self, what: &str, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.storage(what, bytes.len() as u64)?;
        self.write(&buffer, 0, bytes);
        self.stage(bytes.len() as u64)?;
        Ok(buffer)
    }

    /// Has the queue copy what was uploaded once that is much: until something is submitted, it is in memory twice.
    pub(crate) fn stage(&self, bytes: u64) -> Result<()> {
        let staged = self.staged.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if staged < MOST_STAGED {
            return Ok(());
        }
        self.staged.store(0, Ordering::Relaxed);
        let index = self.submit(None);
        self.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })
    }

    /// The device copies of weights by their numbers: panels for matrices and convolutions, padded f32 for vectors. Each is
    /// uploaded once, through a window of at most `window` bytes, and freed when the last [`Weight`] handle and the last plan with
    /// it are gone.
    pub(crate) fn weights<'a>(&self, wanted: impl IntoIterator<Item = &'a Weight>, window: u64) -> Result<HashMap<u64, Buffer>> {
        let mut found = HashMap::new();
        let mut new = Vec::new();
        lock(&self.weights).retain(|_, (handle, _)| handle.alive());
        for weight in wanted {
            if found.contains_key(&weight.id()) {
                continue;
            }
            let known = lock(&self.weights).get(&weight.id()).map(|(_, buffer)| buffer.clone());
            let buffer = match known {
                Some(buffer) => buffer,
                None => {
                    weight.check()?;
                    self.check_weight(weight)?;
                    let buffer = self.storage(weight.name(), weight.stored_bytes())?;
                    new.push((weight.clone(), Memory::whole(buffer.clone())));
                    buffer
                }
            };
            found.insert(weight.id(), buffer);
        }
        if let Some(packer) = Packer::new(self, new.iter().map(|(weight, _)| weight), window)? {
            packer.finish(self, &mut Pending::new(new.clone()))?;
        } else {
            Pending::new(new.clone()).upload(self)?;
        }
        let mut weights = lock(&self.weights);
        weights.extend(new.into_iter().map(|(weight, memory)| (weight.id(), (weight.downgrade(), memory.buffer))));
        Ok(found)
    }

    /// A vector of `len` equal values.
    pub(crate) fn fill(&self, value: f32, len: usize) -> Result<Buffer> {
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
        let staging = self.readback(bytes);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.submit(Some(encoder.finish()));
        let done = Signal::default();
        let notify = done.clone();
        if self.fails(Call::Map) {
            notify.set();
        } else {
            staging.map_async(wgpu::MapMode::Read, ..bytes, move |_| notify.set());
        }
        self.wait(&done).await?;
        let view = staging.get_mapped_range(..bytes).map_err(|e| self.failed(format!("reading back: {e}")))?;
        let contents = view.to_vec();
        drop(view);
        staging.unmap();
        if staging.size() <= MOST_STAGED {
            *lock(&self.readback) = Some(staging);
        }
        Ok(contents)
    }

    /// A buffer to read `bytes` back through: the last one if it is large enough. Nobody else has it until it is put back.
    fn readback(&self, bytes: u64) -> Buffer {
        let last = lock(&self.readback).take();
        last.filter(|last| last.size() >= bytes).unwrap_or_else(|| {
            crate::counters::buffer();
            self.create("read", bytes, wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ)
        })
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
        let buffers: Vec<Buffer> = (0..48).map(|_| gpu.upload("weights", &chunk).expect("fits")).collect();
        gpu.submit(None);
        pollster::block_on(gpu.idle()).expect("runs");
        let held = memory("VmHWM:").saturating_sub(before);
        let uploaded = buffers.len() * chunk.len();
        assert!(held < uploaded + uploaded / 2, "{} MiB held for {} MiB", held >> 20, uploaded >> 20);
    }
}

//! Buffers that are counted where they are made and dropped: what a device holds, and what it held at most.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::calls::Call;
use crate::gpu::Gpu;

/// Bytes of the buffers of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Now.
    pub live: u64,
    /// At most since the device was opened, or since [`Gpu::forget_peak`].
    pub peak: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    live: AtomicU64,
    peak: AtomicU64,
}

impl Tally {
    fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }
}

/// A buffer of a device. Clones are the same buffer, which lasts as long as one of them.
#[derive(Clone, Debug)]
pub(crate) struct Buffer(Arc<Allocation>);

#[derive(Debug)]
struct Allocation {
    buffer: wgpu::Buffer,
    tally: Arc<Tally>,
}

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0.buffer
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.tally.live.fetch_sub(self.buffer.size(), Ordering::Relaxed);
        // A browser frees the memory of a dropped buffer only when its garbage collector runs, which knows nothing of its size.
        #[cfg(target_arch = "wasm32")]
        self.buffer.destroy();
    }
}

impl Gpu {
    /// A buffer of `size` bytes: the only place where one is made.
    #[cfg_attr(target_arch = "wasm32", expect(clippy::arc_with_non_send_sync, reason = "browsers' handles stay on one thread"))]
    pub(crate) fn create(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Buffer {
        // Buffers for kernels cannot be mapped: it is invalid.
        let usage = if self.fails(Call::Buffer) { usage | wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE } else { usage };
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false });
        self.tally.add(size);
        Buffer(Arc::new(Allocation { buffer, tally: Arc::clone(&self.tally) }))
    }

    /// What its buffers take. What the driver keeps for itself, and copies that wait for their upload, are not counted.
    pub fn memory(&self) -> DeviceMemory {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeviceMemory { live: count(&self.tally.live), peak: count(&self.tally.peak) }
    }

    /// Counts the peak from now on.
    pub fn forget_peak(&self) {
        self.tally.peak.store(self.memory().live, Ordering::Relaxed);
    }
}

//! Calls to the graphics API that can fail: the only place where a device that is open is asked for anything, so that each call
//! can be made to fail (feature `faults`).

use crate::error::Result;
use crate::gpu::Gpu;

/// What is asked of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Buffer,
    Pipeline,
    BindGroup,
    Write,
    Submit,
    Map,
    Poll,
}

impl Gpu {
    /// Whether this call fails for a test; a build without the feature `faults` has nothing of it.
    #[cfg(not(feature = "faults"))]
    #[expect(clippy::unused_self, reason = "the same with and without the feature")]
    pub(crate) const fn fails(&self, _: Call) -> bool {
        false
    }

    pub(crate) fn bind_group(&self, label: &str, layout: &wgpu::BindGroupLayout, entries: &[wgpu::BindGroupEntry<'_>]) -> wgpu::BindGroup {
        // Without what the layout asks for it is invalid.
        let entries = if self.fails(Call::BindGroup) { &[] } else { entries };
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries })
    }

    /// Has `bytes` copied to `buffer` before what is submitted next.
    pub(crate) fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        if !self.fails(Call::Write) {
            self.queue.write_buffer(buffer, offset, bytes);
        }
    }

    /// Memory for `size` bytes that are copied to `buffer` before what is submitted next.
    pub(crate) fn write_with(&self, buffer: &wgpu::Buffer, size: std::num::NonZeroU64) -> Result<wgpu::QueueWriteBufferView> {
        let view = if self.fails(Call::Write) { None } else { self.queue.write_buffer_with(buffer, 0, size) };
        view.ok_or_else(|| self.failed("the queue gives no memory to upload weights"))
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub(crate) fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        let commands = if self.fails(Call::Submit) { None } else { commands };
        self.queue.submit(commands)
    }

    /// Blocks as `until` says; in browsers the event loop does what this is for.
    pub(crate) fn poll(&self, until: wgpu::PollType) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            if self.fails(Call::Poll) {
                return self.check();
            }
            self.device.poll(until).map_err(|e| self.failed(e.to_string()))?;
        }
        Ok(())
    }
}

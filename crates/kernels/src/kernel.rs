//! The record of one compiled-in WGSL kernel variant. Does not know pipelines or devices.

/// How a kernel uses one binding. Binding numbers are the positions in [`Kernel::bindings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The uniform `Params` struct, always binding 0.
    Uniform,
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    ReadWrite,
}

/// One linked and validated WGSL kernel variant.
#[derive(Debug)]
pub struct Kernel {
    /// Kernel and variant, e.g. `gemm_lanes[f16,bias]`; unique, used as cache key and GPU label.
    pub name: &'static str,
    /// Which of [`LINES`](crate::generated::LINES) its text is made of; empty in builds for browsers if no browser can run it.
    pub(crate) lines: &'static [u16],
    /// Where in `Params` the first item of a dispatch stands, followed by that after the last.
    pub range: usize,
    /// Bindings of group 0 in order.
    pub bindings: &'static [Access],
    /// Threads per workgroup.
    pub workgroup: [u32; 3],
}

impl Kernel {
    /// Plain WGSL with the entry point `main`; empty in builds for browsers if no browser can run it.
    pub fn source(&self) -> String {
        let lines: Vec<&str> = crate::generated::LINES.split('\n').collect();
        self.lines.iter().map(|number| lines[usize::from(*number)]).collect::<Vec<_>>().join("\n")
    }

    /// Writes which items a dispatch runs into the bytes of its `Params`.
    pub(crate) fn set_items(&self, params: &mut [u8], first: u32, end: u32) {
        params[self.range..self.range + 8].copy_from_slice(bytemuck::bytes_of(&[first, end]));
    }
}

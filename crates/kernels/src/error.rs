//! Errors of recording, compiling and running plans.

use std::panic::Location;

use crate::preset::Preset;

/// A failure in the kernels crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator was recorded on tensors that do not fit.
    #[error("{op}: expected {expected}, found {found} (recorded at {at})")]
    Shape {
        /// Scope and operator, e.g. `transformer_blocks.0.attn1.to_q.gemm`.
        op: String,
        /// What it needs.
        expected: String,
        /// What it was given.
        found: String,
        /// The line of the model that recorded it.
        at: &'static Location<'static>,
    },
    /// No adapter fits the request.
    #[error("no GPU adapter {wanted}; found: {found}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters that exist.
        found: String,
    },
    /// Kernels were asked for that the adapter cannot run.
    #[error(
        "the {preset:?} kernels do not run on {adapter}: they need {}; it has {}",
        preset.needs(),
        subgroup_size.map_or("none of one size".to_owned(), |size| format!("subgroups of {size}"))
    )]
    Preset {
        /// The adapter.
        adapter: String,
        /// The kernels asked for.
        preset: Preset,
        /// Invocations of a subgroup of the adapter, if it has subgroups and all of one size.
        subgroup_size: Option<u32>,
    },
    /// No kernels have this name.
    #[error("no kernels are called `{found}`; expected soft, quads, lanes or gpu")]
    UnknownPreset {
        /// The name.
        found: String,
    },
    /// The device cannot hold or bind something of this size.
    #[error("{what} needs {needed} bytes in one buffer; this device allows {limit}; {remedy}")]
    Limit {
        /// The tensor or weight.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// What to change.
        remedy: &'static str,
    },
    /// The driver could not allocate.
    #[error("the GPU is out of memory: {detail}")]
    OutOfMemory {
        /// The driver's message.
        detail: String,
    },
    /// The device was reset, unplugged or taken away; everything on it is gone.
    #[error("the GPU device was lost: {detail}")]
    DeviceLost {
        /// The driver's message.
        detail: String,
    },
    /// The device refused a command.
    #[error("the GPU device failed: {detail}")]
    Device {
        /// The driver's message.
        detail: String,
    },
    /// Reading or writing a tensor with data that does not fit it.
    #[error("tensor `{name}`: expected {expected}, found {found}")]
    Data {
        /// The input or output.
        name: String,
        /// What the plan declares.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The run was ended by its [`CancelToken`](crate::CancelToken).
    #[error("the run was cancelled")]
    Cancelled,
    /// A weight holds a value that is no finite number, or would be none as f16.
    #[error("weight `{name}` holds {value} at {index}, expected finite numbers{}", if value.is_finite() { " up to 65504, the largest f16" } else { "" })]
    Weight {
        /// The key in the checkpoint.
        name: String,
        /// Which value, row-major.
        index: usize,
        /// It, as in the file.
        value: f32,
    },
    /// The file of a weight cannot be read.
    #[error("weight `{name}` cannot be read from its file: {detail}")]
    Unreadable {
        /// The key in the checkpoint.
        name: String,
        /// What the system says.
        detail: String,
    },
    /// A layer produced NaN or an infinity.
    #[error("{layer} produced {count} values that are not finite (of {of})")]
    NonFinite {
        /// The label of the first step with such a value.
        layer: String,
        /// How many.
        count: usize,
        /// Out of how many.
        of: usize,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A stable kebab-case identifier of the kind of error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Shape { .. } => "shape",
            Self::NoAdapter { .. } => "no-adapter",
            Self::Preset { .. } => "unsupported-kernels",
            Self::UnknownPreset { .. } => "unknown-kernels",
            Self::Limit { .. } => "limit",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::DeviceLost { .. } => "device-lost",
            Self::Device { .. } => "device",
            Self::Data { .. } => "data",
            Self::Cancelled => "cancelled",
            Self::Weight { value, .. } if value.is_finite() => "weight-overflow",
            Self::Weight { .. } | Self::NonFinite { .. } => "non-finite",
            Self::Unreadable { .. } => "unreadable-weight",
        }
    }

    /// What the caller can do about it, where something can be done.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoAdapter { .. } => Some("install a Vulkan driver (Debian: mesa-vulkan-drivers), or use the CPU executor"),
            Self::Preset { .. } => Some("choose other kernels or another adapter, or leave the choice to the adapter"),
            Self::OutOfMemory { .. } => Some("close other programs, or lower the size or the number of frames"),
            Self::Weight { value, .. } if value.is_finite() => Some("use f32 weights"),
            Self::Weight { .. } => Some("the checkpoint is damaged: get it anew"),
            Self::Unreadable { .. } => Some("check that the file is still there, and load the model again"),
            Self::NonFinite { .. } => Some("use f32 weights; if they are f32, the checkpoint itself is damaged"),
            Self::DeviceLost { .. } => Some("try again: a new device is opened"),
            Self::Device { .. } => Some("update the GPU driver, or choose another adapter"),
            Self::Shape { .. } | Self::UnknownPreset { .. } | Self::Limit { .. } | Self::Data { .. } | Self::Cancelled => None,
        }
    }
}

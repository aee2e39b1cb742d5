//! Kinora runtime: from a model folder and a prompt to frames.
//!
//! Weights, text, sampling and models live here; GPU kernels live in `kinora-kernels`.

pub mod conditioning;
pub mod error;
#[cfg_attr(not(feature = "eval"), expect(dead_code, reason = "families map their arguments to it all the same"))]
pub mod eval;
pub mod events;
pub mod executables;
pub mod host_memory;
pub mod json;
mod layout;
pub mod manifest;
pub mod matching;
pub mod metadata;
#[cfg(not(target_arch = "wasm32"))]
mod model_file;
pub mod models;
pub mod nn;
pub mod pipeline;
pub mod request;
mod residency;
pub mod sampling;
pub mod shape;
pub mod text;
pub mod understanding;
pub mod weights;

pub use error::{Error, Result};
pub use events::Event;
#[cfg(not(target_arch = "wasm32"))]
pub use kinora_kernels::SavedKernels;
pub use kinora_kernels::{
    Access, AdapterInfo, AdapterSelect, ByteSource, CancelToken, Device, Kernel, Preset, SharedBytes, WeightFormat, adapters,
};
pub use layout::Budget;
pub use metadata::Metadata;
pub use pipeline::{Estimate, Generated, Made, ModelParts, Requirements, StageMemory, VideoPipeline};
pub use request::{GenerateRequest, Options};

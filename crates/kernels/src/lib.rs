//! Kernels for video diffusion transformers on WebGPU: a plan is recorded once through [`Tensor`], fused, given memory
//! and replayed every denoising step, on a GPU or by the CPU twins. Knows no model.
//!
//! Notation: B batch · F H W frames, height, width · L tokens · T text tokens · D width · N heads · d head size ·
//! C channels · R rows (all axes but the last) · `[N, K]` linear weights. Shapes are written outermost first; the last
//! axis is stored zero-padded to a multiple of four.
//!
//! ```
//! use kinora_kernels::{Cadence, Executable, Device, Plan, Shape, Weight, WeightFormat};
//!
//! let plan = Plan::new();
//! let x = plan.input("x", &[2, 3], Cadence::Once);
//! let w = Weight::from_f32("w", Shape::new(&[1, 3]), &[1.0, 2.0, 3.0], WeightFormat::F32);
//! plan.output("y", x.linear(&w, None));
//! let mut run = Executable::new(&Device::cpu(), plan.finish()?)?;
//! run.write("x", &[1.0, 1.0, 1.0, 0.0, 1.0, 0.0])?;
//! pollster::block_on(run.run())?;
//! assert_eq!(pollster::block_on(run.read("y"))?, [6.0, 2.0]);
//! # Ok::<(), kinora_kernels::Error>(())
//! ```

mod adapter;
mod allocation;
mod buffers;
mod calls;
mod cost;
mod counters;
#[cfg(test)]
mod counts;
mod device;
mod encoding;
mod error;
mod executable;
#[cfg(feature = "faults")]
mod fault;
mod flight;
mod footprint;
pub mod fuse;
pub mod generated;
mod gpu;
mod host;
mod kept;
mod kernel;
mod lower;
pub mod memory;
pub mod op;
mod ops;
mod order;
mod pacing;
mod pack;
mod panels;
#[cfg(not(target_arch = "wasm32"))]
mod peak;
mod place;
mod plan;
mod preset;
mod raw;
pub mod reference;
mod replay;
mod ring;
#[cfg(not(target_arch = "wasm32"))]
mod saved;
mod segments;
mod shape;
mod state;
mod tensor;
mod weight;

pub use adapter::{AdapterInfo, AdapterSelect, adapters};
pub use allocation::DeviceMemory;
pub use cost::Cost;
pub use counters::Preparations;
pub use device::{Device, Turn};
pub use encoding::Encoding;
pub use error::{Error, Result};
pub use executable::{CancelToken, Executable};
#[cfg(feature = "faults")]
pub use fault::{Fault, FaultPlan, LiveObjects, Mutant};
pub use footprint::{Footprint, SharedBuffers};
pub use gpu::Gpu;
pub use kernel::{Access, Kernel};
pub use ops::{AttentionOptions, Conv3dOptions, HEAD_SIZES, LinearStepInputs, PatchOrder, Rescale, dense_sequences};
pub use order::sort_by_numbers;
pub use panels::Panels;
#[cfg(not(target_arch = "wasm32"))]
pub use peak::{CopyRate, Peak};
pub use place::{ByteSource, Delta, Place, Scales, SharedBytes, Stored};
pub use plan::{Cadence, Elem, Graph, Operand, Plan, Source, Step, Value, ValueId};
pub use preset::Preset;
#[cfg(not(target_arch = "wasm32"))]
pub use saved::SavedKernels;
pub use shape::{Shape, pad_rows, unpad_rows};
pub use tensor::Tensor;
pub use weight::{PANEL, Weight, WeightFormat};

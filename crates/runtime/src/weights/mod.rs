//! Model weights on disk: safetensors files, single or sharded, read in place.

mod checkpoint;
mod files;
mod safetensors;
mod write;

pub use checkpoint::Checkpoint;
pub use files::ModelFiles;
pub use safetensors::{DType, Entry, Header, TensorView};
#[cfg(not(target_arch = "wasm32"))]
pub use write::write_file;
pub use write::{NewTensor, Values, to_bytes};

//! Model weights on disk: safetensors and GGUF files, single or sharded, read in place.

mod checkpoint;
mod files;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
mod gguf;
mod lora;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod packed;
mod quantised;
mod safetensors;
mod tensor;
mod tokenizer;
mod write;

pub use checkpoint::Checkpoint;
pub use files::{Contents, ModelFiles, WEIGHT_FILES};
pub use lora::{Lora, LoraReport};
#[cfg(not(target_arch = "wasm32"))]
pub use packed::{is_packed, unpacked};
pub use safetensors::Header;
pub use tensor::{DType, Entry, TensorView};
#[cfg(not(target_arch = "wasm32"))]
pub use write::write_file;
pub use write::{NewTensor, Values, to_bytes, to_bytes_with};

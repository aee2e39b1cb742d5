//! Layers: each loads its weights by their checkpoint names and records its forward pass on a plan.
//!
//! Notation as in `kinora-kernels`: activations are channels-last, tokens `[B, L, D]`, frames `[B, F, H, W, C]`.

mod attention;
mod carry;
mod catmull_rom;
mod conv2d;
mod conv3d;
pub mod embed;
mod linear;
mod mlp;
pub mod modulation;
mod norm;
pub mod positions;
mod weights;

pub use attention::{AttentionNames, CrossAttention, Pattern, SelfAttention, packed_sequences};
pub use carry::{Carry, Chunk};
pub use catmull_rom::CatmullRom;
pub use conv2d::Conv2d;
pub use conv3d::{Conv3d, Conv3dConfig, TimePadding};
pub use embed::{Embedding, TimestepEmbedder};
pub use linear::Linear;
pub use mlp::{GatedMlp, Mlp, activate, activation_from_name};
pub use modulation::{Modulation, ScaleShiftTable};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use weights::Weights;

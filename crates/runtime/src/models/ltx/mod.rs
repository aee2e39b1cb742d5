//! LTX-Video (arXiv 2501.00103): the diffusion transformer and its video autoencoder, in the layout of diffusers.

pub mod config;
pub mod tokens;
mod transformer;
mod vae;
mod vae_blocks;
mod vae_decoder;
mod vae_encoder;

pub use config::{TransformerConfig, VaeConfig};
pub use transformer::{TokenLayout, Transformer, TransformerInputs};
pub use vae::{LatentStats, Vae};
pub use vae_decoder::VaeDecoder;
pub use vae_encoder::VaeEncoder;

//! LTX-Video (arXiv 2501.00103): the diffusion transformer and its video autoencoder, in the layout of diffusers.

pub mod config;
mod transformer;

pub use config::{TransformerConfig, VaeConfig};
pub use transformer::{TokenLayout, Transformer, TransformerInputs};

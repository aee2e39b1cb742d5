//! The registry: every model family of this runtime, one line each. What a family is stands in [`family`], how to add one in
//! `README.md` beside this file.

pub mod bert;
mod call;
pub mod cascade;
pub mod causal;
#[cfg(feature = "families")]
pub mod clip;
pub mod cogvideox;
pub mod component;
mod config;
#[cfg(feature = "images")]
pub mod diffit;
#[cfg(feature = "images")]
pub mod dit;
pub mod family;
#[cfg(feature = "images")]
pub mod images;
pub mod kl;
mod latents;
pub mod latte;
pub mod layout;
pub mod ltx;
#[cfg(feature = "images")]
pub mod mdt;
mod stages;
pub mod t5;
#[cfg(feature = "families")]
pub mod taehv;
#[cfg(feature = "images")]
pub mod uvit;
pub mod wan;

pub(crate) use config::{parse_config, require, require_head_size, require_heads};
pub use latents::LatentStats;

use family::Family;

/// All families. Those with `feature = "families"` come in the second WASM module of the npm package, which pages fetch whose
/// model needs it, and those with `feature = "images"` in the third; the first one has what the built-in model and LTX-Video need.
pub const FAMILIES: &[&Family] = &[
    &bert::FAMILY,
    &cascade::FAMILY,
    #[cfg(feature = "families")]
    &clip::FAMILY,
    #[cfg(feature = "families")]
    &cogvideox::FAMILY,
    #[cfg(feature = "images")]
    &diffit::FAMILY,
    #[cfg(feature = "images")]
    &dit::FAMILY,
    #[cfg(feature = "families")]
    &kl::FAMILY,
    #[cfg(feature = "families")]
    &latte::FAMILY,
    &ltx::FAMILY,
    #[cfg(feature = "images")]
    &mdt::FAMILY,
    &t5::FAMILY,
    #[cfg(feature = "families")]
    &taehv::FAMILY,
    #[cfg(feature = "images")]
    &uvit::FAMILY,
    #[cfg(feature = "families")]
    &wan::FAMILY,
];

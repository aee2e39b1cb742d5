//! Sampling: starting noise, the noise schedule, guidance and the denoising loop.

pub mod denoise;
pub mod guidance;
pub mod noise;
pub mod packing;
pub mod schedule;
pub mod tokens;

mod beta;

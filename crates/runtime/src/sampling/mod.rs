//! Sampling: starting noise, noise schedules, solvers, guidance and the denoising loop.

pub mod denoise;
pub mod guidance;
pub mod noise;
pub mod packing;
pub mod schedule;
pub mod solvers;
pub mod spacing;
pub mod step_cache;
pub mod tokens;
mod track;

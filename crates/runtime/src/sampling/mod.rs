//! Sampling: starting noise and the noise schedule.

pub mod denoise;
pub mod noise;
pub mod schedule;

mod beta;

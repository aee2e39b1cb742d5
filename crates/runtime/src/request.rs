//! [`GenerateRequest`]: everything that decides what a generation makes.

use crate::conditioning::{Conditioning, Long};
use crate::sampling::guidance::Guidance;

/// What to generate. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// What the clip shows.
    pub prompt: String,
    /// What it must not show; used with a guidance above 1.
    pub negative: String,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
    /// Number of frames.
    pub frames: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance; a scale of 1 follows the prompt alone, with half the work.
    pub guidance: Guidance,
    /// Replaces the schedule's shift.
    pub shift: Option<f64>,
    /// Chooses the noise.
    pub seed: u64,
    /// Starting noise `[1, C, F, H, W]`, row-major, instead of the seed's.
    pub latents: Option<Vec<f32>>,
    /// Images and clips to work from, and what becomes of them; nothing for text alone.
    pub conditioning: Conditioning,
    /// Makes a longer clip, from windows of `frames` frames each.
    pub long: Option<Long>,
    /// Show the first frame as predicted after every so many steps, in [`Event::Step`](crate::Event::Step); 0 for never.
    pub preview_every: usize,
}

//! From what is asked for, [`Options`], to what is made, [`GenerateRequest`]: the only place where defaults, rounding and checks
//! of a request live. The command, its batch lines and the npm package all come through here.

mod options;
mod resolve;
mod understand;

pub use options::{Aspect, Colour, CurveName, Options};
pub use resolve::{Draft, Fit};

use crate::conditioning::{Conditioning, Long};
use crate::error::Error;
use crate::sampling::guidance::Guidance;

/// More steps than a model has levels of noise are a mistake.
pub const MAX_STEPS: usize = 1000;
/// Shifts of the schedule.
pub const SHIFTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;
/// Guidance beyond these follows nothing.
pub const GUIDANCE: std::ops::RangeInclusive<f32> = 0.0..=100.0;
/// Powers of the cosine.
pub const GUIDANCE_POWERS: std::ops::RangeInclusive<f32> = 0.01..=100.0;
/// Frames per second that every format can count.
pub const FRAME_RATES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;
/// A day; longer clips are mistakes.
pub const MAX_SECONDS: f64 = 86_400.0;

/// What to generate, with everything decided. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// What the clip shows.
    pub prompt: String,
    /// The prompt before it was expanded, where it was.
    pub original_prompt: Option<String>,
    /// What it must not show; used with a guidance above 1.
    pub negative: String,
    /// Width.
    pub width: usize,
    /// Height.
    pub height: usize,
    /// Number of frames.
    pub frames: usize,
    /// Frames per second of the file; the motion is the model's own.
    pub fps: f64,
    /// Denoising steps.
    pub steps: usize,
    /// Name of the solver, where it is not the model's.
    pub sampler: Option<String>,
    /// Noise levels that the steps start from, before they are shifted, where they are not the model's.
    pub sigmas: Option<Vec<f32>>,
    /// Classifier-free guidance; a scale of 1 follows the prompt alone, with half the work.
    pub guidance: Guidance,
    /// How strongly a second branch steers, where that is not the model's.
    pub conditioning_scale: Option<f32>,
    /// Below which change of the model's prediction a step is made from the one before, in a [step
    /// cache](crate::sampling::step_cache); none without.
    pub step_cache: Option<f32>,
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
    /// So many frames of the clip in each preview, one after another: the first decoded, the others guessed from latents.
    pub preview_frames: usize,
    /// Factor of the finished clip's height and width, 1 or 2.
    pub upscale: usize,
    /// How many frames become of each but the last, 1 or 2.
    pub interpolate: usize,
}

fn invalid(parameter: &str, found: &dyn ToString, expected: impl Into<String>) -> Error {
    Error::InvalidRequest { parameter: parameter.into(), found: found.to_string(), expected: expected.into() }
}

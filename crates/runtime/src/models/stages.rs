//! Models beside denoiser and autoencoder: of a cascade behind finished frames, and between two passes of denoising.

use kinora_kernels::{Plan, Tensor};

use super::family::Evaluable;
#[cfg(feature = "families")]
use crate::shape::LatentShape;

/// What a second stage makes twice as many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubles {
    /// `n` frames become `2n − 1`: one between each two.
    Frames,
    /// Height and width.
    Pixels,
}

impl Doubles {
    /// Latents of `shape` afterwards.
    #[cfg(feature = "families")]
    pub(crate) fn of(self, shape: LatentShape) -> LatentShape {
        let [frames, rows, columns] = shape.grid;
        let grid = if self == Self::Frames { [2 * frames - 1, rows, columns] } else { [frames, 2 * rows, 2 * columns] };
        LatentShape { grid, ..shape }
    }

    /// The option that asks for it, and its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frames => "interpolate",
            Self::Pixels => "upscale",
        }
    }
}

/// A model that refines finished frames in one step: a stage of a cascade behind the first.
pub trait SecondStage: Evaluable + Send + Sync {
    /// What there is more of afterwards.
    fn doubles(&self) -> Doubles;

    /// Height and width must be multiples of it.
    fn multiple(&self) -> usize;

    /// Results so near to an end of a window of frames are not what they are in the whole clip, unless it ends there too.
    fn reach(&self) -> usize;

    /// How noisy it is told that decoded frames are.
    fn level(&self) -> f32;

    /// Frames `[1, F, H, W, 3]` in −1..1 and their level of noise `[1, 1]` → all frames, larger `[1, F, 2H, 2W, 3]`, or those
    /// between, `[1, F − 1, H, W, 3]`, by a [guess](crate::matching) of them that is given for them alone.
    fn record<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, guess: Option<Tensor<'p>>, level: Tensor<'p>) -> Tensor<'p>;
}

/// A model that makes more of latents, which another pass of denoising then refines.
pub trait LatentStage: Evaluable + Send + Sync {
    /// What there is more of afterwards.
    fn doubles(&self) -> Doubles;

    /// C, as of the autoencoder.
    fn latent_channels(&self) -> usize;

    /// The levels of the pass that follows, which begins with what this makes under noise of the first of them.
    fn sigmas(&self) -> &[f32];

    /// Latents of the autoencoder, no longer normalised, `[1, F, H, W, C]` → larger ones.
    fn record<'p>(&self, plan: &'p Plan, latents: Tensor<'p>) -> Tensor<'p>;

    /// What is done on the host to the larger latents `[.., C]` by those that they were made of.
    fn settle(&self, larger: &mut [f32], smaller: &[f32]);
}

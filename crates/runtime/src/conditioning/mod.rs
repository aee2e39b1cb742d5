//! What a generation is given besides text: a plan of latent frames, each given, generated or partly noised.
//!
//! Every task is a value of [`FramePlan`], made by the pure functions of [`tasks`] from integers alone: image to video,
//! keyframes, extension, connection, looping, editing, a still image. The rest of the runtime never asks which task it is:
//! the frames of each [`Segment`] are encoded, every token starts at its own noise level, and the sampler moves it only
//! while the schedule is below that level. A new task is a new function there.
//!
//! Conditioning by clean tokens at timestep 0 is that of LTX-Video (arXiv 2501.00103 §3.5); partly noised sources are
//! `SDEdit` (arXiv 2108.01073).

mod join;
mod mask;
mod parts;
mod segments;
pub mod tasks;
mod windows;

pub(crate) use join::join;
pub use mask::Mask;
pub(crate) use mask::is_painted;
pub use parts::{Given, ImagePlace, OVERLAP_FRAMES, PromptParts, Wanted};
pub use segments::Segment;
pub use tasks::{Direction, Keyframe};
pub use windows::{Long, Windows};

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shape::{Compression, LatentShape};

/// The noise of a frame that is generated from nothing, in thousandths: the timestep of pure noise.
pub const PURE_NOISE: u16 = 1000;
/// The noise of a frame that is given and kept.
pub const CLEAN: u16 = 0;

/// Latent frames in time: the first stands for one frame of the clip, each other for `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Latent frames, at least 1.
    pub frames: usize,
    /// Frames of the clip per latent frame, except for the first.
    pub step: usize,
}

impl Timeline {
    /// Frames of the clip.
    pub fn clip_frames(self) -> usize {
        1 + self.step * (self.frames - 1)
    }

    /// The frames of the clip that latent frame `index` stands for.
    pub fn span(self, index: usize) -> Range<usize> {
        let end = 1 + self.step * index;
        end.saturating_sub(if index == 0 { 1 } else { self.step })..end
    }

    /// The latent frame that stands for frame `frame` of the clip.
    pub fn latent_frame(self, frame: usize) -> usize {
        frame.div_ceil(self.step)
    }
}

/// Which part of a source clip a latent frame shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFrame {
    /// Which of the sources.
    pub clip: usize,
    /// Latent-frame-sized group of its frames: from the start 0, 1, …, or from the end −1, −2, …. A source of one frame
    /// stands still and has every group.
    pub group: isize,
}

/// One latent frame of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentFrame {
    /// What it shows before denoising; nothing for noise alone.
    pub source: Option<SourceFrame>,
    /// Noise added to the source, in thousandths: [`CLEAN`] keeps it, [`PURE_NOISE`] ignores it. It is also the timestep
    /// of the frame until the schedule falls below it.
    pub noise: u16,
}

impl LatentFrame {
    /// Made from nothing.
    pub const GENERATED: Self = Self { source: None, noise: PURE_NOISE };
}

/// Source clips that the result continues: what of them lies outside the plan is put before or after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joints {
    /// The source whose last frames are the first of the plan.
    pub before: Option<usize>,
    /// The source whose first frames are the last of the plan.
    pub after: Option<usize>,
}

/// Latent frames from first to last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlan {
    /// The frames.
    pub frames: Vec<LatentFrame>,
    /// What continues it on either side.
    pub joints: Joints,
    /// Images that were asked for at one frame of those that their latent frame stands for.
    pub keyframes: Vec<Keyframe>,
}

impl FramePlan {
    /// Nothing given: text to video, and with one frame text to image.
    pub fn generated(frames: usize) -> Self {
        Self { frames: vec![LatentFrame::GENERATED; frames], joints: Joints::default(), keyframes: Vec::new() }
    }

    /// The same with `count` latent frames from `at` on showing `source` and what follows it, under so much noise.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] if a frame lies outside the plan or already has a source.
    pub fn give(mut self, at: usize, count: usize, source: SourceFrame, noise: u16) -> Result<Self> {
        let length = self.frames.len();
        let place = || format!("latent frames {at} to {} of {length}", (at + count).saturating_sub(1));
        if count == 0 || at + count > length {
            return Err(invalid(
                "given frames",
                place(),
                format!("1 to {length} within the clip"),
                "give fewer frames or make a longer clip",
            ));
        }
        if noise > PURE_NOISE {
            return Err(invalid("noise", noise.to_string(), format!("0 to {PURE_NOISE} thousandths"), "use a strength from 0 to 1"));
        }
        for (i, frame) in self.frames[at..at + count].iter_mut().enumerate() {
            if frame.source.is_some() {
                let found = format!("latent frame {} twice", at + i);
                return Err(invalid("given frames", found, "each at most once".into(), "move the images apart or make a longer clip"));
            }
            *frame = LatentFrame { source: Some(SourceFrame { group: source.group + i as isize, ..source }), noise };
        }
        Ok(self)
    }

    /// Noise of each token of a grid `[F', H', W']`, in thousandths; a token joins `packing` latent frames.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] if the grid has another length, or one token would join unlike frames.
    pub fn token_noise(&self, grid: [usize; 3], packing: usize) -> Result<Vec<u16>> {
        let groups: Vec<&[LatentFrame]> = self.frames.chunks(packing).collect();
        if groups.len() != grid[0] || !self.frames.len().is_multiple_of(packing) {
            let expected = format!("{} latent frames", grid[0] * packing);
            return Err(invalid("plan", format!("{} latent frames", self.frames.len()), expected, "plan as many frames as the clip has"));
        }
        if let Some(unlike) = groups.iter().position(|g| g.iter().any(|f| f.noise != g[0].noise)) {
            let expected = format!("{packing} latent frames of equal noise, which this model joins in one token");
            return Err(invalid("given frames", format!("token frame {unlike} in part"), expected, "give all frames of the token"));
        }
        Ok(groups.iter().flat_map(|g| std::iter::repeat_n(g[0].noise, grid[1] * grid[2])).collect())
    }
}

/// RGBA bytes of each frame, `[height, width, 4]`; one frame is a still image.
pub type SourceClip = Vec<Vec<u8>>;

/// Everything a generation is given besides text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditioning {
    /// Images and clips in the size of the result.
    pub sources: Vec<SourceClip>,
    /// What each latent frame shows; nothing for text alone.
    pub plan: Option<FramePlan>,
    /// Where the plan's noise is replaced.
    pub mask: Option<Mask>,
    /// Images of what is to appear in the clip, in its size, for a model that looks at such.
    pub references: SourceClip,
    /// The same in twice the width and height, for a second pass over as much more of the latents. Without it a clip that is given
    /// something is only enlarged when it is finished.
    pub larger: Option<Box<Self>>,
}

impl Conditioning {
    /// `sources` as `plan` says.
    pub fn new(sources: Vec<SourceClip>, plan: FramePlan) -> Self {
        Self { sources, plan: Some(plan), ..Self::default() }
    }

    /// Whether it can be given to a second pass. While the pixels are not there yet they may come in both sizes.
    #[cfg(feature = "families")]
    pub(crate) fn has_larger(&self) -> bool {
        self.larger.is_some() || self.sources.is_empty()
    }

    /// Frames of each source.
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.sources.iter().map(Vec::len).collect()
    }

    /// Thousandths of noise on each token of a clip.
    pub(crate) fn token_noise(&self, shape: LatentShape, compression: Compression) -> Result<Vec<u16>> {
        let grid = shape.tokens(compression.packing);
        let mut noise = match &self.plan {
            Some(plan) => plan.token_noise(grid, compression.packing[0])?,
            None => vec![PURE_NOISE; grid.iter().product()],
        };
        if let Some(mask) = &self.mask {
            mask.apply(&mut noise, shape, compression)?;
        }
        Ok(noise)
    }
}

/// Thousandths of noise for a strength: 1 keeps the source as it is, 0 ignores it.
///
/// # Errors
/// [`Error::InvalidConditioning`] outside 0..=1.
pub fn noise_from_strength(strength: f32) -> Result<u16> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(invalid("strength", strength.to_string(), "0 to 1".into(), "1 keeps the source, 0 ignores it"));
    }
    Ok(((1.0 - strength) * f32::from(PURE_NOISE)).round() as u16)
}

fn invalid(parameter: &str, found: String, expected: String, remedy: &'static str) -> Error {
    Error::InvalidConditioning { parameter: parameter.into(), found, expected, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_latent_frame_stands_for_one_frame() {
        let timeline = Timeline { frames: 5, step: 4 };
        assert_eq!(timeline.clip_frames(), 17, "1 + 4 · 4");
        let spans: Vec<_> = (0..5).map(|i| timeline.span(i)).collect();
        assert_eq!(spans, [0..1, 1..5, 5..9, 9..13, 13..17], "consecutive");
        for (i, span) in spans.into_iter().enumerate() {
            assert!(span.clone().all(|frame| timeline.latent_frame(frame) == i), "frames {span:?}");
        }
    }

    #[test]
    fn strength_becomes_thousandths_of_noise() {
        let noise = |strength| noise_from_strength(strength).ok();
        assert_eq!([noise(1.0), noise(0.0), noise(0.4), noise(0.9996)], [Some(CLEAN), Some(PURE_NOISE), Some(600), Some(0)], "rounded");
        for strength in [-0.1, 1.1, f32::NAN] {
            let error = noise_from_strength(strength).expect_err("outside 0..=1");
            assert_eq!((error.code(), error.hint()), ("invalid-conditioning", Some("1 keeps the source, 0 ignores it")), "{error}");
        }
    }

    #[test]
    fn tokens_inherit_the_noise_of_their_frames() {
        let plan = FramePlan::generated(4).give(0, 1, SourceFrame { clip: 0, group: 0 }, CLEAN).expect("possible");
        assert_eq!(plan.token_noise([4, 1, 2], 1).ok(), Some(vec![0, 0, 1000, 1000, 1000, 1000, 1000, 1000]), "frame by frame");
        let unlike = plan.token_noise([2, 1, 2], 2).expect_err("half a token");
        assert!(unlike.to_string().contains("token frame 0"), "{unlike}");
        assert!(plan.token_noise([5, 1, 1], 1).is_err(), "another length");
    }
}

//! The tasks: pure functions from counts to a [`FramePlan`]. `frames` and `overlap` count latent frames.

use super::{FramePlan, Joints, SourceFrame, Timeline, invalid};
use crate::error::Result;

/// Into which time a clip is extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// What comes after it.
    Forward,
    /// What came before it.
    Backward,
}

impl Direction {
    /// The names of both.
    pub const NAMES: [&'static str; 2] = ["forward", "backward"];
}

/// A still image at a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyframe {
    /// Frame of the clip, from 0.
    pub frame: usize,
    /// Which source it is.
    pub clip: usize,
    /// Thousandths of noise added to it.
    pub noise: u16,
}

/// The first group of a source, where it starts, or its one still image.
fn start(clip: usize) -> SourceFrame {
    SourceFrame { clip, group: 0 }
}

/// The last `count` groups of a source.
fn end(clip: usize, count: usize) -> SourceFrame {
    SourceFrame { clip, group: -(count as isize) }
}

/// Images at any frames of the clip. One stands still for as long as its latent frame lasts.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning), as all functions here; also for two images in one latent frame.
pub fn keyframes(timeline: Timeline, keyframes: &[Keyframe]) -> Result<FramePlan> {
    let length = timeline.clip_frames();
    let empty = FramePlan { keyframes: keyframes.to_vec(), ..FramePlan::generated(timeline.frames) };
    keyframes.iter().try_fold(empty, |plan, key| {
        if key.frame >= length {
            let expected = format!("a frame from 0 to {}", length - 1);
            return Err(invalid("keyframe", key.frame.to_string(), expected, "choose an earlier frame or make a longer clip"));
        }
        plan.give(timeline.latent_frame(key.frame), 1, start(key.clip), key.noise)
    })
}

/// Source 0 goes on, or what led to it: `overlap` latent frames are its own.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning).
pub fn extend(frames: usize, overlap: usize, direction: Direction, noise: u16) -> Result<FramePlan> {
    some_generated(frames, overlap)?;
    let plan = FramePlan::generated(frames);
    Ok(match direction {
        Direction::Forward => plan.give(0, overlap, end(0, overlap), noise)?.joined(Some(0), None),
        Direction::Backward => plan.give(frames - overlap, overlap, start(0), noise)?.joined(None, Some(0)),
    })
}

/// From the end of source 0 to the start of source 1, `overlap` latent frames of each.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning).
pub fn connect(frames: usize, overlap: [usize; 2], noise: u16) -> Result<FramePlan> {
    let [left, right] = overlap;
    some_generated(frames, left + right)?;
    let plan = FramePlan::generated(frames).give(0, left, end(0, left), noise)?;
    Ok(plan.give(frames - right, right, start(1), noise)?.joined(Some(0), Some(1)))
}

/// From the end of source 0 to its own start, so that it repeats without a cut.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning).
pub fn repeat(frames: usize, overlap: [usize; 2], noise: u16) -> Result<FramePlan> {
    let mut plan = connect(frames, overlap, noise)?.joined(Some(0), Some(0));
    plan.frames.iter_mut().filter_map(|f| f.source.as_mut()).for_each(|source| source.clip = 0);
    Ok(plan)
}

/// Source 0, a clip as long as the result, changed as far as the noise allows.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning).
pub fn edit(frames: usize, noise: u16) -> Result<FramePlan> {
    FramePlan::generated(frames).give(0, frames, start(0), noise)
}

/// An overlap that leaves nothing to generate is a mistake.
fn some_generated(frames: usize, given: usize) -> Result<()> {
    if given < frames {
        return Ok(());
    }
    let expected = format!("fewer than the {frames} of the clip");
    Err(invalid("overlap", format!("{given} latent frames"), expected, "lower the overlap or make a longer clip"))
}

impl FramePlan {
    fn joined(self, before: Option<usize>, after: Option<usize>) -> Self {
        Self { joints: Joints { before, after }, ..self }
    }
}

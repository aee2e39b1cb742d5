//! Clips longer than the model makes at once: windows that continue each other.

use super::{FramePlan, Timeline, invalid, tasks};
use crate::conditioning::{CLEAN, Direction};
use crate::error::Result;

/// What a clip made of windows has besides the request of one of them, which it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Long {
    /// The prompts in order, each for its share of the windows; without any the request's prompt is that of all.
    pub scenes: Vec<String>,
    /// Frames of the whole clip; without them it goes on until it is stopped.
    pub clip_frames: Option<usize>,
    /// Latent frames that a window shares with the one before.
    pub overlap: usize,
}

/// A clip made of windows, each of which begins with the last frames of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Latent frames of one window, and frames of the clip per latent frame.
    pub timeline: Timeline,
    /// Latent frames that a window takes over.
    pub overlap: usize,
    /// Frames of the whole clip, if it has an end.
    pub clip_frames: Option<usize>,
}

impl Windows {
    /// Frames of the clip that a window takes over.
    pub fn shared_frames(&self) -> usize {
        Timeline { frames: self.overlap, ..self.timeline }.clip_frames()
    }

    /// How many windows it takes, if it has an end; the last may be longer than needed.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) for an overlap that leaves nothing to generate.
    pub fn count(&self) -> Result<Option<usize>> {
        if self.overlap == 0 || self.overlap >= self.timeline.frames {
            let expected = format!("1 to {} latent frames of a window", self.timeline.frames.saturating_sub(1));
            return Err(invalid(
                "overlap",
                format!("{} latent frames", self.overlap),
                expected,
                "lower the overlap or make longer windows",
            ));
        }
        let window = self.timeline.clip_frames();
        Ok(self.clip_frames.map(|frames| 1 + frames.saturating_sub(window).div_ceil(window - self.shared_frames())))
    }

    /// Which of `scenes` scenes window `index` of `count` belongs to: all get the same share, the first ones the rest. Without an
    /// end each gets one window, and the last one what follows.
    pub fn scene(index: usize, count: Option<usize>, scenes: usize) -> usize {
        count.map_or(index.min(scenes.saturating_sub(1)), |count| index * scenes / count.max(1))
    }

    /// The plan of every window but the first, whose source 0 is the end of the window before.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) as [`count`](Self::count).
    pub fn continuation(&self) -> Result<FramePlan> {
        tasks::extend(self.timeline.frames, self.overlap, Direction::Forward, CLEAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(clip_frames: usize, overlap: usize) -> Windows {
        Windows { timeline: Timeline { frames: 5, step: 4 }, overlap, clip_frames: Some(clip_frames) }
    }

    #[test]
    fn windows_cover_the_clip() {
        // 17 frames, then 12 more with each window of which 5 are shared.
        let counts = [1, 17, 18, 29, 30, 64, 65].map(|frames| windows(frames, 2).count().ok().flatten());
        assert_eq!(counts, [Some(1), Some(1), Some(2), Some(2), Some(3), Some(5), Some(5)], "overlap of 2");
        assert_eq!(windows(64, 1).count().ok(), Some(Some(4)), "one shared frame, 16 new ones");
        assert_eq!(Windows { clip_frames: None, ..windows(1, 1) }.count().ok(), Some(None), "without an end");
        for overlap in [0, 5] {
            assert!(windows(64, overlap).count().is_err(), "overlap {overlap}");
        }
    }

    #[test]
    fn scenes_share_the_windows() {
        let scenes = |count, scenes| (0..count).map(|i| Windows::scene(i, Some(count), scenes)).collect::<Vec<_>>();
        assert_eq!(scenes(6, 3), [0, 0, 1, 1, 2, 2], "evenly");
        assert_eq!(scenes(5, 3), [0, 0, 1, 1, 2], "the first get more");
        assert_eq!(scenes(3, 1), [0; 3], "one scene");
        assert_eq!([0, 1, 2, 9].map(|i| Windows::scene(i, None, 2)), [0, 1, 1, 1], "the last one goes on");
    }
}

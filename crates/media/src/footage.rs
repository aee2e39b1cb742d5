//! What was read: frames as they are in the file, each with the time at which it ends.

use std::path::PathBuf;

use crate::{Clip, Error, FrameRate, Result};

/// An image or a clip as a prompt. Frames are sRGB RGBA bytes, `[height, width, 4]` each; one frame is a still image.
#[derive(Debug, Clone, PartialEq)]
pub struct Footage {
    width: u32,
    height: u32,
    frames: Vec<Vec<u8>>,
    /// Seconds at which each frame ends; `None` if the file does not say.
    ends_s: Option<Vec<f64>>,
}

impl Footage {
    /// Frames that follow each other at an unknown rate.
    pub(crate) fn untimed(width: u32, height: u32, frames: Vec<Vec<u8>>) -> Result<Self> {
        if frames.is_empty() {
            return Err(Error::NoFrames);
        }
        Ok(Self { width, height, frames, ends_s: None })
    }

    /// Frames that last so many seconds each.
    pub(crate) fn timed(width: u32, height: u32, frames: Vec<(Vec<u8>, f64)>) -> Result<Self> {
        let ends = frames.iter().scan(0.0, |end, (_, seconds)| {
            *end += seconds;
            Some(*end)
        });
        let ends_s = Some(ends.collect());
        Ok(Self { ends_s, ..Self::untimed(width, height, frames.into_iter().map(|(frame, _)| frame).collect())? })
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The frames as they are in the file.
    #[must_use]
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    pub(crate) fn into_frames(self) -> Vec<Vec<u8>> {
        self.frames
    }

    /// This, if it is an image.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] for more than one frame.
    pub fn into_image(self) -> Result<Self> {
        match self.frames.len() {
            1 => Ok(self),
            frames => Err(Error::NotAnImage { path: PathBuf::new(), frames }),
        }
    }

    /// Indices of the frames that show at `rate`: the one on screen in the middle of each interval. Footage that does not
    /// say how fast it is has one frame per interval.
    #[must_use]
    pub fn at_rate(&self, rate: FrameRate) -> Vec<usize> {
        let Some(ends) = &self.ends_s else { return (0..self.frames.len()).collect() };
        let last = self.frames.len() - 1;
        let duration = ends[last];
        let count = ((duration * rate.as_f64()).round() as usize).max(1);
        (0..count)
            .map(|i| {
                let time = (i as f64 + 0.5) / rate.as_f64();
                ends.partition_point(|end| *end <= time).min(last)
            })
            .collect()
    }
}

impl From<Clip> for Footage {
    fn from(clip: Clip) -> Self {
        let rate = clip.frame_rate().as_f64();
        let ends_s = (1..=clip.frames().len()).map(|frames| frames as f64 / rate).collect();
        Self { width: clip.width(), height: clip.height(), ends_s: Some(ends_s), frames: clip.into_frames() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_chosen_by_the_time_they_are_on_screen() {
        let frames = |seconds: &[f64]| seconds.iter().map(|s| (vec![0; 4], *s)).collect();
        let rate = |fps| FrameRate::from_f64(fps).unwrap_or_else(|e| panic!("{e}"));
        let footage = |seconds: &[f64]| Footage::timed(1, 1, frames(seconds)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(footage(&[1.0 / 24.0; 8]).at_rate(rate(12.0)), [1, 3, 5, 7], "every second frame");
        assert_eq!(footage(&[1.0 / 6.0; 2]).at_rate(rate(12.0)), [0, 0, 1, 1], "each twice");
        assert_eq!(footage(&[0.5, 0.1, 0.4]).at_rate(rate(10.0)), [0, 0, 0, 0, 0, 1, 2, 2, 2, 2], "as long as each lasts");
        assert_eq!(footage(&[0.001]).at_rate(rate(12.0)), [0], "at least one");
        let untimed = Footage::untimed(1, 1, vec![vec![0; 4]; 3]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(untimed.at_rate(rate(12.0)), [0, 1, 2], "as they come");
        let clip = Clip::new(1, 1, rate(24.0), vec![vec![0; 4]; 5]).unwrap_or_else(|e| panic!("{e}"));
        let footage = Footage::from(clip);
        assert_eq!((footage.at_rate(rate(24.0)), footage.at_rate(rate(12.0))), (vec![0, 1, 2, 3, 4], vec![1, 3, 4]), "of a clip");
        assert_eq!(footage.into_image().map_err(|e| e.code()), Err("not-an-image"), "five frames");
        assert_eq!(Footage::untimed(1, 1, vec![]).map_err(|e| e.code()), Err("bad-clip"), "no frames");
    }
}

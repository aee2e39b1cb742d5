//! A clip in memory: frames of RGBA bytes, the rate at which they are shown, and the text that goes with them.

use crate::{Error, Result};

/// Longest side of a frame in pixels; what the PNG, GIF and AV1 headers can all hold.
const MAX_SIDE_PX: u32 = 65_535;

/// What is known of a clip before its frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second.
    pub frame_rate: FrameRate,
    /// How many frames there will be; `None` while nobody knows when it ends.
    pub frames: Option<usize>,
    /// Whether no pixel will be transparent: the alpha channel is then not written.
    pub is_opaque: bool,
}

impl Head {
    pub(crate) fn check(&self) -> Result<()> {
        let Self { width, height, .. } = *self;
        let fits = [width, height].iter().all(|side| (1..=MAX_SIDE_PX).contains(side));
        if fits { Ok(()) } else { Err(Error::Size { width, height, limit: MAX_SIDE_PX }) }
    }

    /// Whether frame `index` has the bytes of its size.
    pub(crate) fn check_frame(&self, index: usize, rgba: &[u8]) -> Result<()> {
        let Self { width, height, .. } = *self;
        let expected = u64::from(width) * u64::from(height) * 4;
        if rgba.len() as u64 == expected { Ok(()) } else { Err(Error::FrameBytes { index, found: rgba.len(), expected, width, height }) }
    }
}

/// A validated clip: at least one frame, and every frame holds `width · height · 4` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    width: u32,
    height: u32,
    frame_rate: FrameRate,
    frames: Vec<Vec<u8>>,
}

impl Clip {
    /// Takes frames of sRGB RGBA bytes, `[height, width, 4]` each, row by row from the top.
    ///
    /// # Errors
    /// No frames, a side outside 1..=65,535, or a frame whose length is not `width · height · 4`.
    pub fn new(width: u32, height: u32, frame_rate: FrameRate, frames: Vec<Vec<u8>>) -> Result<Self> {
        let head = Head { width, height, frame_rate, frames: Some(frames.len()), is_opaque: false };
        head.check()?;
        if frames.is_empty() {
            return Err(Error::NoFrames);
        }
        frames.iter().enumerate().try_for_each(|(index, frame)| head.check_frame(index, frame))?;
        Ok(Self { width, height, frame_rate, frames })
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

    /// Frames per second.
    #[must_use]
    pub fn frame_rate(&self) -> FrameRate {
        self.frame_rate
    }

    /// The frames, `[height, width, 4]` bytes each.
    #[must_use]
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    /// What is known of it without its frames.
    #[must_use]
    pub fn head(&self) -> Head {
        let Self { width, height, frame_rate, .. } = *self;
        Head { width, height, frame_rate, frames: Some(self.frames.len()), is_opaque: self.is_opaque() }
    }

    /// True if no pixel is transparent, so that the alpha channel carries nothing.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.frames.iter().all(|frame| frame.chunks_exact(4).all(|pixel| pixel[3] == 255))
    }
}

/// Asked at least once per frame, with the frame's index, before it is written, and again while something is waited for or
/// frames are gone through once more;
/// `false` stops the writer with [`Error::Interrupted`].
pub type KeepGoing<'a> = dyn FnMut(usize) -> bool + 'a;

/// Text stored inside the file where the format has a place for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What the clip shows; Kinora puts the prompt here.
    pub description: String,
    /// The program that made it, with its version.
    pub software: String,
    /// Everything else, as one line; Kinora puts the request as JSON here.
    pub comment: String,
}

/// Frames per second as a fraction; both parts fit the 16 bits that PNG gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    num: u16,
    den: u16,
}

impl FrameRate {
    /// `num / den` frames per second.
    ///
    /// # Errors
    /// A zero part.
    pub fn new(num: u16, den: u16) -> Result<Self> {
        if num == 0 || den == 0 {
            return Err(Error::FrameRate { found: f64::from(num) / f64::from(den) });
        }
        Ok(Self { num, den })
    }

    /// The fraction for a decimal rate: whole rates and the NTSC rates (23.976, 29.97, …) are exact,
    /// others are rounded to at least two decimals.
    ///
    /// # Errors
    /// A rate that is not a number or outside 0.01..=1000.
    pub fn from_f64(fps: f64) -> Result<Self> {
        if !(0.01..=1000.0).contains(&fps) {
            return Err(Error::FrameRate { found: fps });
        }
        let whole = fps.round();
        let ntsc = whole * 1000.0 / 1001.0;
        let (num, den) = if (fps - whole).abs() < 1e-6 {
            (whole, 1)
        } else if (fps - ntsc).abs() < 2e-3 && whole <= 65.0 {
            (whole * 1000.0, 1001)
        } else {
            let den: u16 = if fps <= 65.0 { 1000 } else { 60 };
            ((fps * f64::from(den)).round(), den)
        };
        // `num` is at most 65,000 by the ranges above, so the conversion is exact.
        Self::new(num as u16, den)
    }

    /// Numerator.
    #[must_use]
    pub fn num(self) -> u16 {
        self.num
    }

    /// Denominator.
    #[must_use]
    pub fn den(self) -> u16 {
        self.den
    }

    /// Frames per second as a decimal.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }
}

impl std::fmt::Display for FrameRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_the_fractions_players_know() {
        for (fps, expected) in [
            (12.0, "12/1"),
            (24.0, "24/1"),
            (23.976, "24000/1001"),
            (29.97, "30000/1001"),
            (59.94, "60000/1001"),
            (12.5, "12500/1000"),
            (0.5, "500/1000"),
            (1000.0, "1000/1"),
            (119.88, "7193/60"),
        ] {
            let rate = FrameRate::from_f64(fps).map(|rate| rate.to_string());
            assert_eq!(rate.as_deref().ok(), Some(expected), "{fps} frames/s");
        }
    }

    #[test]
    fn impossible_rates_are_errors() {
        for fps in [0.0, -1.0, 0.001, 1e9, f64::NAN, f64::INFINITY] {
            assert!(FrameRate::from_f64(fps).is_err(), "{fps} was accepted");
        }
        assert!(FrameRate::new(0, 1).is_err() && FrameRate::new(1, 0).is_err(), "zero parts were accepted");
    }

    #[test]
    fn clips_reject_what_no_encoder_could_write() {
        let rate = FrameRate { num: 12, den: 1 };
        assert!(matches!(Clip::new(2, 2, rate, vec![]), Err(Error::NoFrames)), "no frames");
        assert!(matches!(Clip::new(0, 2, rate, vec![vec![]]), Err(Error::Size { .. })), "zero width");
        assert!(matches!(Clip::new(65_536, 1, rate, vec![vec![]]), Err(Error::Size { .. })), "too wide");
        let short = vec![vec![0; 16], vec![0; 15]];
        assert!(matches!(Clip::new(2, 2, rate, short), Err(Error::FrameBytes { index: 1, found: 15, expected: 16, .. })), "short frame");
    }
}

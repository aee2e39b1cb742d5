//! Which part of a clip is changed, in space and time: a mask of pixels becomes noise of tokens.

use super::{PURE_NOISE, Timeline, invalid};
use crate::error::Result;
use crate::shape::{Compression, LatentShape};

/// A painted region. A token is changed if any of its pixels is painted, so the region grows to whole tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Luminance `[height, width]` of each frame, or of one that holds for all; 128 and above is changed.
    pub frames: Vec<Vec<u8>>,
    /// Thousandths of noise inside; outside the plan's own noise remains.
    pub noise: u16,
}

/// Luminance from which a pixel counts as painted: half of white.
const PAINTED: u8 = 128;

/// Whether a pixel of this luminance is changed.
pub(crate) fn is_painted(luminance: u8) -> bool {
    luminance >= PAINTED
}

impl Mask {
    /// The luminance of `frames` of RGBA bytes, by BT.601.
    pub fn from_rgba(frames: &[Vec<u8>], noise: u16) -> Self {
        let luma = |p: &[u8]| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114 + 500) / 1000) as u8;
        Self { frames: frames.iter().map(|rgba| rgba.chunks_exact(4).map(luma).collect()).collect(), noise }
    }

    /// The luminance of frame `at` of the clip.
    pub(crate) fn frame(&self, at: usize) -> &[u8] {
        &self.frames[if self.frames.len() == 1 { 0 } else { at }]
    }

    /// Sets the noise of the painted tokens. `noise` holds one number per token of `shape`.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) for a mask of another size or length, or one that
    /// paints nothing.
    pub(crate) fn apply(&self, noise: &mut [u16], shape: LatentShape, compression: Compression) -> Result<()> {
        let timeline = Timeline { frames: shape.grid[0], step: compression.latent[0] };
        let (width, height) = (shape.grid[2] * compression.latent[2], shape.grid[1] * compression.latent[1]);
        let clip_frames = timeline.clip_frames();
        if ![1, clip_frames].contains(&self.frames.len()) {
            let expected = format!("1 or the {clip_frames} of the clip");
            return Err(invalid(
                "mask",
                format!("{} frames", self.frames.len()),
                expected,
                "give an image, or a clip as long as the video",
            ));
        }
        if let Some(wrong) = self.frames.iter().find(|frame| frame.len() != width * height) {
            let expected = format!("{} ({width}x{height})", width * height);
            return Err(invalid("mask", format!("{} pixels", wrong.len()), expected, "give a mask of the size of the video"));
        }
        if self.noise > PURE_NOISE {
            let expected = format!("0 to {PURE_NOISE} thousandths");
            return Err(invalid("mask noise", self.noise.to_string(), expected, "use a strength from 0 to 1"));
        }
        let [frames, rows, columns] = shape.tokens(compression.packing);
        let unit = compression.token();
        let mut painted = vec![false; frames * rows * columns];
        for t in 0..clip_frames {
            let frame = self.frame(t);
            let token_frame = timeline.latent_frame(t) / compression.packing[0];
            for (at, _) in frame.iter().enumerate().filter(|(_, luminance)| is_painted(**luminance)) {
                let (y, x) = (at / width / unit[1], at % width / unit[2]);
                painted[(token_frame * rows + y) * columns + x] = true;
            }
        }
        if !painted.contains(&true) {
            return Err(invalid("mask", "no painted pixel".into(), "white where the video shall change".into(), "invert the mask"));
        }
        for (noise, _) in noise.iter_mut().zip(painted).filter(|(_, painted)| *painted) {
            *noise = self.noise;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: LatentShape = LatentShape { channels: 1, grid: [2, 8, 4] };
    const COMPRESSION: Compression = Compression { latent: [2, 1, 2], packing: [1, 4, 2] };

    /// Three frames of 8×8 with one painted pixel in the last; tokens are 4×4 pixels.
    fn mask() -> Mask {
        let mut frames = vec![vec![127; 64]; 3];
        frames[2][5 * 8 + 3] = PAINTED;
        Mask { frames, noise: 700 }
    }

    #[test]
    fn one_painted_pixel_changes_its_token() {
        let mut noise = vec![0; 8];
        mask().apply(&mut noise, SHAPE, COMPRESSION).expect("fits");
        assert_eq!(noise, [0, 0, 0, 0, 0, 0, 700, 0], "second latent frame, second row, first column");
        let still = Mask { frames: vec![mask().frames.remove(2)], ..mask() };
        still.apply(&mut noise, SHAPE, COMPRESSION).expect("fits");
        assert_eq!(noise, [0, 0, 700, 0, 0, 0, 700, 0], "an image holds for all frames");
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        let refused = |mask: Mask| mask.apply(&mut [0; 8], SHAPE, COMPRESSION).expect_err("refused").to_string();
        assert!(refused(Mask { frames: vec![vec![255; 64]; 2], ..mask() }).contains("2 frames, expected 1 or the 3"), "length");
        assert!(refused(Mask { frames: vec![vec![255; 63]], ..mask() }).contains("63 pixels, expected 64 (8x8)"), "size");
        assert!(refused(Mask { frames: vec![vec![0; 64]], ..mask() }).contains("no painted pixel"), "empty");
        assert!(refused(Mask { noise: 1001, ..mask() }).contains("1001"), "noise");
    }
}

//! Sizes: pixels, latents and tokens, and which sizes a model can make.

use crate::error::{Error, Result};

/// Pixels per latent position (frames, height, width) and latents per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Frames, rows and columns per latent; the first frame has a latent of its own.
    pub latent: [usize; 3],
    /// Latent frames, rows and columns per token.
    pub packing: [usize; 3],
}

impl Compression {
    /// Frames, rows and columns of pixels per token.
    pub fn token(self) -> [usize; 3] {
        std::array::from_fn(|axis| self.latent[axis] * self.packing[axis])
    }

    /// The largest number of frames up to `most` that a clip can have; at least 1 latent frame.
    pub fn frames_up_to(self, most: usize) -> usize {
        let [step, packing] = [self.latent[0], self.packing[0]];
        let groups = (1 + most.saturating_sub(1) / step) / packing;
        1 + (groups.max(1) * packing - 1) * step
    }

    /// The number of frames nearest to `wanted` that a clip can have.
    pub fn frames_near(self, wanted: usize) -> usize {
        let below = self.frames_up_to(wanted);
        let above = below + self.latent[0] * self.packing[0];
        if wanted <= below || wanted - below < above - wanted { below } else { above }
    }
}

/// A clip as latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentShape {
    /// C.
    pub channels: usize,
    /// F, H, W.
    pub grid: [usize; 3],
}

/// More pixels in all frames than any model here was made for, and few enough that no size overflows.
const MAX_PIXELS: usize = 1 << 28;

impl LatentShape {
    /// The latents of a clip of `frames` × `height` × `width` pixels.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the nearest size that works.
    pub fn of_clip(width: usize, height: usize, frames: usize, channels: usize, compression: Compression) -> Result<Self> {
        let [t, h, w] = compression.latent;
        let [pt, ph, pw] = compression.packing;
        let pixels = width.checked_mul(height).and_then(|p| p.checked_mul(frames)).filter(|p| (1..=MAX_PIXELS).contains(p));
        if pixels.is_none() {
            let expected = format!("at least 1 × 1 × 1 and at most {MAX_PIXELS} pixels in all frames");
            return Err(request("size", format!("{width}x{height}, {frames} frames"), expected));
        }
        for (parameter, value, unit) in [("width", width, w * pw), ("height", height, h * ph)] {
            if value % unit != 0 {
                return Err(request(parameter, value.to_string(), format!("a multiple of {unit}, e.g. {}", nearest(value, unit, 0))));
            }
        }
        let latent_frames = 1 + (frames - 1) / t;
        if !(frames - 1).is_multiple_of(t) || !latent_frames.is_multiple_of(pt) {
            return Err(request(
                "frames",
                frames.to_string(),
                format!("1 more than a multiple of {}, e.g. {}", t * pt, nearest(frames, t * pt, 1)),
            ));
        }
        Ok(Self { channels, grid: [latent_frames, height / h, width / w] })
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.channels * self.grid.iter().product::<usize>()
    }

    /// `[C, F, H, W]`.
    pub fn extents(&self) -> [usize; 4] {
        let [f, h, w] = self.grid;
        [self.channels, f, h, w]
    }

    /// The latents of the first frame alone.
    pub fn first_frame(&self) -> Self {
        let [_, h, w] = self.grid;
        Self { grid: [1, h, w], ..*self }
    }

    /// Tokens on each axis.
    pub fn tokens(&self, packing: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|i| self.grid[i] / packing[i])
    }

    /// `[1, C, F, H, W]`.
    pub fn dims(&self) -> [usize; 5] {
        let [f, h, w] = self.grid;
        [1, self.channels, f, h, w]
    }
}

/// The size with sides that are multiples of `units` (width, height) whose aspect ratio and area are nearest to those asked
/// for; a ratio twice too wide is as far as an area four times too large.
pub fn size_for_aspect(aspect: [usize; 2], area: usize, units: [usize; 2]) -> [usize; 2] {
    let ratio = aspect[0] as f64 / aspect[1] as f64;
    let ideal = [(area as f64 * ratio).sqrt(), (area as f64 / ratio).sqrt()];
    let around = |axis: usize| {
        let steps = (ideal[axis] / units[axis] as f64) as usize;
        [steps, steps + 1].map(|n| n.max(1) * units[axis])
    };
    let distance = |[w, h]: [usize; 2]| {
        let shape = (w as f64 / h as f64 / ratio).ln().abs();
        shape + 0.5 * ((w * h) as f64 / area as f64).ln().abs()
    };
    let candidates = around(0).into_iter().flat_map(|w| around(1).map(|h| [w, h]));
    candidates.min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(units)
}

fn nearest(value: usize, unit: usize, offset: usize) -> usize {
    let steps = (value.saturating_sub(offset) + unit / 2) / unit;
    steps.max(usize::from(offset == 0)) * unit + offset
}

fn request(parameter: &str, found: String, expected: String) -> Error {
    Error::InvalidRequest { parameter: parameter.into(), found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIPBOOK: Compression = Compression { latent: [4, 16, 16], packing: [1, 2, 2] };

    #[test]
    fn the_default_clip_has_five_latent_frames() {
        let shape = LatentShape::of_clip(128, 128, 17, 32, FLIPBOOK).expect("the default size");
        assert_eq!(shape.dims(), [1, 32, 5, 8, 8], "one latent for frame 0, four frames for each other");
        assert_eq!(LatentShape::of_clip(128, 96, 1, 32, FLIPBOOK).expect("an image").grid, [1, 6, 8], "height before width");
    }

    #[test]
    fn aspects_become_sizes_of_about_the_same_area() {
        let size = |w, h| size_for_aspect([w, h], 128 * 128, [32, 32]);
        assert_eq!([size(1, 1), size(16, 9), size(9, 16), size(4, 3)], [[128, 128], [160, 96], [96, 160], [128, 96]], "small units");
        assert_eq!(size(21, 9), [224, 96], "exactly 2.33, a third larger");
        assert_eq!(size_for_aspect([16, 9], 704 * 512, [32, 32]), [800, 448], "finer units come closer");
        assert_eq!(size_for_aspect([1, 1], 1, [32, 32]), [32, 32], "never 0");
    }

    #[test]
    fn other_sizes_name_the_nearest_that_works() {
        let message = |w, h, f| LatentShape::of_clip(w, h, f, 32, FLIPBOOK).expect_err("not possible").to_string();
        assert!(message(100, 128, 17).contains("width: found 100, expected a multiple of 32, e.g. 96"), "{}", message(100, 128, 17));
        assert!(message(128, 128, 16).contains("e.g. 17"), "{}", message(128, 128, 16));
        for (w, h, f) in [(0, 128, 17), (128, 128, 0), (usize::MAX, 2, 2), (1 << 20, 1 << 20, 1)] {
            assert!(message(w, h, f).contains("size: found"), "{}", message(w, h, f));
        }
    }
}

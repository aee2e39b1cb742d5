//! Footage in the size of a clip: scaled to cover it, cropped to its middle, over a background.

use image::{RgbaImage, imageops};

use crate::{Error, Footage, Result};

impl Footage {
    /// A sentence for people if the frames of `name` must grow to cover `width` × `height`.
    #[must_use]
    pub fn enlargement_note(&self, name: &str, width: u32, height: u32) -> Option<String> {
        let enlargement = self.enlargement(width, height);
        let (w, h) = (self.width(), self.height());
        (enlargement > 1.0).then(|| format!("`{name}` is {w}x{h}: enlarged {enlargement:.2} times to cover {width}x{height}"))
    }

    /// How much the frames must grow to cover `width` × `height`; at most 1 if they shrink.
    fn enlargement(&self, width: u32, height: u32) -> f64 {
        (f64::from(width) / f64::from(self.width())).max(f64::from(height) / f64::from(self.height()))
    }

    /// The frames at `indices` as opaque RGBA of `width` × `height`: transparent parts show `background` (sRGB), then the
    /// frame is scaled to cover the size (Catmull–Rom, averaging when it shrinks) and the middle is kept.
    ///
    /// # Errors
    /// [`Error::Size`] for a side of 0, [`Error::NoFrames`].
    pub fn fitted(&self, indices: &[usize], width: u32, height: u32, background: [u8; 3]) -> Result<Vec<Vec<u8>>> {
        if width == 0 || height == 0 {
            return Err(Error::Size { width, height, limit: crate::read::MAX_SIDE_PX });
        }
        if indices.is_empty() {
            return Err(Error::NoFrames);
        }
        let scale = self.enlargement(width, height);
        let side = |pixels: u32, least: u32| ((f64::from(pixels) * scale).round() as u32).max(least);
        let (scaled_width, scaled_height) = (side(self.width(), width), side(self.height(), height));
        let (left, top) = ((scaled_width - width) / 2, (scaled_height - height) / 2);
        let fit = |index: &usize| {
            let opaque = over(self.frames().get(*index)?, background);
            let frame = RgbaImage::from_raw(self.width(), self.height(), opaque)?;
            let scaled = match (scaled_width, scaled_height) == (self.width(), self.height()) {
                true => frame,
                false => imageops::resize(&frame, scaled_width, scaled_height, imageops::FilterType::CatmullRom),
            };
            Some(imageops::crop_imm(&scaled, left, top, width, height).to_image().into_raw())
        };
        indices.iter().map(|index| fit(index).ok_or(Error::NoFrames)).collect()
    }
}

/// RGBA over an opaque colour.
fn over(frame: &[u8], background: [u8; 3]) -> Vec<u8> {
    let blend = |value: u8, behind: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(value) * alpha + u32::from(behind) * (255 - alpha) + 127) / 255) as u8
    };
    let pixel = |p: &[u8]| [blend(p[0], background[0], p[3]), blend(p[1], background[1], p[3]), blend(p[2], background[2], p[3]), 255];
    frame.chunks_exact(4).flat_map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footage(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Footage {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
        Footage::untimed(width, height, vec![pixels]).unwrap_or_else(|e| panic!("{e}"))
    }

    fn fitted(footage: &Footage, width: u32, height: u32) -> Vec<u8> {
        footage.fitted(&[0], width, height, [255, 0, 0]).unwrap_or_else(|e| panic!("{e}")).remove(0)
    }

    #[test]
    fn the_same_size_stays_as_it_is() {
        let source = footage(3, 2, |x, y| [x as u8 * 80, y as u8 * 90, 7, 255]);
        assert_eq!(fitted(&source, 3, 2), source.frames()[0], "no resampling");
    }

    #[test]
    fn the_middle_of_a_wide_image_is_kept() {
        // Thirds of red, green and blue: the middle third of 12×4 is 4×4 green.
        let source = footage(12, 4, |x, _| [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]][x as usize / 4]);
        assert_eq!(fitted(&source, 4, 4), [0, 255, 0, 255].repeat(16), "cropped, not squeezed");
        assert_eq!(source.enlargement(8, 8), 2.0, "the height must double");
        assert_eq!(source.enlargement(6, 1), 0.5, "half the width is enough");
    }

    #[test]
    fn transparency_shows_the_background_before_scaling() {
        let source = footage(1, 1, |_, _| [0, 0, 255, 51]);
        assert_eq!(fitted(&source, 1, 1), [204, 0, 51, 255], "a fifth of blue over red");
        assert!(source.fitted(&[0], 0, 1, [0; 3]).is_err() && source.fitted(&[], 1, 1, [0; 3]).is_err(), "nothing to make");
        assert!(source.fitted(&[1], 1, 1, [0; 3]).is_err(), "no such frame");
    }
}

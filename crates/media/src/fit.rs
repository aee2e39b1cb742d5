//! Frames in the size of a clip: cropped to the part that shows, over a background, then scaled.

use image::{RgbaImage, imageops};

use crate::{Error, Result};

/// Longest side of a clip that frames are fitted to, in pixels.
const MAX_SIDE_PX: u32 = 16_384;

/// The size of frames in a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// How wide a pixel is shown, in units of its height.
    pub(crate) pixel_aspect: f64,
}

impl Shape {
    pub(crate) fn square(width: u32, height: u32) -> Self {
        Self { width, height, pixel_aspect: 1.0 }
    }

    /// Width and height as they are shown.
    pub(crate) fn shown(&self) -> [f64; 2] {
        [f64::from(self.width) * self.pixel_aspect, f64::from(self.height)]
    }

    /// How much frames must grow to cover `width` × `height`; at most 1 if they shrink.
    pub(crate) fn enlargement(&self, width: u32, height: u32) -> f64 {
        let [shown_width, shown_height] = self.shown();
        (f64::from(width) / shown_width).max(f64::from(height) / shown_height)
    }
}

/// One axis of the part of a frame that shows.
struct Axis {
    /// The first pixel that shows a little, and how many do.
    begin: u32,
    count: u32,
    /// Length of these pixels once scaled, and where the result begins in it.
    scaled: u32,
    offset: u32,
}

impl Axis {
    /// The middle of `length` pixels that covers `target` when each becomes `scale` pixels.
    fn new(length: u32, target: u32, scale: f64) -> Self {
        let shows = (f64::from(target) / scale).min(f64::from(length));
        let left = (f64::from(length) - shows) / 2.0;
        // Rounding noise is no part of a pixel.
        let begin = (left + 1e-6).floor();
        let end = (left + shows - 1e-6).ceil().clamp(begin + 1.0, f64::from(length));
        let scaled = (((end - begin) * scale).round() as u32).max(target);
        let offset = (((left - begin) * scale).round() as u32).min(scaled - target);
        // All are at most `length`.
        Self { begin: begin as u32, count: (end - begin) as u32, scaled, offset }
    }
}

/// A frame of RGBA bytes as opaque RGBA of `width` × `height`: the middle that covers this shape is cut out, transparent parts
/// show `background` (sRGB), and it is scaled (Catmull–Rom, averaging when it shrinks).
///
/// # Errors
/// [`Error::Size`] for a side of 0 or beyond what any clip has.
pub(crate) fn fit(rgba: &[u8], shape: Shape, width: u32, height: u32, background: [u8; 3]) -> Result<Vec<u8>> {
    let wrong = || Error::Size { width, height, limit: MAX_SIDE_PX };
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE_PX {
        return Err(wrong());
    }
    let scale = shape.enlargement(width, height);
    let x = Axis::new(shape.width, width, scale * shape.pixel_aspect);
    let y = Axis::new(shape.height, height, scale);
    let rows = rgba.chunks_exact(shape.width as usize * 4).skip(y.begin as usize).take(y.count as usize);
    let mut part = Vec::with_capacity(x.count as usize * y.count as usize * 4);
    for row in rows {
        over(&row[x.begin as usize * 4..][..x.count as usize * 4], background, &mut part);
    }
    let part = RgbaImage::from_raw(x.count, y.count, part).ok_or_else(wrong)?;
    let scaled = match (x.scaled, y.scaled) == part.dimensions() {
        true => part,
        false => imageops::resize(&part, x.scaled, y.scaled, imageops::FilterType::CatmullRom),
    };
    if (x.scaled, y.scaled) == (width, height) {
        return Ok(scaled.into_raw());
    }
    Ok(imageops::crop_imm(&scaled, x.offset, y.offset, width, height).to_image().into_raw())
}

/// All of a frame of RGBA bytes as opaque RGBA of `width` × `height`, in the middle: as large as fits, with margins of `background`, which
/// transparent parts show too.
///
/// # Errors
/// As [`fit`].
pub(crate) fn fit_whole(rgba: &[u8], shape: Shape, [width, height]: [u32; 2], background: [u8; 3]) -> Result<Vec<u8>> {
    let [shown_width, shown_height] = shape.shown();
    let scale = (f64::from(width) / shown_width).min(f64::from(height) / shown_height);
    let side = |shown: f64, most: u32| ((shown * scale + 1e-6) as u32).clamp(1.min(most), most);
    let inner = [side(shown_width, width), side(shown_height, height)];
    let scaled = fit(rgba, shape, inner[0], inner[1], background)?;
    let [left, top] = [width - inner[0], height - inner[1]].map(|margin| margin as usize / 2);
    let [r, g, b] = background;
    let mut whole = [r, g, b, 255].repeat(width as usize * height as usize);
    for (row, pixels) in scaled.chunks_exact(4 * inner[0] as usize).enumerate() {
        whole[4 * ((top + row) * width as usize + left)..][..pixels.len()].copy_from_slice(pixels);
    }
    Ok(whole)
}

/// RGBA over an opaque colour.
fn over(pixels: &[u8], background: [u8; 3], out: &mut Vec<u8>) {
    let blend = |value: u8, behind: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(value) * alpha + u32::from(behind) * (255 - alpha) + 127) / 255) as u8
    };
    for p in pixels.chunks_exact(4) {
        out.extend([blend(p[0], background[0], p[3]), blend(p[1], background[1], p[3]), blend(p[2], background[2], p[3]), 255]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 4]) -> (Vec<u8>, Shape) {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
        (pixels, Shape::square(width, height))
    }

    fn fitted((rgba, shape): &(Vec<u8>, Shape), width: u32, height: u32) -> Vec<u8> {
        fit(rgba, *shape, width, height, [255, 0, 0]).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn what_is_whole_has_margins() {
        // Two pixels beside each other in the middle of a square.
        let source = frame(2, 1, |x, _| [200 * x as u8, 0, 0, 255]);
        let found = fit_whole(&source.0, source.1, [4, 4], [255; 3]).unwrap_or_else(|e| panic!("{e}"));
        let rows: Vec<bool> = found.chunks_exact(16).map(|row| row.chunks_exact(4).all(|pixel| pixel == [255; 4])).collect();
        assert_eq!(rows, [true, false, false, true], "above and below");
        assert!(found[16] < 60 && found[28] > 140, "from dark to red: {found:?}");
        assert!(fit_whole(&source.0, source.1, [0, 4], [0; 3]).is_err(), "no width");
    }

    #[test]
    fn the_same_size_stays_as_it_is() {
        let source = frame(3, 2, |x, y| [x as u8 * 80, y as u8 * 90, 7, 255]);
        assert_eq!(fitted(&source, 3, 2), source.0, "no resampling");
    }

    #[test]
    fn the_middle_of_a_wide_image_is_kept() {
        // Thirds of red, green and blue: the middle third of 12×4 is 4×4 green.
        let source = frame(12, 4, |x, _| [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]][x as usize / 4]);
        assert_eq!(fitted(&source, 4, 4), [0, 255, 0, 255].repeat(16), "cropped, not squeezed");
        assert_eq!(source.1.enlargement(8, 8), 2.0, "the height must double");
        assert_eq!(source.1.enlargement(6, 1), 0.5, "half the width is enough");
    }

    #[test]
    fn pixels_that_are_not_square_are_shown_as_wide_as_they_are() {
        // 4×4 pixels twice as wide as high show as 8×4: the middle half is kept.
        let (rgba, _) = frame(4, 4, |x, _| if (1..3).contains(&x) { [0, 255, 0, 255] } else { [0, 0, 255, 255] });
        let shape = Shape { width: 4, height: 4, pixel_aspect: 2.0 };
        assert_eq!(fitted(&(rgba, shape), 4, 4), [0, 255, 0, 255].repeat(16));
        assert_eq!((shape.enlargement(8, 4), shape.enlargement(8, 8)), (1.0, 2.0));
    }

    #[test]
    fn thin_images_are_cropped_before_they_grow() {
        // Scaled whole it would be 1024 × 16,777,216 pixels.
        let source = frame(1, 16_384, |_, y| [0, 0, (y / 64) as u8, 255]);
        let square = fitted(&source, 1024, 1024);
        assert_eq!(square.len(), 1024 * 1024 * 4);
        assert!(square.chunks_exact(4).all(|pixel| pixel[2].abs_diff(128) <= 1), "its middle");
        assert_eq!(fitted(&frame(1, 1, |_, _| [1, 2, 3, 255]), 300, 7), [1, 2, 3, 255].repeat(2100));
    }

    #[test]
    fn transparency_shows_the_background_before_scaling() {
        let source = frame(1, 1, |_, _| [0, 0, 255, 51]);
        assert_eq!(fitted(&source, 1, 1), [204, 0, 51, 255], "a fifth of blue over red");
        for (width, height) in [(0, 1), (1, 0), (20_000, 1)] {
            assert!(fit(&source.0, source.1, width, height, [0; 3]).is_err(), "{width}x{height}");
        }
    }

    #[test]
    fn every_size_of_every_shape_is_covered() {
        for (width, height) in [(1, 1), (1, 7), (5, 3), (8, 8), (31, 2)] {
            for (w, h) in [(1, 1), (4, 4), (3, 17), (64, 2), (33, 32)] {
                for pixel_aspect in [0.5, 0.9, 1.0, 1.5, 2.0] {
                    let (rgba, _) = frame(width, height, |_, _| [9, 8, 7, 255]);
                    let found = fitted(&(rgba, Shape { width, height, pixel_aspect }), w, h);
                    assert_eq!(found, [9, 8, 7, 255].repeat((w * h) as usize), "{width}x{height} ({pixel_aspect}) as {w}x{h}");
                }
            }
        }
    }
}

//! sRGB to limited-range `Y'CbCr`, as matrices from the luma weights of the two ITU recommendations.

/// A conversion from 8-bit R'G'B' to 8-bit limited-range `Y'CbCr`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    red: f32,
    blue: f32,
}

/// ITU-R BT.709-6 §3.2, what players assume of MP4.
pub(crate) const BT709: Matrix = Matrix { red: 0.2126, blue: 0.0722 };
/// Primaries, transfer and matrix of such video as ISO/IEC 23091-2 numbers them: BT.709, sRGB, BT.709.
pub(crate) const COLOUR_CODES: [u8; 3] = [1, 13, 1];

/// ITU-R BT.601-7 §2.5.1, what Y4M readers assume.
pub(crate) const BT601: Matrix = Matrix { red: 0.299, blue: 0.114 };

impl Matrix {
    /// `[Y, Cb, Cr]` of one pixel: Y in 16..=235, Cb and Cr in 16..=240.
    pub(crate) fn convert(self, rgba: &[u8]) -> [u8; 3] {
        let [r, g, b] = [rgba[0], rgba[1], rgba[2]].map(|value| f32::from(value) / 255.0);
        let luma = self.red * r + (1.0 - self.red - self.blue) * g + self.blue * b;
        let cb = (b - luma) / (2.0 * (1.0 - self.blue));
        let cr = (r - luma) / (2.0 * (1.0 - self.red));
        // In range by construction; `as` saturates anyway.
        [16.0 + 219.0 * luma, 128.0 + 224.0 * cb, 128.0 + 224.0 * cr].map(|value| value.round() as u8)
    }

    /// The pixel of `[Y, Cb, Cr]`, the inverse of [`convert`](Self::convert); `full_range` uses all 256 levels.
    pub(crate) fn to_rgb(self, ycc: [u8; 3], full_range: bool) -> [u8; 3] {
        let [y, cb, cr] = ycc.map(f32::from);
        let (luma, cb, cr) = match full_range {
            true => (y, (cb - 128.0) * 2.0, (cr - 128.0) * 2.0),
            false => ((y - 16.0) * 255.0 / 219.0, (cb - 128.0) * 255.0 / 112.0, (cr - 128.0) * 255.0 / 112.0),
        };
        let red = luma + (1.0 - self.red) * cr;
        let blue = luma + (1.0 - self.blue) * cb;
        let green = (luma - self.red * red - self.blue * blue) / (1.0 - self.red - self.blue);
        // `as` saturates colours outside the cube.
        [red, green, blue].map(|value| value.round() as u8)
    }

    /// The three planes of a frame at full resolution, `[height, width]` each.
    pub(crate) fn planes(self, rgba: &[u8]) -> [Vec<u8>; 3] {
        let mut planes = [(); 3].map(|()| Vec::with_capacity(rgba.len() / 4));
        for pixel in rgba.chunks_exact(4) {
            for (plane, value) in planes.iter_mut().zip(self.convert(pixel)) {
                plane.push(value);
            }
        }
        planes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corners of the RGB cube, from the tables of BT.601 limited range.
    #[test]
    fn primaries_match_the_published_bt601_values() {
        for (rgb, expected) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 255, 0], [145, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            assert_eq!(BT601.convert(&[rgb[0], rgb[1], rgb[2], 255]), expected, "{rgb:?}");
        }
    }

    #[test]
    fn conversion_back_is_within_the_rounding_of_limited_range() {
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(17) {
                for b in [0, 51, 128, 255] {
                    let back = BT601.to_rgb(BT601.convert(&[r, g, b, 255]), false);
                    assert!([r, g, b].iter().zip(back).all(|(a, b)| a.abs_diff(b) <= 2), "{:?} became {back:?}", [r, g, b]);
                }
            }
        }
        assert_eq!(BT601.to_rgb([255, 128, 128], true), [255; 3], "full range");
    }
}

//! Three-axis rotary position embedding of LTX-Video (`LTXVideoRotaryPosEmbed`), as a host-built table.
//!
//! The reference computes in f32 and its angles reach 10⁴·π/2, so every intermediate result is rounded to f32 here too:
//! an exact angle would differ by up to 10⁻³ rad.

/// Position of a token in time, height and width, as fractions of the base extents.
pub type Coordinates = [f32; 3];

/// The extents at which a coordinate reaches 1: frames, pixels, pixels.
pub const BASE_EXTENTS: [f32; 3] = [20.0, 2048.0, 2048.0];

/// Coordinates of a grid of tokens, the last axis fastest. `scale` turns an index into seconds and pixels; without it
/// the coordinates are the indices themselves.
pub fn grid_coordinates(grid: [usize; 3], scale: Option<[f32; 3]>, patch: [f32; 3]) -> Vec<Coordinates> {
    let axis = |axis: usize, index: usize| match scale {
        Some(scale) => index as f32 * scale[axis] * patch[axis] / BASE_EXTENTS[axis],
        None => index as f32,
    };
    let [frames, height, width] = grid;
    let mut out = Vec::with_capacity(frames * height * width);
    for t in 0..frames {
        for y in 0..height {
            out.extend((0..width).map(|x| [axis(0, t), axis(1, y), axis(2, x)]));
        }
    }
    out
}

/// Table `[L, D]` of (cos, sin) for each pair of channels: identity for the `D mod 6` leading channels, then for each of
/// `D/6` frequencies from 1 to 10⁴ (times π/2) the three axes.
pub fn table(coordinates: &[Coordinates], width: usize) -> Vec<f32> {
    let frequencies = frequencies(width / 6);
    let mut out = Vec::with_capacity(coordinates.len() * width);
    for token in coordinates {
        out.extend([1.0, 0.0].repeat(width % 6 / 2));
        for frequency in &frequencies {
            for position in token {
                let angle = f64::from(frequency * (position * 2.0 - 1.0));
                out.extend([angle.cos() as f32, angle.sin() as f32]);
            }
        }
    }
    out
}

/// `10000^linspace(0, 1, count) · π/2`.
fn frequencies(count: usize) -> Vec<f32> {
    let step = f64::from(1.0 / (count.max(2) - 1) as f32);
    let exponent = |i: usize| {
        // From both ends, each sum rounded once, as the reference's linspace does.
        let from_start = i < count / 2 || count == 1;
        let exact = if from_start { step * i as f64 } else { 1.0 - step * (count - 1 - i) as f64 };
        exact as f32
    };
    let frequency = |i| 10000f64.powf(f64::from(exponent(i))) as f32 * std::f32::consts::PI / 2.0;
    (0..count).map(frequency).collect()
}

//! Where tokens are: fixed sines and cosines that are added to them (2B), or rotary tables (5B and 1.5), both built on the host.
//!
//! The reference's pipeline makes the rotary ones; they depend on the sizes the model was trained on.

use super::TransformerConfig;

/// Features that are added to the tokens `[L, D]` of a grid (frames, height, width), the last axis fastest: a quarter for time,
/// then three eighths each for the column and the row, sines before cosines (`get_3d_sincos_pos_embed`).
pub(super) fn fixed(config: &TransformerConfig, [frames, height, width]: [usize; 3]) -> Vec<f32> {
    let d = config.width();
    let axis = |extent: usize, features: usize, scale: f32| -> Vec<Vec<f32>> {
        let half = features / 2;
        let angles = |position: usize| {
            // Divided in f32, then multiplied in f64.
            let position = f64::from(position as f32 / scale);
            (0..half).map(move |i| position / 10000f64.powf(i as f64 / (features as f64 / 2.0))).collect::<Vec<f64>>()
        };
        let row = |angles: Vec<f64>| angles.iter().map(|a| a.sin() as f32).chain(angles.iter().map(|a| a.cos() as f32)).collect();
        (0..extent).map(|position| row(angles(position))).collect()
    };
    let space = config.spatial_interpolation_scale;
    let (time, features) = (axis(frames, d / 4, config.temporal_interpolation_scale), 3 * d / 8);
    join([&time, &axis(width, features, space), &axis(height, features, space)], |[t, y, x]| [t, x, y], [frames, height, width])
}

/// (cos, sin) for each pair of channels of a head `[L, d]`: a quarter of the channels for time, three eighths each for the row
/// and the column (`get_3d_rotary_pos_embed`).
pub(super) fn rotary(config: &TransformerConfig, [frames, height, width]: [usize; 3]) -> Vec<f32> {
    let head = config.attention_head_dim;
    let whole = |extent: usize| (0..extent).map(|position| position as f32).collect::<Vec<f32>>();
    let [rows, columns] = match config.patch_size_t {
        Some(_) => [whole(height), whole(width)],
        None => cropped(config, [height, width]),
    };
    let axes = [axis(&whole(frames), head / 4), axis(&rows, 3 * head / 8), axis(&columns, 3 * head / 8)];
    join(axes.each_ref(), |token| token, [frames, height, width])
}

/// For each token of a grid the parts of each axis; `order` says where on each axis a token (frame, row, column) is.
fn join(axes: [&Vec<Vec<f32>>; 3], order: fn([usize; 3]) -> [usize; 3], [frames, height, width]: [usize; 3]) -> Vec<f32> {
    let tokens = (0..frames * height * width).map(|i| [i / (height * width), i / width % height, i % width]);
    tokens.flat_map(|token| axes.into_iter().zip(order(token)).flat_map(|(axis, at)| axis[at].iter().copied())).collect()
}

/// Positions of rows and columns if they are squeezed into the frame the model was trained on, keeping their aspect, and
/// centred there (`get_resize_crop_region_for_grid`).
fn cropped(config: &TransformerConfig, [height, width]: [usize; 2]) -> [Vec<f32>; 2] {
    let trained = [config.sample_height / config.patch_size, config.sample_width / config.patch_size].map(|extent| extent as f64);
    let [h, w] = [height, width].map(|extent| extent as f64);
    let round = |value: f64| value.round_ties_even();
    let resized =
        if h / w > trained[0] / trained[1] { [trained[0], round(trained[0] / h * w)] } else { [round(trained[1] / w * h), trained[1]] };
    [0, 1].map(|i| {
        let count = [height, width][i];
        let start = round((trained[i] - resized[i]) / 2.0);
        let end = (start + resized[i]) * (count as f64 - 1.0) / count as f64;
        linspace(start as f32, end as f32, count)
    })
}

/// `torch.linspace` in f32, which counts from the nearer end.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count.max(2) - 1) as f32;
    let value = |i: usize| if i < count / 2 { start + step * i as f32 } else { end - step * (count - 1 - i) as f32 };
    if count == 1 { vec![start] } else { (0..count).map(value).collect() }
}

/// (cos, sin) of `position · 10000^(−2i / channels)`, each step rounded to f32 as in the reference.
fn axis(positions: &[f32], channels: usize) -> Vec<Vec<f32>> {
    let frequency = |i: usize| {
        let exponent = (2 * i) as f32 / channels as f32;
        1.0 / (10000f64.powf(f64::from(exponent)) as f32)
    };
    let pair = |position: f32, i: usize| {
        let angle = f64::from(position * frequency(i));
        [angle.cos() as f32, angle.sin() as f32]
    };
    positions.iter().map(|position| (0..channels / 2).flat_map(|i| pair(*position, i)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sizes_are_squeezed_into_that_of_training() {
        // 45 × 30 patches, as published.
        let config = TransformerConfig::default();
        let [rows, columns] = cropped(&config, [30, 45]);
        assert_eq!((rows[29], columns[44]), (29.0, 44.0), "its own size is itself");
        let [rows, columns] = cropped(&config, [30, 30]);
        assert_eq!((rows[29], columns[0]), (29.0, 8.0), "a square is centred: (45 − 30) / 2 rounds to 8");
        assert_eq!(columns[29], 38.0 * 29.0 / 30.0, "and ends where the reference ends it, not a whole step further");
        let [rows, columns] = cropped(&config, [10, 90]);
        assert_eq!((rows[0], columns[1]), (12.0, 0.5), "wide: 45 columns and 5 rows, from (30 − 5) / 2 on");
        assert_eq!(cropped(&config, [1, 1])[0], [0.0], "one row");
    }

    #[test]
    fn fixed_positions_have_the_column_before_the_row() {
        let config = TransformerConfig { num_attention_heads: 1, attention_head_dim: 16, ..TransformerConfig::default() };
        let table = fixed(&config, [2, 2, 3]);
        assert_eq!(table.len(), 12 * 16, "a row per token");
        let row = |value: f32| [value.sin(), value.cos()];
        let last = &table[11 * 16..];
        let near = |a: &[f32], b: [f32; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near(&[last[0], last[2]], row(1.0)), "frame 1: {last:?}");
        assert!(near(&[last[4], last[7]], row(2.0 / 1.875)), "column 2: {last:?}");
        assert!(near(&[last[10], last[13]], row(1.0 / 1.875)), "row 1: {last:?}");
    }
}

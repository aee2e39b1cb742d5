//! Fixed positions of tokens on a line and on a grid: sines, then cosines, computed on the host.

/// Sines, then cosines, of `position · 10000^(−2i / features)` (`get_1d_sincos_pos_embed_from_grid`).
pub fn sines(position: f64, features: usize) -> Vec<f32> {
    let angles = (0..features / 2).map(move |i| position / 10000f64.powf(i as f64 / (features as f64 / 2.0)));
    angles.clone().map(|a| a.sin() as f32).chain(angles.map(|a| a.cos() as f32)).collect()
}

/// Positions `[height·width, D]` of the tokens of an image, squeezed to the edge that a model was trained on and then by a scale
/// (`get_2d_sincos_pos_embed`): the column in the first half of the features, the row in the second.
pub fn of_grid([height, width]: [usize; 2], trained: usize, scale: f32, features: usize) -> Vec<f32> {
    let place = |at: usize, extent: usize| {
        // Divided in f32 twice.
        let position = at as f32 / (extent as f64 / trained as f64) as f32;
        sines(f64::from(position / scale), features / 2)
    };
    let tokens = (0..height * width).map(|i| [i / width, i % width]);
    tokens.flat_map(|[y, x]| place(x, width).into_iter().chain(place(y, height))).collect()
}

/// Positions of the tokens of several images, or of one if all grids (frames, rows, columns) are equal, which share a table.
pub fn of_grids(grids: &[[usize; 3]], trained: usize, scale: f32, features: usize) -> Vec<f32> {
    let are_equal = grids.windows(2).all(|pair| pair[0] == pair[1]);
    let distinct = if are_equal { &grids[..grids.len().min(1)] } else { grids };
    let frames = |frames: usize| if are_equal { 1 } else { frames };
    distinct.iter().flat_map(|[f, height, width]| of_grid([*height, *width], trained, scale, features).repeat(frames(*f))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_comes_before_the_row_and_sines_before_cosines() {
        let found = of_grid([2, 3], 3, 1.0, 8);
        let row = |token: usize| &found[8 * token..8 * (token + 1)];
        let angles = |x: f64| [x, x / 100.0];
        let expected = |x: f64, y: f64| {
            let half = |at: f64| angles(at).map(f64::sin).into_iter().chain(angles(at).map(f64::cos));
            half(x).chain(half(y)).map(|v| v as f32).collect::<Vec<f32>>()
        };
        assert_eq!(row(0), expected(0.0, 0.0), "the first token");
        assert_eq!(row(2), expected(2.0, 0.0), "the last of the first row, as trained");
        assert_eq!(row(3), expected(0.0, 1.5), "two rows are stretched to three");
    }
}

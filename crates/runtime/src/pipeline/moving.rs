//! What else a preview shows than its first frame: later frames by a linear map from latents to colours, fitted by least squares to the
//! frame that was decoded. It costs nothing, fits every model, and is as sharp as latents are.

use crate::shape::LatentShape;

/// The share of the latents' own variance that is added to it: a small frame has fewer latents than they have channels.
const RIDGE: f64 = 1e-3;

/// RGBA bytes of `count` frames, evenly from the first to the last of latents `[1, C, F, H, W]`; `first` is the first one, decoded.
pub(super) fn frames(latents: &[f32], shape: LatentShape, first: &[u8], count: usize) -> Vec<u8> {
    let [length, height, width] = shape.grid;
    let (area, channels) = (height * width, shape.channels);
    let features = |frame: usize, at: usize| -> Vec<f64> {
        let own = (0..channels).map(|c| f64::from(latents[(c * length + frame) * area + at]));
        own.chain([1.0]).collect()
    };
    // A latent stands for so many rows and columns of pixels.
    let side = ((first.len() / 4 / area) as f64).sqrt().round() as usize;
    let mean = |at: usize| {
        let (y, x) = (at / width * side, at % width * side);
        let pixels = (0..side * side).map(|i| 4 * ((y + i / side) * width * side + x + i % side));
        let sum = pixels.fold([0.0; 3], |sum, at| [0, 1, 2].map(|c| sum[c] + f64::from(first[at + c])));
        sum.map(|sum| sum / (side * side) as f64)
    };
    let map = fit((0..area).map(|at| (features(0, at), mean(at))), channels + 1);
    let mut all = first.to_vec();
    for shown in 1..count.min(length) {
        let frame = shown * (length - 1) / (count.min(length) - 1);
        let colours: Vec<[u8; 4]> = (0..area)
            .map(|at| {
                let x = features(frame, at);
                let [r, g, b] = [0, 1, 2].map(|c| x.iter().zip(&map).map(|(x, row)| x * row[c]).sum::<f64>().round() as u8);
                [r, g, b, 255]
            })
            .collect();
        for y in 0..height * side {
            all.extend((0..width * side).flat_map(|x| colours[y / side * width + x / side]));
        }
    }
    all
}

/// The rows of the map from so many features to colours that is closest to all pairs, by elimination of the normal equations.
fn fit(pairs: impl Iterator<Item = (Vec<f64>, [f64; 3])>, size: usize) -> Vec<[f64; 3]> {
    let mut rows = vec![vec![0.0; size + 3]; size];
    let mut count = 0.0;
    for (x, y) in pairs {
        count += 1.0;
        for (row, own) in rows.iter_mut().zip(&x) {
            let products = x.iter().chain(&y).map(|other| own * other);
            row.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
    }
    // Not of the constant, which is the mean colour.
    (0..size - 1).for_each(|i| rows[i][i] += RIDGE * count);
    for i in 0..size {
        let pivot = rows[i].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let share = row[i] / pivot[i].max(f64::MIN_POSITIVE);
            row.iter_mut().zip(&pivot).for_each(|(value, own)| *value -= share * own);
        }
    }
    let divided = |(i, row): (usize, &Vec<f64>)| [0, 1, 2].map(|c| row[size + c] / row[i].max(f64::MIN_POSITIVE));
    rows.iter().enumerate().map(divided).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_that_follow_from_latents_are_found_in_later_frames() {
        let shape = LatentShape { channels: 3, grid: [3, 4, 6] };
        let (area, side) = (24, 8);
        let latent = |c: usize, f: usize, at: usize| (((c * 7 + f * 5 + at * 3) % 11) as f32 - 5.0) / 4.0;
        let latents: Vec<f32> = (0..3).flat_map(|c| (0..3).flat_map(move |f| (0..area).map(move |at| latent(c, f, at)))).collect();
        let colour = |f: usize, at: usize| {
            let [a, b, c] = [0, 1, 2].map(|c| latent(c, f, at));
            [128.0 + 40.0 * a, 100.0 + 30.0 * b - 10.0 * a, 60.0 + 20.0 * c].map(|v: f32| v.round() as u8)
        };
        let pixel = |p: usize| p / (6 * side) / side * 6 + p % (6 * side) / side;
        let frame = |f: usize| (0..area * side * side).flat_map(|p| colour(f, pixel(p)).into_iter().chain([255])).collect::<Vec<u8>>();
        let found = frames(&latents, shape, &frame(0), 5);
        assert_eq!(found.len(), 3 * frame(0).len(), "there are no more than three");
        assert_eq!(found[..frame(0).len()], frame(0), "the first as it was decoded");
        for (at, f) in [(1, 1), (2, 2)] {
            let own = &found[at * frame(0).len()..][..frame(0).len()];
            let worst = own.iter().zip(frame(f)).map(|(a, b)| a.abs_diff(b)).max();
            assert!(worst <= Some(2), "frame {f}: {worst:?} levels");
        }
        assert_eq!(frames(&latents, shape, &frame(0), 2).len(), 2 * frame(0).len(), "the first and the last");
    }
}

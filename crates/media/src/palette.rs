//! One palette for a whole clip, and position-fixed dithering onto it.
//!
//! Both are made for video: a single palette keeps a colour identical in every frame, and a colour
//! that the palette holds (a flat background, say) is never dithered, so still areas stay still.

use std::collections::HashMap;

/// Most colours of a palette.
const MAX_COLOURS: usize = 256;
/// Bits per channel of the histogram the palette is computed from.
const BIN_BITS: u32 = 6;
/// Rounds of k-means after the splits; more change the palette by less than one level.
const REFINEMENTS: usize = 4;
/// Weights of squared red, green and blue differences: roughly how much each adds to luma.
const WEIGHT: [f32; 3] = [3.0, 6.0, 2.0];
/// A palette colour this close, in levels of each channel, is used as it is.
const EXACT_LEVELS: f32 = 2.0;
/// How many palette entries around the nearest one dithering may choose its partner from.
const PARTNERS: usize = 12;
/// Weight of the variance that dithering adds against the error it removes.
const GRAIN: f32 = 0.05;

/// A group of similar pixels: their mean colour and number.
#[derive(Debug, Clone, Copy)]
struct Point {
    colour: [f32; 3],
    count: f32,
}

/// The colours of a clip and a cache of how to dither every other colour onto them.
pub(crate) struct Palette {
    colours: Vec<[f32; 3]>,
    finder: Finder,
    /// For each colour the indices of those nearest to it.
    partners: Vec<Vec<u8>>,
    mixes: HashMap<[u8; 3], Mix>,
}

/// A colour as two palette entries, the second used for `share` of the pixels (at most half).
#[derive(Debug, Clone, Copy)]
struct Mix {
    first: u8,
    second: u8,
    share: f32,
}

impl Palette {
    /// Chooses up to `max_colours` (at most [`MAX_COLOURS`]).
    ///
    /// The box with the largest weighted variance is split at its mean until there are enough boxes
    /// (variance-based splitting, Wu 1991), then k-means moves the centres.
    pub(crate) fn new(colours: &Histogram, max_colours: usize) -> Self {
        let points = colours.points();
        let mut boxes = vec![points.clone()];
        let mut spread: Vec<_> = boxes.iter().map(|points| widest_axis(points)).collect();
        while boxes.len() < max_colours.min(MAX_COLOURS) {
            let Some(at) = (0..boxes.len()).filter(|&i| spread[i].1 > 0.0).max_by(|&a, &b| spread[a].1.total_cmp(&spread[b].1)) else {
                break;
            };
            let axis = spread[at].0;
            let middle = mean(&boxes[at])[axis];
            let (low, high): (Vec<Point>, Vec<Point>) = boxes[at].iter().partition(|point| point.colour[axis] <= middle);
            spread[at] = widest_axis(&low);
            spread.push(widest_axis(&high));
            boxes[at] = low;
            boxes.push(high);
        }
        let mut colours: Vec<_> = boxes.iter().map(|points| mean(points)).collect();
        for _ in 0..REFINEMENTS {
            refine(&mut colours, &points);
        }
        let colours: Vec<_> = colours.into_iter().map(|colour| colour.map(f32::round)).collect();
        let partners = colours.iter().map(|&colour| partners(&colours, colour)).collect();
        Self { finder: Finder::new(&colours), colours, partners, mixes: HashMap::new() }
    }

    /// Number of colours.
    pub(crate) fn len(&self) -> usize {
        self.colours.len()
    }

    /// The colours as `[r, g, b, r, g, b, …]`.
    pub(crate) fn rgb(&self) -> Vec<u8> {
        self.colours.iter().flatten().map(|&value| value as u8).collect()
    }

    /// The palette index for a colour at a place: ordered dithering between the two nearest mixes, so
    /// the same colour at the same place always gives the same index.
    pub(crate) fn index_at(&mut self, rgb: [u8; 3], x: usize, y: usize) -> u8 {
        let Self { colours, finder, partners, mixes } = self;
        let mix = *mixes.entry(rgb).or_insert_with(|| {
            let wanted = rgb.map(f32::from);
            let first = finder.nearest(wanted);
            mix(colours, first, &partners[first], wanted)
        });
        if bayer_threshold(x, y) < mix.share { mix.second } else { mix.first }
    }
}

/// The colours of frames, with `BIN_BITS` per channel; each bin keeps the true mean of its pixels, so a flat colour survives
/// exactly.
pub(crate) struct Histogram(Vec<([u64; 3], u64)>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![([0; 3], 0); 1 << (3 * BIN_BITS)])
    }
}

impl Histogram {
    /// Counts the pixels of one more RGBA frame.
    pub(crate) fn add(&mut self, rgba: &[u8]) {
        for pixel in rgba.chunks_exact(4) {
            let bin = pixel[..3].iter().fold(0, |bin, &value| bin << BIN_BITS | usize::from(value >> (8 - BIN_BITS)));
            let (sum, count) = &mut self.0[bin];
            for (sum, &value) in sum.iter_mut().zip(pixel) {
                *sum += u64::from(value);
            }
            *count += 1;
        }
    }

    /// The bins that are not empty.
    fn points(&self) -> Vec<Point> {
        let occupied = self.0.iter().filter(|(_, count)| *count > 0);
        let mean = |sum: u64, count: u64| (sum as f64 / count as f64) as f32;
        occupied.map(|(sum, count)| Point { colour: sum.map(|sum| mean(sum, *count)), count: *count as f32 }).collect()
    }
}

fn mean(points: &[Point]) -> [f32; 3] {
    let total: f64 = points.iter().map(|point| f64::from(point.count)).sum();
    std::array::from_fn(|axis| {
        let sum: f64 = points.iter().map(|point| f64::from(point.colour[axis]) * f64::from(point.count)).sum();
        (sum / total) as f32
    })
}

/// The axis along which the points vary most, and that weighted variance times their number.
fn widest_axis(points: &[Point]) -> (usize, f64) {
    let mean = mean(points);
    let count: f64 = points.iter().map(|point| f64::from(point.count)).sum();
    (0..3)
        .map(|axis| {
            let deviation = |point: &Point| f64::from(point.colour[axis] - mean[axis]);
            let sum: f64 = points.iter().map(|point| deviation(point).powi(2) * f64::from(point.count)).sum();
            // Closer than a thousandth of a level is one colour up to rounding: nothing to split.
            (axis, if sum < 1e-6 * count { 0.0 } else { sum * f64::from(WEIGHT[axis]) })
        })
        .fold((0, 0.0), |best, next| if next.1 > best.1 { next } else { best })
}

/// One k-means round: every colour moves to the mean of the points it is nearest to.
fn refine(colours: &mut [[f32; 3]], points: &[Point]) {
    let finder = Finder::new(colours);
    let mut sums = vec![([0f64; 3], 0f64); colours.len()];
    for point in points {
        let (sum, count) = &mut sums[finder.nearest(point.colour)];
        for (sum, value) in sum.iter_mut().zip(point.colour) {
            *sum += f64::from(value * point.count);
        }
        *count += f64::from(point.count);
    }
    for (colour, (sum, count)) in colours.iter_mut().zip(sums) {
        if count > 0.0 {
            *colour = sum.map(|sum| (sum / count) as f32);
        }
    }
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    (0..3).map(|i| WEIGHT[i] * (a[i] - b[i]) * (a[i] - b[i])).sum()
}

/// Searches colours for the nearest. Nearly all time goes here, hence loops over fixed lengths that the compiler
/// turns into vector instructions.
struct Finder {
    /// Red, green and blue; unused places are farther away than any colour.
    channels: [[f32; MAX_COLOURS]; 3],
}

impl Finder {
    fn new(colours: &[[f32; 3]]) -> Self {
        let mut channels = [[1e6; MAX_COLOURS]; 3];
        for (index, colour) in colours.iter().enumerate() {
            (0..3).for_each(|i| channels[i][index] = colour[i]);
        }
        Self { channels }
    }

    fn nearest(&self, [r, g, b]: [f32; 3]) -> usize {
        let [red, green, blue] = &self.channels;
        let mut distances = [0.0; MAX_COLOURS];
        for i in 0..MAX_COLOURS {
            distances[i] = distance([red[i], green[i], blue[i]], [r, g, b]);
        }
        let mut lanes = [f32::INFINITY; 8];
        for chunk in distances.chunks_exact(8) {
            for (lane, &distance) in lanes.iter_mut().zip(chunk) {
                *lane = if distance < *lane { distance } else { *lane };
            }
        }
        let least = lanes.into_iter().fold(f32::INFINITY, f32::min);
        distances.iter().position(|&distance| distance == least).unwrap_or(0)
    }
}

fn partners(colours: &[[f32; 3]], around: [f32; 3]) -> Vec<u8> {
    // At most 256 colours, so an index fits a byte.
    let mut left: Vec<(u8, f32)> = (0..=u8::MAX).zip(colours).map(|(index, colour)| (index, distance(*colour, around))).collect();
    let mut nearest = Vec::with_capacity(PARTNERS + 1);
    while nearest.len() <= PARTNERS
        && let Some((at, _)) = left.iter().enumerate().min_by(|(_, a), (_, b)| a.1.total_cmp(&b.1))
    {
        nearest.push(left.remove(at).0);
    }
    // The first is the colour itself.
    nearest.into_iter().skip(1).collect()
}

/// `first`, the nearest colour, and the partner that best makes up for its error on average.
///
/// Every candidate is judged by the error that remains plus a part of the variance it adds, which
/// keeps far colours from turning a smooth area into grain.
fn mix(colours: &[[f32; 3]], first: usize, partners: &[u8], wanted: [f32; 3]) -> Mix {
    let error: [f32; 3] = std::array::from_fn(|i| wanted[i] - colours[first][i]);
    // At most 256 colours, so an index fits a byte.
    let mut best = Mix { first: first as u8, second: first as u8, share: 0.0 };
    if error.iter().all(|e| e.abs() <= EXACT_LEVELS) {
        return best;
    }
    let mut lowest = distance(error, [0.0; 3]);
    for &index in partners {
        let second = colours[usize::from(index)];
        let towards: [f32; 3] = std::array::from_fn(|i| second[i] - colours[first][i]);
        let along: f32 = (0..3).map(|i| WEIGHT[i] * error[i] * towards[i]).sum();
        if along <= 0.0 {
            continue;
        }
        let apart = distance(towards, [0.0; 3]);
        let share = (along / apart).min(0.5);
        let remaining: [f32; 3] = std::array::from_fn(|i| error[i] - share * towards[i]);
        let cost = distance(remaining, [0.0; 3]) + GRAIN * share * (1.0 - share) * apart;
        if cost < lowest {
            lowest = cost;
            best = Mix { second: index, share, ..best };
        }
    }
    best
}

/// The 8×8 Bayer matrix, in (0, 1): bit-reversed interleave of `x ^ y` and `y`.
fn bayer_threshold(x: usize, y: usize) -> f32 {
    let (x, y) = (x & 7, y & 7);
    let rank = (0..3).fold(0, |rank, bit| rank << 2 | ((x ^ y) >> bit & 1) << 1 | (y >> bit & 1));
    (rank as f32 + 0.5) / 64.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn palette(frames: &[&[u8]], max_colours: usize) -> Palette {
        let mut colours = Histogram::default();
        frames.iter().for_each(|frame| colours.add(frame));
        Palette::new(&colours, max_colours)
    }

    #[test]
    fn few_colours_survive_exactly() {
        let colours = [[10, 20, 30], [10, 22, 30], [250, 0, 128], [255, 255, 255]];
        let frame: Vec<u8> = (0..400).flat_map(|i: usize| [colours[i % 3][0], colours[i % 3][1], colours[i % 3][2], 255]).collect();
        let last: Vec<u8> = colours[3].iter().copied().chain([255]).collect();
        let mut palette = palette(&[&frame, &last], 255);
        let rgb = palette.rgb();
        for colour in [colours[2], colours[3]] {
            for place in 0..64 {
                let index = usize::from(palette.index_at(colour, place % 8, place / 8));
                assert_eq!(rgb[3 * index..3 * index + 3], colour, "at {place}");
            }
        }
    }

    #[test]
    fn thresholds_visit_every_rank_once() {
        let mut ranks: Vec<_> = (0..64).map(|i| (bayer_threshold(i % 8, i / 8) * 64.0 - 0.5) as usize).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, (0..64).collect::<Vec<_>>(), "ranks of the 8x8 matrix");
    }

    #[test]
    fn dithering_keeps_the_mean_of_a_ramp() {
        let frame: Vec<u8> = (0..=255u8).flat_map(|value| [value, value, value, 255]).collect();
        let mut palette = palette(&[&frame], 8);
        assert_eq!(palette.len(), 8, "number of colours");
        let rgb = palette.rgb();
        for value in 20..236u8 {
            let sum: f32 = (0..64).map(|i| f32::from(rgb[3 * usize::from(palette.index_at([value; 3], i % 8, i / 8))])).sum();
            // The palette step is 32 levels; without dithering the mean would be off by up to 16.
            assert!((sum / 64.0 - f32::from(value)).abs() <= 3.0, "level {value} became {}", sum / 64.0);
        }
    }
}

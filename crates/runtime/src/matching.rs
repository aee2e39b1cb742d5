//! The frame between two: means of pixels that match, on the host (`between` in `training/cascade.py`). What moves evenly is found
//! where it is half way, instead of twice and faint as in a mean of the two frames.

use kinora_kernels::sort_by_numbers;

/// Pixels that something may move each way from the frame between.
const REACH: usize = 4;
/// Half the side of the square around a pixel that is compared.
const HALF: usize = 8;
/// What a pixel of displacement costs for each pixel that is compared, in squares of lumas of four times 255.
const PRICE: f64 = 256.0;

/// The lumas of a frame with its border repeated on all sides, and how many lie in a row.
struct Lumas {
    values: Vec<i32>,
    stride: usize,
}

impl Lumas {
    fn of(rgba: &[u8], [height, width]: [usize; 2]) -> Self {
        let near = |at: usize, end: usize| at.saturating_sub(REACH).min(end - 1);
        let luma = |pixel: &[u8]| i32::from(pixel[0]) + 2 * i32::from(pixel[1]) + i32::from(pixel[2]);
        let row = |y: usize| (0..width + 2 * REACH).map(move |x| luma(&rgba[4 * (near(y, height) * width + near(x, width))..]));
        Self { values: (0..height + 2 * REACH).flat_map(row).collect(), stride: width + 2 * REACH }
    }

    /// A row from a displaced pixel on.
    fn row(&self, y: usize, [dy, dx]: [isize; 2]) -> &[i32] {
        let at = |at: usize, by: isize| (at + REACH).saturating_add_signed(by);
        &self.values[at(y, dy) * self.stride + at(0, dx)..]
    }
}

/// The frame between `before` and `after`, RGBA bytes of frames of this height and width: the colours of each pixel, 0 to 510.
pub fn between(before: &[u8], after: &[u8], extents: [usize; 2]) -> Vec<[u16; 3]> {
    let [height, width] = extents;
    let reach = REACH.cast_signed();
    let mut shifts: Vec<[isize; 2]> = (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| [y, x])).collect();
    // Among equals the smallest is right, and there the first.
    sort_by_numbers(&mut shifts, |[y, x]| [(y * y + x * x) as u64, 0]);
    let lumas = [before, after].map(|frame| Lumas::of(frame, extents));
    let mut least = vec![i32::MAX; height * width];
    let mut best = vec![[0, 0]; height * width];
    let mut errors = vec![0; height * width];
    for &[y, x] in &shifts {
        for (row, errors) in errors.chunks_exact_mut(width).enumerate() {
            let [a, b] = [lumas[0].row(row, [-y, -x]), lumas[1].row(row, [y, x])];
            errors.iter_mut().zip(a).zip(b).for_each(|((error, a), b)| *error = (a - b) * (a - b));
        }
        let side = 2 * HALF + 1;
        let price = (PRICE * (side * side) as f64 * ((y * y + x * x) as f64).sqrt()) as i32;
        let sums = box_sums(&errors, extents);
        for ((least, best), sum) in least.iter_mut().zip(&mut best).zip(sums) {
            if sum + price < *least {
                (*least, *best) = (sum + price, [y, x]);
            }
        }
    }
    let pixel = |frame: &[u8], at: usize, [dy, dx]: [isize; 2]| {
        let near = |at: usize, by: isize, end: usize| at.saturating_add_signed(by).min(end - 1);
        let at = 4 * (near(at / width, dy, height) * width + near(at % width, dx, width));
        [frame[at], frame[at + 1], frame[at + 2]].map(u16::from)
    };
    let mean = |(at, &[y, x]): (usize, &[isize; 2])| {
        let ([r, g, b], [r2, g2, b2]) = (pixel(before, at, [-y, -x]), pixel(after, at, [y, x]));
        [r + r2, g + g2, b + b2]
    };
    best.iter().enumerate().map(mean).collect()
}

/// Sums over squares around each value, the border repeated.
fn box_sums(values: &[i32], [height, width]: [usize; 2]) -> Vec<i32> {
    let mut sums = vec![0; values.len()];
    let mut columns = vec![0; width];
    let row = |y: usize| &values[y.min(height - 1) * width..][..width];
    for y in 0..height {
        if y == 0 {
            let first = (0..=2 * HALF).map(|at| row(at.saturating_sub(HALF)));
            first.for_each(|row| columns.iter_mut().zip(row).for_each(|(sum, value)| *sum += value));
        } else {
            let (new, old) = (row(y + HALF), row((y - 1).saturating_sub(HALF)));
            columns.iter_mut().zip(new).zip(old).for_each(|((sum, new), old)| *sum += new - old);
        }
        let column = |x: usize| columns[x.min(width - 1)];
        let mut sum: i32 = (0..=2 * HALF).map(|at| column(at.saturating_sub(HALF))).sum();
        for (x, place) in sums[y * width..][..width].iter_mut().enumerate() {
            if x > 0 {
                sum += column(x + HALF) - column((x - 1).saturating_sub(HALF));
            }
            *place = sum;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright disc on grey, at a column.
    fn frame(centre: i32) -> Vec<u8> {
        let pixel = |y: i32, x: i32| if (y - 20).pow(2) + (x - centre).pow(2) < 60 { [250, 240, 200, 255] } else { [90, 90, 90, 255] };
        (0..40).flat_map(|y| (0..64).flat_map(move |x| pixel(y, x))).collect()
    }

    #[test]
    fn what_moves_is_found_half_way() {
        let made = between(&frame(28), &frame(34), [40, 64]);
        let wrong = made.iter().zip(frame(31).chunks_exact(4)).filter(|(found, real)| found[0] != 2 * u16::from(real[0])).count();
        assert!(wrong == 0, "{wrong} pixels differ from the disc half way");
    }

    #[test]
    fn sums_repeat_the_border() {
        let values: Vec<i32> = (0..30).map(|v| v * v % 17).collect();
        let [height, width] = [5, 6];
        let near = |at: i32, end: usize| at.clamp(0, end as i32 - 1) as usize;
        let half = HALF as i32;
        let expected = |y: i32, x: i32| -> i32 {
            let row = |dy: i32| (-half..=half).map(move |dx| [near(y + dy, height), near(x + dx, width)]);
            (-half..=half).flat_map(row).map(|[y, x]| values[y * width + x]).sum()
        };
        let expected: Vec<i32> = (0..5).flat_map(|y| (0..6).map(move |x| expected(y, x))).collect();
        assert_eq!(box_sums(&values, [height, width]), expected);
    }
}

//! Products of rows with packed columns, four rows by eight columns at a time: what linear layers, convolutions and attention are
//! made of. The order of a sum depends on nothing but its length, so a row has the same bits whatever stands beside it.

use crate::executable::CancelToken;

use super::lanes::{load, multiply_add, splat, store};

/// Rows of a tile.
pub(super) const ROWS: usize = 4;

/// Columns of a tile.
pub(super) const COLUMNS: usize = 8;

/// Rows whose sources are looked up together. The columns they meet are read once for all of them.
pub(super) const BLOCK: usize = 16;

/// A matrix in the order in which tiles read it: `[ceil(N / 8)][taps][K][8]`.
#[derive(Debug)]
pub(super) struct Packed {
    values: Vec<f32>,
    columns: usize,
    taps: usize,
    depth: usize,
}

impl Packed {
    /// Packs `value(column, tap, k)`.
    pub(super) fn new([columns, taps, depth]: [usize; 3], value: &dyn Fn(usize, usize, usize) -> f32) -> Self {
        let mut values = vec![0.0; columns.next_multiple_of(COLUMNS) * taps * depth];
        for column in 0..columns {
            for tap in 0..taps {
                for k in 0..depth {
                    let row = (column / COLUMNS * taps + tap) * depth + k;
                    values[row * COLUMNS + column % COLUMNS] = value(column, tap, k);
                }
            }
        }
        Self { values, columns, taps, depth }
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    /// For each of `count` rows from `first` on `Σ source(row, tap) · column`, in pieces of up to eight columns that `take` gets with
    /// row and first column, until `stop`. No source is a row of zeros.
    pub(super) fn multiply<'a>(
        &self,
        [first, count]: [usize; 2],
        stop: &CancelToken,
        source: &dyn Fn(usize, usize) -> Option<&'a [f32]>,
        take: &mut dyn FnMut(usize, usize, &[f32]),
    ) {
        let zeros = vec![0.0; self.depth];
        let panels = self.values.as_chunks::<COLUMNS>().0;
        for begin in (first..first + count).step_by(BLOCK) {
            if stop.is_cancelled() {
                return;
            }
            let end = (begin + BLOCK).min(first + count);
            // By tile, by tap, by row of the tile.
            let mut sources: Vec<&[f32]> = Vec::new();
            for tile in (begin..end).step_by(ROWS) {
                for tap in 0..self.taps {
                    for row in tile..tile + ROWS {
                        let found = if row < end { source(row, tap) } else { None };
                        sources.push(found.unwrap_or(&zeros));
                    }
                }
            }
            for column in (0..self.columns).step_by(COLUMNS) {
                let panel = &panels[column / COLUMNS * self.taps * self.depth..];
                let width = COLUMNS.min(self.columns - column);
                for (tile, own) in (begin..end).step_by(ROWS).zip(sources.chunks_exact(ROWS * self.taps)) {
                    let mut sums = [[0.0; COLUMNS]; ROWS];
                    for (rows, columns) in own.chunks_exact(ROWS).zip(panel.chunks_exact(self.depth)) {
                        add_products(rows, columns, &mut sums);
                    }
                    for (row, sums) in (tile..end).zip(&sums) {
                        take(row, column, &sums[..width]);
                    }
                }
            }
        }
    }
}

/// `sums[i][j] += Σ_k rows[i][k] · columns[k][j]`.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
fn add_products(rows: &[&[f32]], columns: &[[f32; COLUMNS]], [sums_a, sums_b, sums_c, sums_d]: &mut [[f32; COLUMNS]; ROWS]) {
    let &[a, b, c, d] = rows else { return };
    // Eight names and no array: they are to stay in registers, also where code is made small.
    let (mut a0, mut a1) = (load::<0>(sums_a), load::<1>(sums_a));
    let (mut b0, mut b1) = (load::<0>(sums_b), load::<1>(sums_b));
    let (mut c0, mut c1) = (load::<0>(sums_c), load::<1>(sums_c));
    let (mut d0, mut d1) = (load::<0>(sums_d), load::<1>(sums_d));
    for ((((a, b), c), d), columns) in a.iter().zip(b).zip(c).zip(d).zip(columns) {
        let (left, right) = (load::<0>(columns), load::<1>(columns));
        let (a, b, c, d) = (splat(*a), splat(*b), splat(*c), splat(*d));
        (a0, a1) = (multiply_add(a0, a, left), multiply_add(a1, a, right));
        (b0, b1) = (multiply_add(b0, b, left), multiply_add(b1, b, right));
        (c0, c1) = (multiply_add(c0, c, left), multiply_add(c1, c, right));
        (d0, d1) = (multiply_add(d0, d, left), multiply_add(d1, d, right));
    }
    for (sums, left, right) in [(sums_a, a0, a1), (sums_b, b0, b1), (sums_c, c0, c1), (sums_d, d0, d1)] {
        store::<0>(left, sums);
        store::<1>(right, sums);
    }
}

/// Runs `work(first row, rows)` over the stored rows of a result, side by side where there are threads.
pub(super) fn side_by_side(y: &mut [f32], stride: usize, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    // Browsers share memory between threads only where a page is isolated and the standard library was built for it.
    if cfg!(target_arch = "wasm32") {
        return work(0, y);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = (y.len() / stride).div_ceil(threads).next_multiple_of(BLOCK);
    if rows * stride >= y.len() {
        return work(0, y);
    }
    std::thread::scope(|scope| {
        for (part, own) in y.chunks_mut(rows * stride).enumerate() {
            scope.spawn(move || work(part * rows, own));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_seen_after_a_block_of_rows() {
        let packed = Packed::new([COLUMNS, 1, 3], &|_, _, _| 1.0);
        let (row, stop, mut rows) = ([1.0; 3], CancelToken::default(), 0);
        packed.multiply([0, 100 * BLOCK], &stop, &|_, _| Some(&row), &mut |_, _, _| {
            stop.cancel();
            rows += 1;
        });
        assert_eq!(rows, BLOCK);
    }
}

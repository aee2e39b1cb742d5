//! Frames put together from tiles, and clips from windows: where two overlap, one fades into the other.

use crate::layout::Cut;

/// How much of the later of two windows counts at position `at` of the `shared` ones: from 0 to 1, most of the way in the middle,
/// since what is near an end of a window knows least of what is beyond.
pub(super) fn ramp(at: usize, shared: usize) -> f32 {
    let smooth = |x: f32| x * x * (3.0 - 2.0 * x);
    smooth(smooth((at as f32 + 0.5) / shared as f32))
}

/// `to` becomes `share` of `from` and the rest of itself.
fn fade(to: &mut [u8], from: &[u8], share: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        let [a, b] = [f32::from(*to), f32::from(*from)];
        *to = (a + (b - a) * share).round() as u8;
    }
}

/// Whole frames that fade into others, over as many as these are.
pub(super) fn fade_frames(to: &mut [Vec<u8>], from: &[Vec<u8>]) {
    let shared = to.len();
    for (at, (to, from)) in to.iter_mut().zip(from).enumerate() {
        fade(to, from, ramp(at, shared));
    }
}

/// A part of frames, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// First row or column.
    pub(super) start: usize,
    /// Rows or columns that what came before has too.
    pub(super) shared: usize,
}

impl Place {
    /// That of window `i`, whose positions are `unit` pixels.
    pub(super) fn of(cut: &Cut, i: usize, unit: usize) -> Self {
        Self { start: cut.starts[i] * unit, shared: cut.shared(i) * unit }
    }
}

/// Puts the columns `tile`, `width` pixels wide, into frames `full` pixels wide.
pub(super) fn place_columns(frames: &mut [Vec<u8>], tile: &[Vec<u8>], [width, full]: [usize; 2], place: Place) {
    for (frame, tile) in frames.iter_mut().zip(tile) {
        for (to, from) in frame.chunks_exact_mut(4 * full).zip(tile.chunks_exact(4 * width)) {
            let to = &mut to[4 * place.start..][..4 * width];
            for at in 0..place.shared {
                fade(&mut to[4 * at..4 * at + 4], &from[4 * at..4 * at + 4], ramp(at, place.shared));
            }
            to[4 * place.shared..].copy_from_slice(&from[4 * place.shared..]);
        }
    }
}

/// Puts the rows `strip` into frames of the same width.
pub(super) fn place_rows(frames: &mut [Vec<u8>], strip: &[Vec<u8>], width: usize, place: Place) {
    for (frame, strip) in frames.iter_mut().zip(strip) {
        let to = &mut frame[4 * width * place.start..][..strip.len()];
        let rows = to.chunks_exact_mut(4 * width).zip(strip.chunks_exact(4 * width));
        for (at, (to, from)) in rows.enumerate() {
            if at < place.shared { fade(to, from, ramp(at, place.shared)) } else { to.copy_from_slice(from) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: &[u8]) -> Vec<u8> {
        values.iter().flat_map(|v| [*v; 4]).collect()
    }

    #[test]
    fn tiles_fade_where_they_overlap() {
        let mut frames = vec![vec![0; 4 * 8]];
        place_columns(&mut frames, &[frame(&[10, 10, 10, 50, 50, 50])], [3, 4], Place { start: 0, shared: 0 });
        place_columns(&mut frames, &[frame(&[30, 30, 30, 90, 90, 90])], [3, 4], Place { start: 1, shared: 2 });
        assert_eq!(frames[0], frame(&[10, 11, 29, 30, 50, 53, 87, 90]), "two columns in common");
        let mut frames = vec![frame(&[8, 8, 8])];
        place_rows(&mut frames, &[frame(&[16, 16])], 1, Place { start: 1, shared: 1 });
        assert_eq!(frames[0], frame(&[8, 12, 16]), "one row in common");
        let mut clip = vec![frame(&[0]), frame(&[0])];
        fade_frames(&mut clip, &[frame(&[100]), frame(&[100])]);
        assert_eq!(clip, [frame(&[7]), frame(&[93])], "two frames in common");
    }
}

//! Three-axis rotary position embedding of Wan (`WanRotaryPosEmbed`), as a host-built table.
//!
//! The reference computes in f64 and rounds cosines and sines to f32. All heads share a table.

/// Table `[L, d]` of (cos, sin) for each pair of channels of a head of `d` channels, for a grid of tokens (frames, height,
/// width), the last axis fastest. Height and width get `2·⌊d/6⌋` channels each, time the rest.
pub(super) fn table([frames, height, width]: [usize; 3], first_frame: usize, head: usize) -> Vec<f32> {
    let space = 2 * (head / 6);
    let of = |(first, extent, channels)| axis(first, extent, channels);
    let axes = [(first_frame, frames, head - 2 * space), (0, height, space), (0, width, space)].map(of);
    let mut out = Vec::with_capacity(frames * height * width * head);
    for t in &axes[0] {
        for y in &axes[1] {
            for x in &axes[2] {
                out.extend(t.iter().chain(y).chain(x));
            }
        }
    }
    out
}

/// For each position its (cos, sin) of `position · 10000^(−2i / channels)`.
fn axis(first: usize, extent: usize, channels: usize) -> Vec<Vec<f32>> {
    let frequencies: Vec<f64> = (0..channels / 2).map(|i| 1.0 / 10000f64.powf((2 * i) as f64 / channels as f64)).collect();
    let angles = |position: usize| {
        frequencies.iter().flat_map(move |frequency| {
            let angle = position as f64 * frequency;
            [angle.cos() as f32, angle.sin() as f32]
        })
    };
    (first..first + extent).map(|position| angles(position).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_gets_what_height_and_width_leave() {
        // Of 16 channels 8 are for time, 4 for height and 4 for width.
        let table = table([2, 1, 3], 0, 16);
        assert_eq!(table.len(), 6 * 16, "a row per token");
        assert_eq!(super::table([1, 1, 3], 1, 16), table[3 * 16..], "what goes on with a clip");
        assert_eq!(table[..16], [1.0, 0.0].repeat(8), "the first token is not turned");
        let last = &table[5 * 16..];
        assert_eq!(last[..2], [1f64.cos() as f32, 1f64.sin() as f32], "frame 1, frequency 1");
        assert_eq!(last[2..4], [0.1f64.cos() as f32, 0.1f64.sin() as f32], "frequency 10000^(-2/8)");
        assert_eq!(last[8..12], [1.0, 0.0, 1.0, 0.0], "row 0");
        assert_eq!(last[12..], [2.0, 0.02].map(|a: f64| [a.cos() as f32, a.sin() as f32]).concat(), "column 2");
    }
}

//! What a picture goes through before the vision transformer sees it (`CLIPImageProcessor` of transformers): its shorter edge is
//! scaled, the middle cut out, the colours normalised.

/// Means and deviations of the colours of CLIP's training set.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// The parameter of the cubic that Pillow scales with.
const CUBIC: f64 = -0.5;

/// RGBA bytes `[height, width]` to a picture `[3, edge, edge]`.
pub(super) fn normalised(rgba: &[u8], [height, width]: [usize; 2], edge: usize) -> Vec<f32> {
    let shorter = height.min(width).max(1);
    let [rows, columns] = [height, width].map(|side| (side * edge / shorter).max(1));
    let colours: Vec<u8> = rgba.chunks_exact(4).flat_map(|pixel| &pixel[..3]).copied().collect();
    let scaled = scale(&scale(&colours, [height, width], columns), [columns, height], rows);
    let [top, left] = [rows, columns].map(|side| (side - edge.min(side)) / 2);
    let mut out = Vec::with_capacity(3 * edge * edge);
    for (channel, (mean, std)) in MEAN.iter().zip(STD).enumerate() {
        for (y, x) in (0..edge).flat_map(|y| (0..edge).map(move |x| (y, x))) {
            let value = scaled[3 * ((top + y) * columns + left + x) + channel];
            out.push((f32::from(value) / 255.0 - mean) / std);
        }
    }
    out
}

/// Lines of pixels `[lines, length, 3]` to lines of another length, turned: `[new, lines, 3]`. Like Pillow a cubic as wide as what
/// becomes one pixel, with bytes after each axis.
fn scale(pixels: &[u8], [lines, length]: [usize; 2], new: usize) -> Vec<u8> {
    let mut out = vec![0; 3 * lines * new];
    let ratio = length as f64 / new as f64;
    let reach = 2.0 * ratio.max(1.0);
    for at in 0..new {
        let middle = (at as f64 + 0.5) * ratio;
        let first = ((middle - reach + 0.5).max(0.0)) as usize;
        let end = ((middle + reach + 0.5) as usize).min(length);
        let weights: Vec<f64> = (first..end).map(|i| cubic((i as f64 - middle + 0.5) / ratio.max(1.0))).collect();
        let sum: f64 = weights.iter().sum();
        for (line, row) in pixels.chunks_exact(3 * length).enumerate() {
            for channel in 0..3 {
                let taps = row[3 * first..3 * end].iter().skip(channel).step_by(3);
                let value: f64 = taps.zip(&weights).map(|(byte, weight)| f64::from(*byte) * weight / sum).sum();
                out[3 * (at * lines + line) + channel] = (value + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
    out
}

/// The cubic convolution of Keys (1981).
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    match x {
        ..1.0 => ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0,
        ..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::weights::Checkpoint;

    /// Bytes that were normalised.
    fn bytes(values: &[f32]) -> Vec<i32> {
        let of_channel = values.len() / 3;
        let byte = |(at, value): (usize, &f32)| ((value * STD[at / of_channel] + MEAN[at / of_channel]) * 255.0).round() as i32;
        values.iter().enumerate().map(byte).collect()
    }

    #[test]
    fn pictures_are_scaled_like_pillow_does() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/clip_processor");
        let file = Checkpoint::open(folder.join("scaled.safetensors")).expect("a fixture");
        let values = |name: &str| file.get(name).expect("a picture").to_f32();
        for case in ["smaller", "larger", "upright"] {
            let shape = file.get(&format!("{case}.rgba")).expect("a picture").shape.to_vec();
            let edge = file.get(&format!("{case}.scaled")).expect("a picture").shape[1];
            let rgba: Vec<u8> = values(&format!("{case}.rgba")).iter().map(|v| *v as u8).collect();
            let found = bytes(&normalised(&rgba, [shape[0], shape[1]], edge));
            let expected: Vec<i32> = values(&format!("{case}.scaled")).iter().map(|v| *v as i32).collect();
            let off = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            // Pillow rounds its weights to 22 bits.
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1), "{case}: {found:?}, expected {expected:?}");
            assert!(100 * off <= found.len(), "{case}: {off} of {} bytes differ", found.len());
        }
    }
}

//! Features that tell a token where it is, which flipbook has beside the rotary embedding.

/// Features per token.
pub const COORDINATE_CHANNELS: usize = 15;

/// Latent frames after which the time coordinate reaches 1.
const COORDINATE_FRAMES: f64 = 8.0;

/// Constant features `[L, 15]` of a grid of tokens: for t, y and x the five 2u − 1, sin 2πu, cos 2πu, sin 4πu, cos 4πu. In
/// space u = (i + ½) / n; in time u = f / 8 whatever the length, so that the first frame of every clip and a still image
/// look alike.
pub fn coordinates([frames, height, width]: [usize; 3]) -> Vec<f32> {
    let centre = |i: usize, n: usize| (i as f64 + 0.5) / n as f64;
    let mut out = Vec::with_capacity(frames * height * width * COORDINATE_CHANNELS);
    for token in 0..frames * height * width {
        let (t, y, x) = (token / (height * width), token / width % height, token % width);
        for u in [t as f64 / COORDINATE_FRAMES, centre(y, height), centre(x, width)] {
            let angle = std::f64::consts::TAU * u;
            out.extend([2.0 * u - 1.0, angle.sin(), angle.cos(), (2.0 * angle).sin(), (2.0 * angle).cos()].map(|v| v as f32));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_the_features_the_default_model_was_trained_with() {
        let features = coordinates([2, 1, 2]);
        assert_eq!(features.len(), 4 * COORDINATE_CHANNELS, "15 per token");
        let last = &features[3 * COORDINATE_CHANNELS..];
        // f = 1: u = 1/8; y = 0 of 1: u = 1/2; x = 1 of 2: u = 3/4.
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let expected = [-0.75, half, half, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.5, -1.0, 0.0, 0.0, -1.0];
        for (found, expected) in last.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{last:?}");
        }
    }
}

//! How latents become tokens, on the host and on a plan, and the coordinate features some models add to them.
//!
//! A token is a block of `packing` latents (frames, rows, columns); its features are ordered (channel, frame, row,
//! column). Tokens are ordered (frame, row, column), the last one fastest.

use kinora_kernels::{PatchOrder, Tensor};

/// Coordinate features per token.
pub const COORDINATE_CHANNELS: usize = 15;

/// Latent frames after which the time coordinate reaches 1.
const COORDINATE_FRAMES: f64 = 8.0;

/// `[C, F, H, W]` → `[F, H, W, C]`.
pub fn channels_last(values: &[f32], [c, f, h, w]: [usize; 4]) -> Vec<f32> {
    let pixels = f * h * w;
    (0..pixels).flat_map(|p| (0..c).map(move |c| values[c * pixels + p])).collect()
}

/// `[F, H, W, C]` → `[C, F, H, W]`, the inverse of [`channels_last`] for the same extents.
pub fn channels_first(values: &[f32], [c, f, h, w]: [usize; 4]) -> Vec<f32> {
    let pixels = f * h * w;
    (0..c).flat_map(|channel| (0..pixels).map(move |p| values[p * c + channel])).collect()
}

/// Latents `[C, F, H, W]` → tokens `[L, C·pt·ph·pw]`. The extents must be divisible by `packing`.
pub fn pack(latents: &[f32], extents: [usize; 4], packing: [usize; 3]) -> Vec<f32> {
    let mut tokens = vec![0.0; latents.len()];
    for (token_at, latent_at) in positions(extents, packing) {
        tokens[token_at] = latents[latent_at];
    }
    tokens
}

/// Tokens `[L, C·pt·ph·pw]` → latents `[C, F, H, W]`, the inverse of [`pack`] for the same extents.
pub fn unpack(tokens: &[f32], extents: [usize; 4], packing: [usize; 3]) -> Vec<f32> {
    let mut latents = vec![0.0; tokens.len()];
    for (token_at, latent_at) in positions(extents, packing) {
        latents[latent_at] = tokens[token_at];
    }
    latents
}

/// Position in the tokens and in the latents of every value.
fn positions([c, f, h, w]: [usize; 4], [pt, ph, pw]: [usize; 3]) -> impl Iterator<Item = (usize, usize)> {
    (0..c * f * h * w).map(move |latent_at| {
        let (channel, t, y, x) = (latent_at / (f * h * w), latent_at / (h * w) % f, latent_at / w % h, latent_at % w);
        let token = ((t / pt) * (h / ph) + y / ph) * (w / pw) + x / pw;
        let feature = ((channel * pt + t % pt) * ph + y % ph) * pw + x % pw;
        (token * c * pt * ph * pw + feature, latent_at)
    })
}

/// The same as [`unpack`] on a plan: tokens `[F'·H'·W', C·pt·ph·pw]` of a grid `[F', H', W']` → latents
/// `[1, F, H, W, C]`.
pub fn latents_from_tokens(tokens: Tensor<'_>, [frames, height, width]: [usize; 3], packing: [usize; 3]) -> Tensor<'_> {
    let grid = tokens.reshape(&[1, frames, height, width, tokens.channels()]);
    if packing == [1; 3] { grid } else { grid.pixel_shuffle_3d(packing, PatchOrder::TimeHeightWidth) }
}

/// Constant features `[L, 15]` that tell a token where it is: for t, y and x the five 2u − 1, sin 2πu, cos 2πu,
/// sin 4πu, cos 4πu. In space u = (i + ½) / n; in time u = f / 8 whatever the length, so that the first frame of every
/// clip and a still image look alike.
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
    use kinora_kernels::{Cadence, Device, Executable, Plan};

    fn ramp(len: usize) -> Vec<f32> {
        (0..len).map(|v| v as f32).collect()
    }

    #[test]
    fn a_token_holds_its_block_with_the_channel_outermost() {
        let tokens = pack(&ramp(2 * 2 * 4), [2, 1, 2, 4], [1, 2, 2]);
        assert_eq!(tokens[..8], [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 12.0, 13.0], "rows and columns of channel 0, then 1");
        assert_eq!(tokens[8..12], [2.0, 3.0, 6.0, 7.0], "the next token is the next block of the row");
    }

    #[test]
    fn unpacking_and_the_plan_undo_packing() {
        let (extents, packing) = ([3, 4, 6, 4], [2, 3, 2]);
        let latents = ramp(extents.iter().product());
        let tokens = pack(&latents, extents, packing);
        assert_eq!(unpack(&tokens, extents, packing), latents, "on the host");
        let plan = Plan::new();
        let input = plan.input("tokens", &[2 * 2 * 2, 3 * 12], Cadence::Once);
        plan.output("latents", latents_from_tokens(input, [2, 2, 2], packing));
        let mut run = Executable::new(&Device::cpu(), plan.finish().expect("valid")).expect("runs");
        run.write("tokens", &tokens).expect("declared");
        pollster::block_on(run.run()).expect("runs");
        let found = pollster::block_on(run.read("latents")).expect("declared");
        assert_eq!(channels_first(&found, extents), latents, "on a plan");
        assert_eq!(channels_last(&latents, extents), found, "and back");
    }

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

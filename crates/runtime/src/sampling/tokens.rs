//! How latents become tokens. A token is a block of `packing` latents (frames, rows, columns); its features are ordered
//! (channel, frame, row, column). Tokens are ordered (frame, row, column), the last one fastest.

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

/// One of the two for each entry of `[B, ..]`.
pub fn batched(values: &[f32], [_, c, f, h, w]: [usize; 5], convert: fn(&[f32], [usize; 4]) -> Vec<f32>) -> Vec<f32> {
    values.chunks_exact(c * f * h * w).flat_map(|entry| convert(entry, [c, f, h, w])).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn unpacking_undoes_packing() {
        let (extents, packing) = ([3, 4, 6, 4], [2, 3, 2]);
        let latents = ramp(extents.iter().product());
        assert_eq!(unpack(&pack(&latents, extents, packing), extents, packing), latents);
    }

    #[test]
    fn channels_move_there_and_back() {
        let extents = [2, 1, 2, 2];
        let last = channels_last(&ramp(8), extents);
        assert_eq!(last, [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0], "both channels of each pixel");
        assert_eq!(channels_first(&last, extents), ramp(8), "and back");
    }
}

//! Starting noise: counter-based, so the same seed gives the same bits on every target.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) turns a
//! 128-bit counter and a 64-bit key into 128 random bits with integer arithmetic alone. Box–Muller
//! makes normal values of them with the elementary functions of `libm`, which are software on every
//! target and therefore round alike. The stream is Kinora's own: it is not `PyTorch`'s.

use super::solvers::table::Point;
use crate::conditioning::PURE_NOISE;

/// Multipliers of the two halves of the counter.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Added to the key in every round: the golden ratio and √3 − 1 as 32-bit fractions.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The Philox4x32 bijection with ten rounds.
#[must_use]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = multiply(MULTIPLIERS[0], counter[0]);
        let [low1, high1] = multiply(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The low and the high word of a 64-bit product.
fn multiply(a: u32, b: u32) -> [u32; 2] {
    split(u64::from(a) * u64::from(b))
}

/// The low and the high word.
#[expect(clippy::cast_possible_truncation, reason = "the words of the number are wanted")]
const fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// `len` independent values of the standard normal distribution.
///
/// The key is the seed; the counter is `[block, stream]`, each 64 bits, so every stream of every seed
/// is a sequence of its own: 0 for the latents, other numbers for other noise of the same generation.
/// Value `i` depends only on `seed`, `stream` and `i`: a longer request starts with the same values.
///
/// Each block of four words gives four values: words 0 and 1 one Box–Muller pair, words 2 and 3 the
/// next. Computed in f64 and rounded once to f32. The uniform variables are multiples of 2⁻³², so no
/// value lies beyond √(2·ln 2³³) ≈ 6.76 standard deviations.
#[must_use]
pub fn normal(seed: u64, stream: u64, len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len.next_multiple_of(4));
    let mut block = 0;
    while values.len() < len {
        let [b0, b1] = split(block);
        let [s0, s1] = split(stream);
        let [w0, w1, w2, w3] = philox4x32_10([b0, b1, s0, s1], split(seed));
        values.extend(box_muller(w0, w1));
        values.extend(box_muller(w2, w3));
        block += 1;
    }
    values.truncate(len);
    values
}

/// Puts sources `[L, C]` under noise `[L, C]`, in place: x = α·source + σ·noise at the level of each token, which `level`
/// tells from its thousandths. Pure noise has no source and stays as it is.
pub fn add_sources(noise: &mut [f32], sources: &[f32], thousandths: &[u16], level: impl Fn(u16) -> Point) {
    let channels = noise.len() / thousandths.len().max(1);
    let tokens = noise.chunks_exact_mut(channels).zip(sources.chunks_exact(channels)).zip(thousandths);
    for ((token, source), thousandths) in tokens.filter(|(_, thousandths)| **thousandths < PURE_NOISE) {
        let Point { alpha, sigma } = level(*thousandths);
        for (x, source) in token.iter_mut().zip(source) {
            *x = alpha as f32 * source + sigma as f32 * *x;
        }
    }
}

/// Two independent normal values of two words.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is wanted")]
fn box_muller(radius: u32, angle: u32) -> [f32; 2] {
    const STEP: f64 = 1.0 / 4_294_967_296.0;
    // Half a step above the lattice: the logarithm never sees zero.
    let uniform = (f64::from(radius) + 0.5) * STEP;
    let length = libm::sqrt(-2.0 * libm::log(uniform));
    let turn = 2.0 * core::f64::consts::PI * (f64::from(angle) * STEP);
    [(length * libm::cos(turn)) as f32, (length * libm::sin(turn)) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the reference implementation (Random123, `kat_vectors`).
    #[test]
    fn philox_gives_the_published_answers() {
        let ones = u32::MAX;
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected, "counter {counter:x?}, key {key:x?}");
        }
    }

    #[test]
    fn noise_never_changes() {
        // Bit patterns, not approximations: a change here changes every clip of every seed.
        let bits: Vec<u32> = normal(42, 0, 6).iter().map(|v| v.to_bits()).collect();
        assert_eq!(
            bits,
            [3_212_336_732, 1_044_819_176, 3_214_813_394, 1_073_103_675, 3_180_716_080, 1_041_136_143],
            "first values of seed 42"
        );
        let digest = normal(7, 1, 100_000)
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, v| (hash ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(digest, 3_879_492_644_722_756, "FNV-1a over the words of 100,000 values");
    }

    #[test]
    fn noise_is_standard_normal() {
        let values = normal(1, 0, 1_000_000);
        let n = 1e6;
        let moment = |k: i32| values.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        // Five standard errors of each moment.
        assert!(moment(1).abs() < 5.0 * (1.0_f64 / n).sqrt(), "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 5.0 * (2.0_f64 / n).sqrt(), "variance {}", moment(2));
        assert!(moment(3).abs() < 5.0 * (15.0_f64 / n).sqrt(), "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0_f64 / n).sqrt(), "fourth moment {}", moment(4));
        let neighbours = values.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n;
        assert!(neighbours.abs() < 5.0 / n.sqrt(), "correlation of neighbours {neighbours}");
    }

    #[test]
    fn streams_and_seeds_differ_and_prefixes_agree() {
        assert_eq!(normal(3, 0, 5), normal(3, 0, 4096)[..5], "a longer request starts alike");
        assert_ne!(normal(3, 0, 64), normal(3, 1, 64), "streams");
        assert_ne!(normal(3, 0, 64), normal(3 | 1 << 40, 0, 64), "the upper half of the seed counts");
        assert!(normal(3, 0, 0).is_empty(), "nothing asked, nothing given");
    }
}

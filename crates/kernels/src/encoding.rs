//! How the values of a weight lie in its file: plain numbers, or blocks of quantised ones with their scales.
//!
//! The oracle of the block formats is PyPI `gguf`, bit for bit: products and sums are rounded to f32 in its order.

mod blocks;

use half::{bf16, f16};

/// The encoding of a weight in its file; how the device stores it is [`WeightFormat`](crate::WeightFormat).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits, 4 of them exponent, without infinities (OCP 8-bit floating point, `E4M3`).
    F8E4m3,
    /// 8 bits, 5 of them exponent: the upper half of an f16.
    F8E5m2,
    /// Signed bytes, which have scales apart.
    I8,
    /// GGUF: 32 values, 4 bits and a scale.
    Q4_0,
    /// GGUF: 32 values, 4 bits, a scale and a minimum.
    Q4_1,
    /// GGUF: 32 values, 5 bits and a scale.
    Q5_0,
    /// GGUF: 32 values, 5 bits, a scale and a minimum.
    Q5_1,
    /// GGUF: 32 values, 8 bits and a scale.
    Q8_0,
    /// GGUF: 256 values, 2 bits.
    Q2K,
    /// GGUF: 256 values, 3 bits.
    Q3K,
    /// GGUF: 256 values, 4 bits.
    Q4K,
    /// GGUF: 256 values, 5 bits.
    Q5K,
    /// GGUF: 256 values, 6 bits.
    Q6K,
    /// GGUF: 32 values, 4 bits that choose from a table, and a scale.
    Iq4Nl,
}

/// What a value of a block is at most: `scale · |d| + min · |m|`, where d and m are f16 at these bytes of it.
struct Bound {
    d: usize,
    scale: f32,
    m: usize,
    min: f32,
}

impl Encoding {
    /// Values and bytes of a block.
    pub const fn block(self) -> [usize; 2] {
        match self {
            Self::F32 => [1, 4],
            Self::F16 | Self::Bf16 => [1, 2],
            Self::F8E4m3 | Self::F8E5m2 | Self::I8 => [1, 1],
            Self::Q4_0 | Self::Iq4Nl => [32, 18],
            Self::Q4_1 => [32, 20],
            Self::Q5_0 => [32, 22],
            Self::Q5_1 => [32, 24],
            Self::Q8_0 => [32, 34],
            Self::Q2K => [256, 84],
            Self::Q3K => [256, 110],
            Self::Q4K => [256, 144],
            Self::Q5K => [256, 176],
            Self::Q6K => [256, 210],
        }
    }

    /// Whether it is one of GGUF's formats of blocks, each with its scales.
    pub(crate) const fn is_blocks(self) -> bool {
        self.block()[0] > 1
    }

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
            Self::I8 => "I8",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
        }
    }

    /// Bytes of so many values, which are whole blocks; `None` if they are not.
    pub const fn bytes(self, values: u64) -> Option<u64> {
        let [per_block, bytes] = self.block();
        if values.is_multiple_of(per_block as u64) { (values / per_block as u64).checked_mul(bytes as u64) } else { None }
    }

    /// Appends the values of `bytes`, whole blocks, in f32.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F16 => out.extend(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Self::Bf16 => out.extend(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Self::F8E4m3 => out.extend(bytes.iter().map(|b| f32_from_e4m3(*b))),
            Self::F8E5m2 => out.extend(bytes.iter().map(|b| f16::from_bits(u16::from(*b) << 8).to_f32())),
            Self::I8 => out.extend(bytes.iter().map(|b| f32::from(b.cast_signed()))),
            quantised => bytes.chunks_exact(self.block()[1]).for_each(|block| blocks::decode(quantised, block, out)),
        }
    }

    /// Whether all values of `bytes` are below `limit`; `false` may be too strict for blocks.
    pub(crate) fn below(self, bytes: &[u8], limit: f32) -> bool {
        // Folds, unlike `all`, look at many values at a time.
        let pairs = |fits: fn([u8; 2], f32) -> bool| bytes.as_chunks().0.iter().fold(true, |all, b| all & fits(*b, limit));
        let Some(bound) = self.bound() else {
            return match self {
                Self::F32 => bytes.as_chunks().0.iter().fold(true, |all, b| all & (f32::from_le_bytes(*b).abs() < limit)),
                // Every finite f16 is.
                Self::F16 => pairs(|[_, high], _| high & 0x7c != 0x7c),
                Self::Bf16 => pairs(|b, limit| bf16::from_le_bytes(b).to_f32().abs() < limit),
                Self::F8E4m3 => bytes.iter().fold(true, |all, b| all & (b & 0x7f != 0x7f)),
                Self::F8E5m2 => bytes.iter().fold(true, |all, b| all & (b & 0x7c != 0x7c)),
                _ => true,
            };
        };
        let at = |block: &[u8], i: usize| f16::from_le_bytes([block[i], block[i + 1]]).to_f32().abs();
        let mut blocks = bytes.chunks_exact(self.block()[1]);
        blocks.all(|block| bound.scale * at(block, bound.d) + bound.min * at(block, bound.m) < limit)
    }

    const fn bound(self) -> Option<Bound> {
        // Without a minimum the scale stands for it, times nothing.
        let [d, scale, m, min] = match self {
            Self::Q4_0 => [0, 8, 0, 0],
            Self::Q4_1 => [0, 15, 2, 1],
            Self::Q5_0 => [0, 16, 0, 0],
            Self::Q5_1 => [0, 31, 2, 1],
            Self::Q8_0 => [0, 128, 0, 0],
            Self::Iq4Nl => [0, 127, 0, 0],
            Self::Q2K => [80, 15 * 3, 82, 15],
            Self::Q3K => [108, 32 * 4, 108, 0],
            Self::Q4K => [0, 63 * 15, 2, 63],
            Self::Q5K => [0, 63 * 31, 2, 63],
            Self::Q6K => [208, 128 * 32, 208, 0],
            Self::F32 | Self::F16 | Self::Bf16 | Self::F8E4m3 | Self::F8E5m2 | Self::I8 => return None,
        };
        Some(Bound { d, scale: scale as f32, m, min: min as f32 })
    }
}

/// Bias 7, no infinities; all ones are NaN. The same bits as f16 stand for a 2⁸th of it, subnormals included.
fn f32_from_e4m3(byte: u8) -> f32 {
    let bits = u16::from(byte);
    if bits & 0x7f == 0x7f {
        return f32::NAN;
    }
    f16::from_bits((bits & 0x80) << 8 | (bits & 0x7f) << 7).to_f32() * 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_eight_bits_are_the_floats_of_their_definition() {
        let decode = |encoding: Encoding| {
            let mut out = Vec::new();
            encoding.decode(&(0..=255).collect::<Vec<u8>>(), &mut out);
            out
        };
        let define = |byte: u8, mantissa_bits: i32, bias: i32| {
            let (exponent, mantissa) = (i32::from(byte & 0x7f) >> mantissa_bits, i32::from(byte & 0x7f) & ((1 << mantissa_bits) - 1));
            let (lead, exponent) = if exponent == 0 { (0, 1) } else { (1 << mantissa_bits, exponent) };
            let magnitude = f64::from(lead + mantissa) * 2f64.powi(exponent - bias - mantissa_bits);
            (if byte & 0x80 == 0 { magnitude } else { -magnitude }) as f32
        };
        for (byte, found) in (0..=255).zip(decode(Encoding::F8E4m3)) {
            if byte & 0x7f == 0x7f {
                assert!(found.is_nan(), "{byte:#x}");
            } else {
                assert_eq!(found.to_bits(), define(byte, 3, 7).to_bits(), "{byte:#x}");
            }
        }
        for (byte, found) in (0..=255u8).zip(decode(Encoding::F8E5m2)) {
            if byte & 0x7c == 0x7c {
                assert!(!found.is_finite(), "{byte:#x}");
            } else {
                assert_eq!(found.to_bits(), define(byte, 2, 15).to_bits(), "{byte:#x}");
            }
        }
    }

    #[test]
    fn bounds_hold_for_every_block_of_ones_and_zeros() {
        use Encoding::{Iq4Nl, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        for encoding in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K, Iq4Nl] {
            let bound = encoding.bound().expect("of blocks");
            for fill in [0, 0xff, 0x80, 0x7f, 0x0f, 0xf0, 0x88] {
                let mut block = vec![fill; encoding.block()[1]];
                block[bound.m..bound.m + 2].copy_from_slice(&f16::from_f32(-1.0).to_le_bytes());
                block[bound.d..bound.d + 2].copy_from_slice(&f16::from_f32(1.0).to_le_bytes());
                let mut values = Vec::new();
                encoding.decode(&block, &mut values);
                assert_eq!(values.len(), encoding.block()[0], "{encoding:?}");
                let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                assert!(most <= bound.scale + bound.min, "{encoding:?} of {fill:#x}: {most}");
                assert!(!encoding.below(&block, most), "{encoding:?} of {fill:#x} has {most}");
            }
        }
    }
}

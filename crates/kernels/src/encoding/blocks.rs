//! The block formats of GGUF, one block at a time.

use half::f16;

use super::Encoding;

/// Values of a super-block.
const SUPER: usize = 256;

/// What the 4 bits of `IQ4_NL` stand for.
const NON_LINEAR: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Appends the values of one block.
pub(super) fn decode(encoding: Encoding, block: &[u8], out: &mut Vec<f32>) {
    match encoding {
        Encoding::Q8_0 => {
            let d = f16_at(block, 0);
            out.extend(block[2..].iter().map(|q| f32::from(q.cast_signed()) * d));
        }
        Encoding::Iq4Nl => {
            let d = f16_at(block, 0);
            out.extend((0..32).map(|i| d * f32::from(NON_LINEAR[usize::from(nibble(&block[2..], i))])));
        }
        Encoding::Q4_0 => halves(block, false, false, out),
        Encoding::Q4_1 => halves(block, false, true, out),
        Encoding::Q5_0 => halves(block, true, false, out),
        Encoding::Q5_1 => halves(block, true, true, out),
        Encoding::Q2K => q2_k(block, out),
        Encoding::Q3K => q3_k(block, out),
        Encoding::Q4K => q45_k(block, 0, out),
        Encoding::Q5K => q45_k(block, 32, out),
        Encoding::Q6K => q6_k(block, out),
        // Plain numbers have no blocks.
        _ => {}
    }
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// 4 bits of value `i` of 32: the low halves of 16 bytes, then their high halves.
fn nibble(qs: &[u8], i: usize) -> u8 {
    qs[i % 16] >> (4 * (i / 16)) & 15
}

/// `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`: scale, minimum, fifth bits, halves of bytes.
fn halves(block: &[u8], fifth: bool, minimum: bool, out: &mut Vec<f32>) {
    let (d, rest) = (f16_at(block, 0), if minimum { 4 } else { 2 });
    let (high, qs) = if fifth { (&block[rest..rest + 4], &block[rest + 4..]) } else { (&[0u8; 4][..], &block[rest..]) };
    let m = if minimum { f16_at(block, 2) } else { 0.0 };
    let zero = if fifth { 16i8 } else { 8 };
    out.extend((0..32).map(|i| {
        let q = nibble(qs, i) | (high[i / 8] >> (i % 8) & 1) << 4;
        if minimum { d * f32::from(q) + m } else { d * f32::from(q.cast_signed() - zero) }
    }));
}

/// Scales and minima of 16 values in 4 bits each; values in 2 bits.
fn q2_k(block: &[u8], out: &mut Vec<f32>) {
    let (scales, qs, d, dmin) = (&block[..16], &block[16..80], f16_at(block, 80), f16_at(block, 82));
    out.extend((0..SUPER).map(|i| {
        let scale = scales[i / 16];
        (d * f32::from(scale & 15)) * f32::from(two_bits(qs, i)) - dmin * f32::from(scale >> 4)
    }));
}

/// 2 bits of value `i`: each run of 128 values is 32 bytes, whose lowest bits are its first 32 values.
fn two_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3
}

/// Scales of 16 values in 6 bits; values in 2 bits and a third one, without which 4 is subtracted.
fn q3_k(block: &[u8], out: &mut Vec<f32>) {
    let (high, qs, scales, d) = (&block[..32], &block[32..96], &block[96..108], f16_at(block, 108));
    out.extend((0..SUPER).map(|i| {
        let group = i / 16;
        let scale = scales[group % 8] >> (4 * (group / 8)) & 15 | (scales[8 + group % 4] >> (2 * (group / 4)) & 3) << 4;
        let lowered = if high[i % 32] >> (i / 32) & 1 == 0 { 4 } else { 0 };
        (d * f32::from(scale.cast_signed() - 32)) * f32::from(two_bits(qs, i).cast_signed() - lowered)
    }));
}

/// `Q4_K`, and with `high` bytes of fifth bits `Q5_K`: scales and minima of 32 values in 6 bits.
fn q45_k(block: &[u8], high: usize, out: &mut Vec<f32>) {
    let (d, dmin, scales) = (f16_at(block, 0), f16_at(block, 2), &block[4..16]);
    let (fifth, qs) = block[16..].split_at(high);
    for group in 0..8 {
        // The lower four groups have 6 bits of their own; the upper ones 4, and 2 that the lower ones leave.
        let [scale, min] = match group {
            0..4 => [scales[group] & 63, scales[group + 4] & 63],
            _ => {
                let (low, both) = (group - 4, scales[group + 4]);
                [both & 15 | scales[low] >> 6 << 4, both >> 4 | scales[low + 4] >> 6 << 4]
            }
        };
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        out.extend((0..32).map(|i| {
            let low = qs[group / 2 * 32 + i] >> (4 * (group % 2)) & 15;
            let bit = fifth.get(i).map_or(0, |bits| bits >> group & 1);
            scale * f32::from(low | bit << 4) - min
        }));
    }
}

/// Scales of 16 values in 8 bits; values in 4 and 2 bits.
fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], f16_at(block, 208));
    out.extend((0..SUPER).map(|i| {
        let q = low[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 15 | two_bits(high, i) << 4;
        (d * f32::from(scales[i / 16].cast_signed())) * f32::from(q.cast_signed() - 32)
    }));
}

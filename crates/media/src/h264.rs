//! H.264 without compression tools: macroblocks are stored as they are (`I_PCM`) or skipped.
//!
//! Every H.264 decoder plays it, and still areas cost nothing, but files are several times larger
//! than a real encoder's. It exists so that MP4 needs no other program. Sections are those of
//! ITU-T H.264 (08/2021).

use crate::{Head, yuv};

/// Side of a macroblock in luma samples.
const MB: usize = 16;
/// A macroblock whose samples all moved by at most this many levels is skipped.
const STILL_LEVELS: u8 = 2;
const PROFILE_BASELINE: u8 = 66;
/// Valid in the baseline and the main profile.
const CONSTRAINTS: u8 = 0b1100_0000;
/// Levels of Table A-1: `level_idc`, macroblocks per frame and per second, bits per second.
const LEVELS: [(u8, u64, u64, u64); 4] = [
    (30, 1_620, 40_500, 10_000_000),
    (40, 8_192, 245_760, 20_000_000),
    (51, 36_864, 983_040, 240_000_000),
    (62, 139_264, 16_711_680, 800_000_000),
];

/// Encodes the frames of one clip, in order.
pub(crate) struct Encoder {
    width: u32,
    height: u32,
    columns: usize,
    rows: usize,
    level: u8,
    rate: (u16, u16),
    num_coded: u64,
    /// What a decoder shows after the last frame: one Y, Cb, Cr block per macroblock.
    shown: Vec<Macroblock>,
}

/// 256 samples of Y, 64 of Cb, 64 of Cr, row by row.
type Macroblock = [u8; 384];

impl Encoder {
    pub(crate) fn new(head: &Head) -> Self {
        let (columns, rows) = ((head.width as usize).div_ceil(MB), (head.height as usize).div_ceil(MB));
        let per_frame = (columns * rows) as u64;
        let per_second = (per_frame as f64 * head.frame_rate.as_f64()).ceil() as u64;
        let bits = per_second * 8 * size_of::<Macroblock>() as u64;
        let fitting = LEVELS.iter().find(|level| per_frame <= level.1 && per_second <= level.2 && bits <= level.3);
        Self {
            width: head.width,
            height: head.height,
            columns,
            rows,
            level: fitting.unwrap_or(&LEVELS[LEVELS.len() - 1]).0,
            rate: (head.frame_rate.num(), head.frame_rate.den()),
            num_coded: 0,
            shown: Vec::new(),
        }
    }

    /// Content of the `avcC` box (ISO/IEC 14496-15 §5.3.3): both parameter sets.
    pub(crate) fn configuration(&self) -> Vec<u8> {
        let (sps, pps) = (self.sequence_parameters(), picture_parameters());
        // Version 1, then profile and level as in the sequence parameters, 4-byte lengths, one set of each.
        let mut bytes = vec![1, PROFILE_BASELINE, CONSTRAINTS, self.level, 0xff, 0xe1];
        for (set, count) in [(sps, None), (pps, Some(1))] {
            bytes.extend(count);
            // A parameter set has a few dozen bytes.
            bytes.extend((set.len() as u16).to_be_bytes());
            bytes.extend(set);
        }
        bytes
    }

    /// One frame as a length-prefixed NAL unit; the first is a key frame.
    pub(crate) fn encode(&mut self, rgba: &[u8]) -> Vec<u8> {
        let blocks = self.macroblocks(rgba);
        let key = self.shown.is_empty();
        let mut bits = Bits::default();
        self.slice_header(&mut bits, key);
        let mut skipped = 0;
        for (at, block) in blocks.iter().enumerate() {
            if !key {
                if block.iter().zip(&self.shown[at]).all(|(new, old)| new.abs_diff(*old) <= STILL_LEVELS) {
                    skipped += 1;
                    continue;
                }
                bits.unsigned(skipped); // mb_skip_run
                skipped = 0;
                self.shown[at] = *block;
            }
            // I_PCM is type 25 in an I slice; the five P types come first in a P slice (Tables 7-11, 7-13).
            bits.unsigned(if key { 25 } else { 30 });
            bits.align();
            bits.bytes.extend(block);
        }
        if skipped > 0 {
            bits.unsigned(skipped);
        }
        if key {
            self.shown = blocks;
        }
        self.num_coded += 1;
        let nal = nal_unit(if key { 5 } else { 1 }, bits.finish());
        // At most 384 bytes per macroblock and 65,536² pixels, far below 2^32 for any clip in memory.
        [&(nal.len() as u32).to_be_bytes(), nal.as_slice()].concat()
    }

    /// §7.3.2.1.1 and, for colour and timing, §E.1.1.
    fn sequence_parameters(&self) -> Vec<u8> {
        let mut bits = Bits::default();
        for byte in [PROFILE_BASELINE, CONSTRAINTS, self.level] {
            bits.fixed(byte.into(), 8);
        }
        bits.unsigned(0); // seq_parameter_set_id
        bits.unsigned(12); // log2_max_frame_num_minus4
        bits.unsigned(2); // pic_order_cnt_type: shown in coding order
        bits.unsigned(1); // max_num_ref_frames
        bits.fixed(0, 1); // gaps_in_frame_num_value_allowed_flag
        bits.unsigned(self.columns as u32 - 1);
        bits.unsigned(self.rows as u32 - 1);
        bits.fixed(0b11, 2); // frame_mbs_only_flag, direct_8x8_inference_flag
        bits.fixed(1, 1); // frame_cropping_flag, in units of two samples
        let beyond = |blocks: usize, side: u32| (blocks * MB) as u32 - side.next_multiple_of(2);
        for cut in [0, beyond(self.columns, self.width) / 2, 0, beyond(self.rows, self.height) / 2] {
            bits.unsigned(cut);
        }
        bits.fixed(1, 1); // vui_parameters_present_flag
        bits.fixed(1, 1); // aspect_ratio_info_present_flag
        bits.fixed(1, 8); // square samples
        bits.fixed(0, 1); // overscan_info_present_flag
        bits.fixed(1, 1); // video_signal_type_present_flag
        bits.fixed(5, 3); // video_format: unspecified
        bits.fixed(0, 1); // video_full_range_flag
        bits.fixed(1, 1); // colour_description_present_flag
        for code in yuv::COLOUR_CODES {
            bits.fixed(code.into(), 8);
        }
        bits.fixed(1, 1); // chroma_loc_info_present_flag
        bits.unsigned(1); // chroma in the middle of four luma samples, for both fields
        bits.unsigned(1);
        bits.fixed(1, 1); // timing_info_present_flag
        bits.fixed(self.rate.1.into(), 32); // num_units_in_tick: a tick is half a frame
        bits.fixed(2 * u32::from(self.rate.0), 32); // time_scale
        bits.fixed(1, 1); // fixed_frame_rate_flag
        bits.fixed(0, 3); // no HRD parameters, no picture structure
        bits.fixed(1, 1); // bitstream_restriction_flag
        bits.fixed(1, 1); // motion_vectors_over_pic_boundaries_flag
        // Sizes unlimited twice, no motion twice, no reordering, one frame buffered.
        for value in [0, 0, 0, 0, 0, 1] {
            bits.unsigned(value);
        }
        nal_unit(7, bits.finish())
    }

    /// §7.3.3 for a slice that holds the whole picture.
    fn slice_header(&self, bits: &mut Bits, key: bool) {
        bits.unsigned(0); // first_mb_in_slice
        bits.unsigned(if key { 7 } else { 5 }); // slice_type: all slices I, or all P
        bits.unsigned(0); // pic_parameter_set_id
        bits.fixed((self.num_coded % 65_536) as u32, 16); // frame_num
        if key {
            bits.unsigned(0); // idr_pic_id
            bits.fixed(0, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
        } else {
            // num_ref_idx_active_override_flag, ref_pic_list_modification_flag_l0, adaptive_ref_pic_marking_mode_flag
            bits.fixed(0, 3);
        }
        bits.signed(0); // slice_qp_delta
        bits.unsigned(1); // disable_deblocking_filter_idc: samples are shown as stored
    }

    /// The frame in 4:2:0, edges repeated to whole macroblocks.
    fn macroblocks(&self, rgba: &[u8]) -> Vec<Macroblock> {
        let [luma, cb, cr] = yuv::BT709.planes(rgba);
        let (width, height) = (self.width as usize, self.height as usize);
        let at = |plane: &[u8], x: usize, y: usize| plane[y.min(height - 1) * width + x.min(width - 1)];
        let mean_of_four = |plane: &[u8], x: usize, y: usize| {
            let sum: u16 = [(0, 0), (1, 0), (0, 1), (1, 1)].iter().map(|(dx, dy)| u16::from(at(plane, x + dx, y + dy))).sum();
            ((sum + 2) / 4) as u8
        };
        let block = |column: usize, row: usize| {
            let (x, y) = (column * MB, row * MB);
            let mut block = [0; 384];
            let (first, chroma) = block.split_at_mut(256);
            first.iter_mut().enumerate().for_each(|(i, value)| *value = at(&luma, x + i % 16, y + i / 16));
            for (plane, values) in [&cb, &cr].into_iter().zip(chroma.chunks_exact_mut(64)) {
                values.iter_mut().enumerate().for_each(|(i, value)| *value = mean_of_four(plane, x + 2 * (i % 8), y + 2 * (i / 8)));
            }
            block
        };
        (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (column, row))).map(|(column, row)| block(column, row)).collect()
    }
}

/// §7.3.2.2: CAVLC, and slices may switch the deblocking filter off.
fn picture_parameters() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.unsigned(0); // pic_parameter_set_id
    bits.unsigned(0); // seq_parameter_set_id
    bits.fixed(0, 2); // entropy_coding_mode_flag, bottom_field_pic_order_in_frame_present_flag
    bits.unsigned(0); // num_slice_groups_minus1
    bits.unsigned(0); // num_ref_idx_l0_default_active_minus1
    bits.unsigned(0); // num_ref_idx_l1_default_active_minus1
    bits.fixed(0, 3); // weighted_pred_flag, weighted_bipred_idc
    for _ in 0..3 {
        bits.signed(0); // quantisers, unused
    }
    bits.fixed(0b100, 3); // deblocking_filter_control_present_flag, not constrained, not redundant
    nal_unit(8, bits.finish())
}

/// §7.4.1: the header byte (always a reference), then the payload with 3 inserted after 0 0 wherever 0..=3 follows.
fn nal_unit(kind: u8, payload: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![0x60 | kind];
    let mut zeros = 0;
    for byte in payload {
        if zeros == 2 && byte <= 3 {
            bytes.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        bytes.push(byte);
    }
    bytes
}

/// Bits, most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0 if it is full or there is none.
    taken: u32,
}

impl Bits {
    fn fixed(&mut self, value: u32, num_bits: u32) {
        for bit in (0..num_bits).rev() {
            if self.taken == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.taken);
            }
            self.taken = (self.taken + 1) % 8;
        }
    }

    /// Exponential Golomb code, §9.1.
    fn unsigned(&mut self, value: u32) {
        let length = 32 - (value + 1).leading_zeros();
        self.fixed(0, length - 1);
        self.fixed(value + 1, length);
    }

    /// Its signed form, §9.1.1: 1, −1, 2, … are 1, 2, 3, …
    fn signed(&mut self, value: i32) {
        self.unsigned(if value > 0 { 2 * value.unsigned_abs() - 1 } else { 2 * value.unsigned_abs() });
    }

    /// Zero bits up to the next byte.
    fn align(&mut self) {
        self.taken = 0;
    }

    /// `rbsp_trailing_bits`.
    fn finish(mut self) -> Vec<u8> {
        self.fixed(1, 1);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golomb_codes_match_table_9_2() {
        for (value, expected) in [(0, "1"), (1, "010"), (2, "011"), (3, "00100"), (6, "00111"), (7, "0001000"), (25, "000011010")] {
            let mut bits = Bits::default();
            bits.unsigned(value);
            let text: String = bits.bytes.iter().map(|byte| format!("{byte:08b}")).collect();
            assert!(text.starts_with(expected), "{value} became {text}");
            assert_eq!((text.trim_end_matches('0').len(), bits.taken), (expected.trim_end_matches('0').len(), expected.len() as u32 % 8));
        }
        let mut bits = Bits::default();
        [0, 1, -1, 2].into_iter().for_each(|value| bits.signed(value));
        assert_eq!(bits.bytes, [0b1010_0110, 0b0100_0000], "0, 1, -1, 2 as 0, 1, 2, 3");
    }

    #[test]
    fn payloads_never_contain_a_start_code() {
        assert_eq!(nal_unit(7, vec![0, 0, 0, 0, 0, 1, 0, 0, 4]), [0x67, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 4]);
    }
}

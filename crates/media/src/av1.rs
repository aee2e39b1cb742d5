//! AV1 by rav1e, for frames of which stored ones would be too large.

use rav1e::prelude::{
    ChromaSampling, ColorDescription, ColorPrimaries, Config, Context, EncoderConfig, EncoderStatus, FrameType, MatrixCoefficients,
    PixelRange, Rational, TransferCharacteristics,
};

use crate::{Error, Head, Result, mp4::Sample, yuv};

/// Frames of as many pixels and fewer stay H.264, which everything plays: a few seconds of them take megabytes at most.
const SMALL_PIXELS: u32 = 256 * 256;
/// Shorter sides stay H.264, too: the encoder works in blocks of 64.
const SHORTEST_SIDE: u32 = 64;
/// The fastest preset.
const SPEED: u8 = 10;
/// From 0, lossless, to 255: one with which gradients keep their steps to themselves.
const QUANTIZER: usize = 80;
/// Open bitstream units (AV1 specification §5.3): a temporal delimiter, which files leave out, and the type of a sequence header.
const DELIMITER: [u8; 2] = [0x12, 0];
const SEQUENCE_HEADER: u8 = 1;

/// Encodes the frames of one clip, in order.
pub(crate) struct Encoder {
    context: Context<u8>,
    /// Sides as they are given.
    given: [usize; 2],
    /// Sides as they are coded: even.
    coded: [usize; 2],
    /// The first of the stream, header and size included.
    sequence_header: Vec<u8>,
}

impl Encoder {
    /// Whether it encodes such frames.
    pub(crate) fn takes(head: &Head) -> bool {
        head.width.saturating_mul(head.height) > SMALL_PIXELS && head.width.min(head.height) >= SHORTEST_SIDE
    }

    pub(crate) fn new(head: &Head) -> Result<Self> {
        let given = [head.width as usize, head.height as usize];
        let coded = given.map(|side| side.next_multiple_of(2));
        let [width, height] = coded;
        let config = EncoderConfig {
            width,
            height,
            time_base: Rational::new(u64::from(head.frame_rate.den()), u64::from(head.frame_rate.num())),
            chroma_sampling: ChromaSampling::Cs420,
            pixel_range: PixelRange::Limited,
            // The codes of `yuv::COLOUR_CODES`.
            color_description: Some(ColorDescription {
                color_primaries: ColorPrimaries::BT709,
                transfer_characteristics: TransferCharacteristics::SRGB,
                matrix_coefficients: MatrixCoefficients::BT709,
            }),
            // Frames come out in the order they go in.
            low_latency: true,
            quantizer: QUANTIZER,
            ..EncoderConfig::with_speed_preset(SPEED)
        };
        let context = Config::new().with_encoder_config(config).new_context().map_err(|error| failed(&error))?;
        Ok(Self { context, given, coded, sequence_header: Vec::new() })
    }

    /// Frames that came out when this one went in.
    pub(crate) fn encode(&mut self, rgba: &[u8]) -> Result<Vec<Sample>> {
        let [luma, cb, cr] = yuv::BT709.planes(rgba);
        let [width, height] = self.coded;
        let mut frame = self.context.new_frame();
        frame.planes[0].copy_from_raw_u8(&self.grown(&luma), width, 1);
        for (plane, chroma) in frame.planes[1..].iter_mut().zip([cb, cr]) {
            plane.copy_from_raw_u8(&halved(&self.grown(&chroma), [width, height]), width / 2, 1);
        }
        self.context.send_frame(frame).map_err(|error| failed(&error))?;
        self.take()
    }

    /// Those that are left after the last.
    pub(crate) fn finish(&mut self) -> Result<Vec<Sample>> {
        self.context.flush();
        self.take()
    }

    /// Content of the `av1C` box (AV1 codec ISO media file format §2.3), once a frame is there.
    pub(crate) fn configuration(&self) -> Vec<u8> {
        [self.context.container_sequence_header(), self.sequence_header.clone()].concat()
    }

    fn take(&mut self) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        loop {
            match self.context.receive_packet() {
                Ok(packet) => {
                    let data = packet.data.strip_prefix(&DELIMITER).unwrap_or(&packet.data).to_vec();
                    if self.sequence_header.is_empty() {
                        self.sequence_header = sequence_header(&data).unwrap_or_default().to_vec();
                    }
                    samples.push(Sample { data, is_key: packet.frame_type == FrameType::KEY });
                }
                // A frame was coded that is not shown yet.
                Err(EncoderStatus::Encoded) => {}
                Err(EncoderStatus::NeedMoreData | EncoderStatus::LimitReached) => return Ok(samples),
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// A plane with its last row and column once more where a side is odd.
    fn grown(&self, plane: &[u8]) -> Vec<u8> {
        let ([width, height], [columns, rows]) = (self.given, self.coded);
        let row = |y: usize| &plane[y.min(height - 1) * width..][..width];
        (0..rows).flat_map(|y| row(y).iter().chain(std::iter::repeat_n(&row(y)[width - 1], columns - width))).copied().collect()
    }
}

/// The mean of each 2×2 pixels.
fn halved(plane: &[u8], [width, height]: [usize; 2]) -> Vec<u8> {
    let mean = |y: usize, x: usize| {
        let at = 2 * y * width + 2 * x;
        let sum: u32 = [at, at + 1, at + width, at + width + 1].iter().map(|at| u32::from(plane[*at])).sum();
        ((sum + 2) / 4) as u8
    };
    (0..height / 2).flat_map(|y| (0..width / 2).map(move |x| mean(y, x))).collect()
}

/// The sequence header of a sample that begins with one.
fn sequence_header(sample: &[u8]) -> Option<&[u8]> {
    let (first, rest) = sample.split_first()?;
    let has_size = first & 2 != 0;
    if first >> 3 & 15 != SEQUENCE_HEADER || !has_size {
        return None;
    }
    // A header is shorter than the 128 bytes from which its size would take another.
    let size = usize::from(*rest.first().filter(|size| **size < 128)?);
    sample.get(..2 + size)
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Encoder { format: "av1", message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameRate;

    fn head(width: u32, height: u32) -> Head {
        let frame_rate = FrameRate::from_f64(16.0).unwrap_or_else(|e| panic!("{e}"));
        Head { width, height, frame_rate, frames: None, is_opaque: true }
    }

    #[test]
    fn every_frame_comes_out_and_the_first_is_a_key() {
        // Odd, so that the last row and column are seen twice.
        let head = head(351, 199);
        assert!(
            Encoder::takes(&head)
                && !Encoder::takes(&Head { width: 256, height: 256, ..head })
                && !Encoder::takes(&Head { height: 40, width: 4000, ..head })
        );
        let mut encoder = Encoder::new(&head).unwrap_or_else(|e| panic!("{e}"));
        let frame = |t: usize| (0..351 * 199).flat_map(|at| [(at % 351 + t) as u8, (at / 351) as u8, 40, 255]).collect::<Vec<u8>>();
        let mut samples = Vec::new();
        for t in 0..4 {
            samples.extend(encoder.encode(&frame(t)).unwrap_or_else(|e| panic!("{e}")));
        }
        samples.extend(encoder.finish().unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(samples.iter().map(|sample| sample.is_key).collect::<Vec<_>>(), [true, false, false, false]);
        assert!(samples.iter().all(|sample| !sample.data.is_empty() && !sample.data.starts_with(&DELIMITER)), "no delimiters in files");
        let configuration = encoder.configuration();
        assert_eq!(configuration[0], 0x81, "marker and version");
        assert!(configuration.len() > 6 && samples[0].data.starts_with(&configuration[4..]), "with the sequence header of the stream");
    }
}

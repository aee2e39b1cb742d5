//! Images and clips, right or wrong in one way.

use kinora_media::{Clip, Format, FrameRate, Metadata, encode};

use super::cut;
use crate::random::Random;

/// Which must be refused.
pub(super) const BAD: [&str; 29] = [
    "empty",
    "unknown format",
    "PNG: signature alone",
    "PNG: cut in the pixels",
    "PNG: checksum of the header wrong",
    "PNG: width 0",
    "PNG: height 0",
    "PNG: 2^31 - 1 pixels wide",
    "PNG: no pixels",
    "PNG: depth 3",
    "PNG: colours of an unknown kind",
    "PNG: pixels are no stream",
    "GIF: signature alone",
    "GIF: cut in the first frame",
    "GIF: width 0",
    "GIF: no frame",
    "GIF: codes of 13 bits",
    "GIF: frame outside the canvas",
    "Y4M: no width",
    "Y4M: width 0",
    "Y4M: width a text",
    "Y4M: height 2^64",
    "Y4M: a rate over 0",
    "Y4M: unknown colours",
    "Y4M: no frame",
    "Y4M: cut in the first frame",
    "Y4M: header without end",
    "JPEG: cut",
    "WebP: cut",
];

/// Which must be read.
pub(super) const GOOD: [&str; 5] = ["PNG: as written", "GIF: as written", "Y4M: as written", "JPEG: as written", "WebP: as written"];

const JPEG: &[u8] = include_bytes!("../../corpus/media/small.jpg");
const WEBP: &[u8] = include_bytes!("../../corpus/media/small.webp");

fn encoded(format: Format, random: &mut Random) -> Vec<u8> {
    let (width, height) = (3 + random.below(9) as u32, 3 + random.below(9) as u32);
    let frames = (0..1 + random.below(4)).map(|_| random.bytes((width * height * 4) as usize)).collect();
    let clip = Clip::new(width, height, FrameRate::from_f64(10.0).expect("a rate"), frames).expect("a clip");
    let mut bytes = Vec::new();
    encode(&clip, format, &Metadata::default(), &mut bytes, &mut |_| true).expect("encodes");
    bytes
}

/// Where the data of the first chunk of this kind begins, and its length.
fn chunk(bytes: &[u8], kind: &[u8; 4]) -> (usize, usize) {
    let at = bytes.windows(4).position(|window| window == kind).expect("it is there");
    (at + 4, u32::from_be_bytes(*bytes[at - 4..].first_chunk().expect("a length")) as usize)
}

/// Writes the checksum of a chunk whose data was changed: PNG specification, annex D.
fn seal(bytes: &mut [u8], (start, length): (usize, usize)) {
    let mut crc = u32::MAX;
    for byte in &bytes[start - 4..start + length] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    bytes[start + length..start + length + 4].copy_from_slice(&(!crc).to_be_bytes());
}

fn png(spoil: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = encoded(Format::Apng, random);
    let (header, pixels) = (chunk(&bytes, b"IHDR"), chunk(&bytes, b"IDAT"));
    let ihdr = header.0;
    match spoil {
        "signature alone" => bytes.truncate(8),
        "cut in the pixels" => bytes.truncate(pixels.0 + random.below(pixels.1 - 4)),
        "checksum of the header wrong" => bytes[ihdr + 13] ^= 1 << random.below(8),
        "width 0" => bytes[ihdr..ihdr + 4].fill(0),
        "height 0" => bytes[ihdr + 4..ihdr + 8].fill(0),
        "2^31 - 1 pixels wide" => bytes[ihdr..ihdr + 4].copy_from_slice(&0x7fff_ffffu32.to_be_bytes()),
        "depth 3" => bytes[ihdr + 8] = 3,
        "colours of an unknown kind" => bytes[ihdr + 9] = 7,
        "no pixels" => bytes = [&bytes[..ihdr + 17], &[0, 0, 0, 0], b"IEND", &[0xae, 0x42, 0x60, 0x82]].concat(),
        "pixels are no stream" => {
            let garbage = random.bytes(pixels.1);
            bytes[pixels.0..pixels.0 + pixels.1].copy_from_slice(&garbage);
            // No method of compression.
            bytes[pixels.0] = 0xff;
            seal(&mut bytes, pixels);
        }
        _ => {}
    }
    if bytes.len() > ihdr + 17 && spoil != "checksum of the header wrong" {
        seal(&mut bytes, header);
    }
    bytes
}

fn gif(spoil: &str, random: &mut Random) -> Vec<u8> {
    // 8x8, two colours, a frame of 8x8.
    let code_bits = if spoil == "codes of 13 bits" { 13 } else { 2 };
    let left = if spoil == "frame outside the canvas" { 60_000u16 } else { 0 };
    let width = if spoil == "width 0" { 0u16 } else { 8 };
    let frame = [&[0x2c][..], &left.to_le_bytes(), &[0, 0, 8, 0, 8, 0, 0, code_bits], &[22]].concat();
    // Clear, a pixel, clear, a pixel … end: 3 bits a code.
    let mut data = vec![0u8; 22];
    let mut codes = vec![4u32];
    for _ in 0..28 {
        codes.extend([random.below(2) as u32, 4]);
    }
    codes.push(5);
    let bits = codes.iter().flat_map(|code| (0..3).map(move |bit| code >> bit & 1));
    bits.enumerate().for_each(|(at, bit)| data[at / 8] |= (bit as u8) << (at % 8));
    let mut bytes =
        [b"GIF89a", &width.to_le_bytes()[..], &[8, 0, 0x80, 0, 0], &[0, 0, 0, 255, 255, 255], &frame, &data, &[0, b';']].concat();
    match spoil {
        "signature alone" => bytes.truncate(6),
        "cut in the first frame" => bytes.truncate(19 + random.below(frame.len() + 4)),
        "no frame" => bytes = [&bytes[..19], b";"].concat(),
        "as written" => bytes = encoded(Format::Gif, random),
        _ => {}
    }
    bytes
}

fn y4m(spoil: &str, random: &mut Random) -> Vec<u8> {
    let pixels = random.bytes(8 * 4 * 3);
    let header = match spoil {
        "no width" => "H4 F12:1 C444",
        "width 0" => "W0 H4 F12:1 C444",
        "width a text" => "Wx H4 F12:1 C444",
        "height 2^64" => "W8 H18446744073709551616 F12:1 C444",
        "a rate over 0" => "W8 H4 F12:0 C444",
        "unknown colours" => "W8 H4 F12:1 C777",
        _ => "W8 H4 F12:1 C444",
    };
    let mut bytes = [b"YUV4MPEG2 ", header.as_bytes(), b"\nFRAME\n", &pixels].concat();
    let start = bytes.len() - pixels.len();
    match spoil {
        "no frame" => bytes.truncate(start - 6),
        "cut in the first frame" => bytes.truncate(start + random.below(pixels.len())),
        "header without end" => bytes = [b"YUV4MPEG2 W8 H4 ", &b"X".repeat(1 << 20)[..]].concat(),
        "as written" => bytes = encoded(Format::Y4m, random),
        _ => {}
    }
    bytes
}

/// An image of the corpus, cut off before the last of its pixels.
fn stored(spoil: &str, bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if spoil == "cut" {
        let half = bytes.len() / 2;
        bytes.truncate(half);
        cut(&mut bytes, random);
    }
    bytes
}

pub(super) fn file(kind: &str, random: &mut Random) -> Vec<u8> {
    match kind.split_once(": ") {
        Some(("PNG", spoil)) => png(spoil, random),
        Some(("GIF", spoil)) => gif(spoil, random),
        Some(("Y4M", spoil)) => y4m(spoil, random),
        Some(("JPEG", spoil)) => stored(spoil, JPEG, random),
        Some(("WebP", spoil)) => stored(spoil, WEBP, random),
        _ if kind == "empty" => Vec::new(),
        _ => [&b"no image "[..], &random.bytes(60)].concat(),
    }
}

//! YUV4MPEG2: a text header, then raw planes; the format video tools pipe to each other.
//!
//! Written planes are 4:4:4 (`C444`), so any size is allowed and no colour is averaged away, in BT.601
//! limited range; 4:2:0, 4:2:2 and luminance alone are read too. The format has no place for a prompt.

use std::{io::Write, path::PathBuf};

use crate::{Clip, Error, Footage, KeepGoing, Result, read, yuv::BT601};

pub(crate) fn encode(clip: &Clip, out: &mut dyn Write, keep_going: &mut KeepGoing<'_>) -> Result<()> {
    let (width, height, rate) = (clip.width(), clip.height(), clip.frame_rate());
    // Ip: progressive, A1:1: square pixels.
    writeln!(out, "YUV4MPEG2 W{width} H{height} F{}:{} Ip A1:1 C444 XCOLORRANGE=LIMITED", rate.num(), rate.den())?;
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        out.write_all(b"FRAME\n")?;
        for plane in BT601.planes(frame) {
            out.write_all(&plane)?;
        }
    }
    Ok(())
}

/// What the header says.
struct Header {
    width: u32,
    height: u32,
    /// Seconds per frame.
    seconds: f64,
    /// How often each axis of a chroma plane is halved; `None` for luminance alone.
    halved: Option<[u32; 2]>,
    full_range: bool,
}

/// Reads a whole file, 8 bits per sample.
pub(crate) fn decode(bytes: &[u8]) -> Result<Footage> {
    let (line, mut rest) = line(bytes).ok_or_else(|| broken("its header has no end".into()))?;
    let header = header(line)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let [chroma_width, chroma_height] = match header.halved {
        Some([x, y]) => [width.div_ceil(1 << x), height.div_ceil(1 << y)],
        None => [0, 0],
    };
    let frame_bytes = width * height + 2 * chroma_width * chroma_height;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (_, data) = line_of_frame(rest).ok_or_else(|| broken(format!("frame {} does not begin with FRAME", frames.len())))?;
        if data.len() < frame_bytes {
            return Err(broken(format!("frame {} ends after {} of {frame_bytes} bytes", frames.len(), data.len())));
        }
        let (luma, chroma) = data[..frame_bytes].split_at(width * height);
        let (cb, cr) = chroma.split_at(chroma_width * chroma_height);
        let mut rgba = Vec::with_capacity(width * height * 4);
        for (at, y) in luma.iter().enumerate() {
            let sample = |plane: &[u8]| match header.halved {
                Some([x, y]) => plane[((at / width) >> y) * chroma_width + ((at % width) >> x)],
                None => 128,
            };
            rgba.extend(BT601.to_rgb([*y, sample(cb), sample(cr)], header.full_range));
            rgba.push(255);
        }
        frames.push((rgba, header.seconds));
        read::check_bytes(header.width, header.height, frames.len())?;
        rest = &data[frame_bytes..];
    }
    if frames.is_empty() {
        return Err(broken("it holds no frames".into()));
    }
    Footage::timed(header.width, header.height, frames)
}

/// The bytes up to a line feed, and those after it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn line_of_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    line(bytes).filter(|(marker, _)| marker.starts_with(b"FRAME"))
}

fn header(line: &[u8]) -> Result<Header> {
    let text = std::str::from_utf8(line).map_err(|_| broken("its header is no text".into()))?;
    let mut header = Header { width: 0, height: 0, seconds: 0.0, halved: Some([1, 1]), full_range: false };
    for word in text.split(' ').skip(1).filter(|word| !word.is_empty()) {
        let (tag, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        let number = || value.parse().map_err(|_| broken(format!("its header says `{word}`")));
        match tag {
            "W" => header.width = number()?,
            "H" => header.height = number()?,
            "F" => header.seconds = seconds(value).ok_or_else(|| broken(format!("its frame rate is `{value}`")))?,
            "C" => {
                let unknown = || broken(format!("its colour space `{value}` is not 8-bit 4:2:0, 4:2:2, 4:4:4 or mono"));
                header.halved = halved(value).ok_or_else(unknown)?;
            }
            "X" if value == "COLORRANGE=FULL" => header.full_range = true,
            _ => {}
        }
    }
    read::check_size(header.width, header.height)?;
    if header.seconds == 0.0 {
        return Err(broken("its header has no frame rate".into()));
    }
    Ok(header)
}

fn seconds(rate: &str) -> Option<f64> {
    let (num, den) = rate.split_once(':')?;
    let (num, den): (u32, u32) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then(|| f64::from(den) / f64::from(num))
}

fn halved(space: &str) -> Option<Option<[u32; 2]>> {
    match space {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Some(Some([1, 1])),
        "422" => Some(Some([1, 0])),
        "444" => Some(Some([0, 0])),
        "mono" => Some(None),
        _ => None,
    }
}

fn broken(message: String) -> Error {
    Error::Decode { path: PathBuf::new(), message }
}

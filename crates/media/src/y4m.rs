//! YUV4MPEG2: a text header, then raw planes; the format video tools pipe to each other.
//!
//! Written planes are 4:4:4 (`C444`), so any size is allowed and no colour is averaged away, in BT.601
//! limited range; 4:2:0, 4:2:2, 4:1:1, luminance alone, alpha and up to 16 bits are read too. The format has no place for a prompt.

use std::{
    io::{BufRead, Read as _, Write as _},
    path::PathBuf,
};

use crate::{
    Error, Head, KeepGoing, Result,
    encode::{Encoder, Out},
    fit::Shape,
    sample::Frame,
    yuv::BT601,
};

pub(crate) struct Y4m<'a>(Out<'a>);

impl<'a> Y4m<'a> {
    pub(crate) fn new(head: &Head, mut out: Out<'a>) -> Result<Self> {
        let Head { width, height, frame_rate: rate, .. } = head;
        // Ip: progressive, A1:1: square pixels.
        writeln!(out, "YUV4MPEG2 W{width} H{height} F{}:{} Ip A1:1 C444 XCOLORRANGE=LIMITED", rate.num(), rate.den())?;
        Ok(Self(out))
    }
}

impl Encoder for Y4m<'_> {
    fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        self.0.write_all(b"FRAME\n")?;
        for plane in BT601.planes(rgba) {
            self.0.write_all(&plane)?;
        }
        // Whoever reads it at the other end of a pipe shows it now.
        Ok(self.0.flush()?)
    }

    fn finish(self: Box<Self>, _: &mut KeepGoing<'_>) -> Result<()> {
        Ok(())
    }
}

/// Longest line of text in a file, in bytes.
const MAX_LINE_BYTES: u64 = 4096;

/// Whether a file begins as one.
pub(crate) fn is_y4m(start: &[u8]) -> bool {
    start.starts_with(b"YUV4MPEG2")
}

/// The planes behind the luminance.
#[derive(Debug, Clone, Copy)]
struct Planes {
    /// How often each axis of a chroma plane is halved; `None` for luminance alone.
    halved: Option<[u32; 2]>,
    has_alpha: bool,
    /// 8 to 16; beyond 8 a sample has two bytes, the low one first.
    bits: u32,
}

/// Frames of a file that is read as far as it is needed.
pub(crate) struct Stream<R> {
    from: R,
    shape: Shape,
    /// Seconds per frame.
    seconds: f64,
    planes: Planes,
    full_range: bool,
    read: usize,
    ended: bool,
}

impl<R: BufRead> Stream<R> {
    /// Reads the header.
    pub(crate) fn new(mut from: R) -> Result<Self> {
        let line = line(&mut from)?.ok_or_else(|| broken("its header has no end".into()))?;
        let text = std::str::from_utf8(&line).map_err(|_| broken("its header is no text".into()))?;
        let planes = Planes { halved: Some([1, 1]), has_alpha: false, bits: 8 };
        let mut stream = Self { from, shape: Shape::square(0, 0), seconds: 0.0, planes, full_range: false, read: 0, ended: false };
        for word in text.split(' ').skip(1).filter(|word| !word.is_empty()) {
            let (tag, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            let number = || value.parse().map_err(|_| broken(format!("its header says `{word}`")));
            match tag {
                "W" => stream.shape.width = number()?,
                "H" => stream.shape.height = number()?,
                "F" => stream.seconds = ratio(value).map(f64::recip).ok_or_else(|| broken(format!("its frame rate is `{value}`")))?,
                // 0:0 says that nobody knows.
                "A" => stream.shape.pixel_aspect = ratio(value).filter(|aspect| (0.01..=100.0).contains(aspect)).unwrap_or(1.0),
                // An installed ffmpeg may know others.
                "C" => stream.planes = planes_of(value).ok_or(Error::UnknownInput { path: PathBuf::new() })?,
                "X" if value == "COLORRANGE=FULL" => stream.full_range = true,
                _ => {}
            }
        }
        if stream.seconds == 0.0 {
            return Err(broken("its header has no frame rate".into()));
        }
        Ok(stream)
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let index = self.read;
        let Some(marker) = line(&mut self.from)? else { return Ok(None) };
        if !marker.starts_with(b"FRAME") {
            return Err(broken(format!("frame {index} does not begin with FRAME")));
        }
        self.read += 1;
        let Planes { halved, has_alpha, bits } = self.planes;
        let (width, height) = (self.shape.width as usize, self.shape.height as usize);
        let [chroma_width, chroma_height] = match halved {
            Some([x, y]) => [width.div_ceil(1 << x), height.div_ceil(1 << y)],
            None => [0, 0],
        };
        let (luma_samples, chroma_samples) = (width * height, chroma_width * chroma_height);
        let samples = luma_samples * if has_alpha { 2 } else { 1 } + 2 * chroma_samples;
        let frame_bytes = samples * if bits > 8 { 2 } else { 1 };
        // Grows with what is there, not with what the header claims.
        let mut data = Vec::new();
        let found = self.from.by_ref().take(frame_bytes as u64).read_to_end(&mut data).map_err(|error| broken(error.to_string()))?;
        if found < frame_bytes {
            return Err(broken(format!("frame {index} ends after {found} of {frame_bytes} bytes")));
        }
        if bits > 8 {
            data = data.chunks_exact(2).map(|pair| (u16::from_le_bytes([pair[0], pair[1]]) >> (bits - 8)).min(255) as u8).collect();
        }
        let (luma, rest) = data.split_at(luma_samples);
        let (cb, rest) = rest.split_at(chroma_samples);
        let (cr, alpha) = rest.split_at(chroma_samples);
        let mut rgba = Vec::with_capacity(luma_samples * 4);
        for (at, y) in luma.iter().enumerate() {
            let sample = |plane: &[u8]| match halved {
                Some([x, y]) => plane[((at / width) >> y) * chroma_width + ((at % width) >> x)],
                None => 128,
            };
            rgba.extend(BT601.to_rgb([*y, sample(cb), sample(cr)], self.full_range));
            rgba.push(alpha.get(at).copied().unwrap_or(255));
        }
        Ok(Some(Frame { rgba, seconds: Some(self.seconds) }))
    }
}

impl<R: BufRead> Iterator for Stream<R> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        if self.ended {
            return None;
        }
        let frame = self.frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        match frame {
            None if self.read == 0 => Some(Err(broken("it holds no frames".into()))),
            frame => frame,
        }
    }
}

/// The bytes up to the next line feed, which are passed; `None` at the end of the file.
fn line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(|error| broken(error.to_string()))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(broken("a line has no end".into())),
    }
}

fn ratio(text: &str) -> Option<f64> {
    let (num, den) = text.split_once(':')?;
    let (num, den): (u32, u32) = (num.parse().ok()?, den.parse().ok()?);
    (num > 0 && den > 0).then(|| f64::from(num) / f64::from(den))
}

fn planes_of(space: &str) -> Option<Planes> {
    // `420p10` and `mono10` have ten bits, `420paldv` does not.
    let digits = space.rfind(|c: char| !c.is_ascii_digit()).map_or("", |last| &space[last + 1..]);
    let deep = |base: &str| space.strip_prefix(base).is_some_and(|rest| rest == digits || rest.strip_prefix('p') == Some(digits));
    let (halved, base) = match space {
        _ if space.starts_with("420") => (Some([1, 1]), "420"),
        _ if space.starts_with("422") => (Some([1, 0]), "422"),
        _ if space.starts_with("444") => (Some([0, 0]), "444"),
        _ if space.starts_with("411") => (Some([2, 0]), "411"),
        _ if space.starts_with("mono") => (None, "mono"),
        _ => return None,
    };
    let eight = matches!(space, "420" | "420jpeg" | "420mpeg2" | "420paldv" | "422" | "444" | "444alpha" | "411" | "mono");
    let bits = match digits.parse() {
        _ if eight => 8,
        Ok(bits @ 9..=16) if deep(base) => bits,
        _ => return None,
    };
    Some(Planes { halved, has_alpha: space == "444alpha", bits })
}

fn broken(message: String) -> Error {
    Error::Decode { path: PathBuf::new(), message }
}

//! Formats that are read from memory: PNG, APNG, GIF, and with features of their names JPEG and WebP. Frames are decoded one by
//! one, and only if the file is large enough to be worth their size.

use std::{borrow::Cow, io::Cursor, path::PathBuf};

use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, codecs::gif::GifDecoder,
    error::LimitErrorKind, metadata::Orientation,
};

use crate::{
    Error, Result, apng,
    fit::Shape,
    sample::{Frame, Frames},
    y4m,
};

/// Longest side that is read, in pixels.
const MAX_SIDE_PX: u32 = 16_384;
/// What can be read from memory, for errors.
pub(crate) const FORMATS: &str = match (cfg!(feature = "jpeg"), cfg!(feature = "webp")) {
    (true, true) => "png, apng, jpeg, webp, gif or y4m",
    (true, false) => "png, apng, jpeg, gif or y4m",
    (false, true) => "png, apng, webp, gif or y4m",
    (false, false) => "png, apng, gif or y4m",
};
/// Pixels that any picture may have, and how many more for each byte of its file: 24 megapixels of a camera take 1 MB at least,
/// while a file of a few bytes may claim anything.
const ANY_FILE_PX: u64 = 16 << 20;
const PX_PER_BYTE: u64 = 8;
/// The same for all frames of a clip together, where most of a frame may be that of the one before.
const ANY_CLIP_PX: u64 = 4 << 30;
const CLIP_PX_PER_BYTE: u64 = 1 << 10;
/// What may be in memory for a GIF, in pictures, and the bytes that a picture counts at least.
const GIF_FRAMES: u64 = 4;
const GIF_LEAST_BYTES: u64 = 1 << 20;
/// Frames of GIF and WebP that claim to last no longer, in seconds, and how long browsers show them then.
const INSTANT_S: f64 = 0.010_5;
const INSTANT_SHOWN_S: f64 = 0.1;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Y4m,
    Still,
    Apng,
    Gif,
    #[cfg(feature = "webp")]
    WebP,
}

/// What is known of a file without its pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

/// Whether a file that begins so is in one of these formats.
pub(crate) fn is_known(start: &[u8]) -> bool {
    y4m::is_y4m(start) || picture_format(start).is_some()
}

fn picture_format(start: &[u8]) -> Option<ImageFormat> {
    let read = [(ImageFormat::Png, true), (ImageFormat::Gif, true), (ImageFormat::Jpeg, cfg!(feature = "jpeg"))];
    let read = read.into_iter().chain([(ImageFormat::WebP, cfg!(feature = "webp"))]).filter(|(_, read)| *read);
    let format = image::guess_format(start).ok()?;
    read.map(|(format, _)| format).find(|known| *known == format)
}

/// Reads what a file says about itself, and refuses what is too large before anything of its size is allocated.
///
/// # Errors
/// [`Error::UnknownInput`], [`Error::Decode`], [`Error::TooLarge`].
pub(crate) fn header(bytes: &[u8]) -> Result<Header> {
    if y4m::is_y4m(bytes) {
        let shape = y4m::Stream::new(bytes)?.shape();
        check_shape(&shape, bytes.len() as u64)?;
        return Ok(Header { kind: Kind::Y4m, shape });
    }
    let (kind, width, height) = match picture_format(bytes) {
        Some(ImageFormat::Png) => match apng::size_if_animated(bytes)? {
            Some([width, height]) => (Kind::Apng, width, height),
            None => still_size(bytes)?,
        },
        Some(ImageFormat::Gif) => {
            let (width, height) = GifDecoder::new(Cursor::new(bytes)).map_err(broken)?.dimensions();
            (Kind::Gif, width, height)
        }
        #[cfg(feature = "webp")]
        Some(ImageFormat::WebP) => {
            let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
            let (width, height) = decoder.dimensions();
            if decoder.has_animation() { (Kind::WebP, width, height) } else { still_size(bytes)? }
        }
        Some(ImageFormat::Jpeg) => {
            check_jpeg_is_whole(bytes)?;
            still_size(bytes)?
        }
        _ => return Err(Error::UnknownInput { path: PathBuf::new() }),
    };
    let shape = Shape::square(width, height);
    check_shape(&shape, bytes.len() as u64)?;
    Ok(Header { kind, shape })
}

/// # Errors
/// [`Error::Decode`] for a side of 0, [`Error::TooLarge`] for sides or an area out of all proportion to the file.
pub(crate) fn check_shape(shape: &Shape, file_bytes: u64) -> Result<()> {
    let Shape { width, height, .. } = *shape;
    if width == 0 || height == 0 {
        return Err(Error::Decode { path: PathBuf::new(), message: format!("its size is {width}x{height}") });
    }
    let found = format!("{width}x{height}");
    if width.max(height) > MAX_SIDE_PX {
        return Err(Error::TooLarge { path: PathBuf::new(), found, limit: format!("{MAX_SIDE_PX} pixels per side") });
    }
    let most = ANY_FILE_PX.saturating_add(file_bytes.saturating_mul(PX_PER_BYTE));
    if u64::from(width) * u64::from(height) > most {
        let limit = format!("{} megapixels for a file of {file_bytes} bytes", most >> 20);
        return Err(Error::TooLarge { path: PathBuf::new(), found, limit });
    }
    Ok(())
}

/// The frames of a file that [`header`] accepted.
pub(crate) fn frames<'a>(bytes: &'a [u8], header: &Header) -> Result<Box<Frames<'a>>> {
    let frames: Box<Frames<'a>> = match header.kind {
        Kind::Y4m => Box::new(y4m::Stream::new(bytes)?),
        Kind::Still => Box::new(std::iter::once_with(|| still(bytes))),
        Kind::Apng => Box::new(alone_is_still(apng::Animation::new(bytes)?)),
        Kind::Gif => {
            // Browsers and most readers show a GIF whose last byte, the trailer, is missing; one too many is not read.
            let whole = if bytes.ends_with(b";") { Cow::Borrowed(bytes) } else { Cow::Owned([bytes, b";"].concat()) };
            let mut decoder = GifDecoder::new(Cursor::new(whole)).map_err(broken)?;
            // A frame may claim to be larger than the picture it is drawn into: what is there, this frame and the picture with it.
            let picture = u64::from(header.shape.width) * u64::from(header.shape.height) * 4;
            let mut limits = Limits::default();
            limits.max_alloc = Some(GIF_FRAMES * picture.max(GIF_LEAST_BYTES));
            decoder.set_limits(limits).map_err(broken)?;
            Box::new(alone_is_still(animation(decoder.into_frames())))
        }
        #[cfg(feature = "webp")]
        Kind::WebP => {
            let mut decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
            // Where a frame is cleared, and before the first, nothing is to be seen. Without this frames are not cleared at all.
            decoder.set_background_color(image::Rgba([0; 4])).map_err(broken)?;
            Box::new(alone_is_still(animation(decoder.into_frames())))
        }
    };
    Ok(budgeted(frames, header.shape, bytes.len() as u64))
}

/// Frames until they are more than a file of this size is worth.
pub(crate) fn budgeted<'a>(frames: Box<Frames<'a>>, shape: Shape, file_bytes: u64) -> Box<Frames<'a>> {
    let each = u64::from(shape.width) * u64::from(shape.height);
    let most = ANY_CLIP_PX.saturating_add(file_bytes.saturating_mul(CLIP_PX_PER_BYTE));
    let mut decoded = 0u64;
    Box::new(frames.map(move |frame| {
        decoded = decoded.saturating_add(each);
        if decoded <= most {
            return frame;
        }
        let found = format!("{} frames of {}x{}", decoded / each.max(1), shape.width, shape.height);
        let limit = format!("{} megapixels of frames for a file of {file_bytes} bytes", most >> 20);
        Err(Error::TooLarge { path: PathBuf::new(), found, limit })
    }))
}

fn animation<'a>(frames: image::Frames<'a>) -> impl Iterator<Item = Result<Frame>> + 'a {
    frames.map(|frame| {
        let frame = frame.map_err(broken)?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        let seconds = if seconds < INSTANT_S { INSTANT_SHOWN_S } else { seconds };
        Ok(Frame { rgba: frame.into_buffer().into_raw(), seconds: Some(seconds) })
    })
}

/// One picture in an animation format is an image, however long it says that it shows.
fn alone_is_still<'a>(mut frames: impl Iterator<Item = Result<Frame>> + 'a) -> impl Iterator<Item = Result<Frame>> + 'a {
    let (first, second) = (frames.next(), frames.next());
    let first = match (first, &second) {
        (Some(Ok(frame)), None) => Ok(Frame { seconds: None, ..frame }),
        (Some(first), _) => first,
        (None, _) => Err(Error::Decode { path: PathBuf::new(), message: "it holds no frames".into() }),
    };
    std::iter::once(first).chain(second).chain(frames)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits
}

/// A PNG without the chunks that nothing here reads and that may unpack to anything: texts and colour profiles.
fn without_bombs(bytes: &[u8]) -> Cow<'_, [u8]> {
    /// Signature of the file; length, name and checksum of a chunk.
    const SIGNATURE: usize = 8;
    const AROUND: usize = 12;
    let unread = |name: &[u8]| [&b"zTXt"[..], b"iTXt", b"tEXt", b"iCCP"].contains(&name);
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Cow::Borrowed(bytes);
    }
    let mut kept = Cow::Borrowed(bytes);
    let mut at = SIGNATURE;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        // What is cut off is for the decoder to say.
        let end = at.saturating_add(AROUND).saturating_add(length).min(bytes.len());
        if unread(&head[4..]) && matches!(kept, Cow::Borrowed(_)) {
            kept = Cow::Owned(bytes[..at].to_vec());
        } else if let (false, Cow::Owned(kept)) = (unread(&head[4..]), &mut kept) {
            kept.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    kept
}

fn still_decoder(bytes: &[u8]) -> Result<(impl ImageDecoder + '_, Orientation)> {
    let mut reader = ImageReader::new(Cursor::new(without_bombs(bytes))).with_guessed_format().map_err(|e| broken(e.into()))?;
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(broken)?;
    // A file without EXIF stands as it is.
    let orientation = decoder.orientation().map_err(broken)?;
    Ok((decoder, orientation))
}

fn still_size(bytes: &[u8]) -> Result<(Kind, u32, u32)> {
    let (decoder, orientation) = still_decoder(bytes)?;
    let (width, height) = decoder.dimensions();
    Ok(match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (Kind::Still, height, width)
        }
        _ => (Kind::Still, width, height),
    })
}

fn still(bytes: &[u8]) -> Result<Frame> {
    let (decoder, orientation) = still_decoder(bytes)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(Frame { rgba: image.into_rgba8().into_raw(), seconds: None })
}

/// The decoder fills what is missing with grey, without a word.
fn check_jpeg_is_whole(bytes: &[u8]) -> Result<()> {
    // Markers as ITU-T T.81 table B.1 numbers them.
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;
    let cut = || Error::Decode { path: PathBuf::new(), message: "the file ends before its picture does".into() };
    let mut at = 2;
    loop {
        // Data of a scan, and what fills the space between segments, is passed over up to the next marker.
        let marker = bytes.get(at..).and_then(|rest| rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff)));
        at += marker.ok_or_else(cut)? + 2;
        match bytes[at - 1] {
            END_OF_IMAGE => return Ok(()),
            // Without a segment: this, restarts, and one that means nothing.
            START_OF_IMAGE | 0x01 | 0xd0..=0xd7 => {}
            _ => {
                let length = bytes.get(at..at + 2).ok_or_else(cut)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

pub(crate) fn broken(error: ImageError) -> Error {
    match error {
        ImageError::Limits(found) => {
            let is_memory = matches!(found.kind(), LimitErrorKind::InsufficientMemory);
            let limit = if is_memory { "what a file of this size is worth".to_owned() } else { format!("{MAX_SIDE_PX} pixels per side") };
            Error::TooLarge { path: PathBuf::new(), found: found.to_string(), limit }
        }
        // An installed ffmpeg may know it.
        ImageError::Unsupported(_) => Error::UnknownInput { path: PathBuf::new() },
        other => Error::Decode { path: PathBuf::new(), message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_profiles_of_png_are_left_out() {
        let mut plain = Vec::new();
        let image = DynamicImage::new_rgb8(3, 2);
        image.write_to(&mut Cursor::new(&mut plain), ImageFormat::Png).expect("encodes");
        assert!(matches!(without_bombs(&plain), Cow::Borrowed(_)), "there is nothing to leave out");
        // Behind IHDR, which ends at 33.
        let mut chunks = Vec::new();
        for name in [b"zTXt", b"iCCP", b"iTXt"] {
            chunks.extend([&5u32.to_be_bytes()[..], name, b"hello", &[0; 4]].concat());
        }
        let spoilt = [&plain[..33], &chunks, &plain[33..]].concat();
        assert_eq!(without_bombs(&spoilt).as_ref(), plain);
        for cut in 0..spoilt.len() {
            let kept = without_bombs(&spoilt[..cut]);
            assert!(kept.len() <= cut, "cut at {cut}");
        }
    }
}

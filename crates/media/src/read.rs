//! Reading images and clips: PNG, APNG, JPEG, WebP, GIF and Y4M by their first bytes, PNG sequences by their name, and
//! whatever else an installed ffmpeg understands.

use std::{
    ffi::OsStr,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

use image::{
    AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageReader, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder},
};

use crate::{
    Error, Footage, Result,
    child::{self, Whole},
    ffmpeg::{Ffmpeg, WORK, file_argument},
    files::file_error,
    pattern::Pattern,
    y4m,
};

/// Longest side that is read, in pixels.
pub(crate) const MAX_SIDE_PX: u32 = 16_384;
/// What can be read from memory, for errors.
pub(crate) const FORMATS: &str = match (cfg!(feature = "jpeg"), cfg!(feature = "webp")) {
    (true, true) => "png, apng, jpeg, webp, gif or y4m",
    (true, false) => "png, apng, jpeg, gif or y4m",
    (false, true) => "png, apng, webp, gif or y4m",
    (false, false) => "png, apng, gif or y4m",
};
/// Bytes of all decoded frames together; a prompt is scaled to the size of a clip anyway.
pub(crate) const MAX_BYTES: usize = 2 << 30;

impl Footage {
    /// Reads a file, a `name-%04d.png` sequence or a folder of PNG files. Images are turned as their EXIF orientation says.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Decode`] for what is no image or clip, [`Error::TooLarge`].
    pub fn open(path: &Path) -> Result<Self> {
        let pattern = path.file_name().is_some_and(|name| name.to_string_lossy().contains('%'));
        if path.is_dir() || pattern {
            return sequence(path);
        }
        let bytes = fs::read(path).map_err(|source| file_error("read", path, source))?;
        match Self::decode(&bytes).map_err(|error| error.in_file(path)) {
            Err(unknown @ Error::UnknownInput { .. }) => match Ffmpeg::locate() {
                Some(program) => through_ffmpeg(&program, path),
                None => Err(unknown),
            },
            other => other,
        }
    }

    /// Reads an image or a clip from memory.
    ///
    /// # Errors
    /// [`Error::UnknownInput`] for another format, [`Error::Decode`], [`Error::TooLarge`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"YUV4MPEG2") {
            return y4m::decode(bytes);
        }
        match image::guess_format(bytes).ok() {
            Some(ImageFormat::Png) => {
                let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(broken)?;
                if decoder.is_apng().map_err(broken)? {
                    let size = checked_size(&decoder)?;
                    return animation(decoder.apng().map_err(broken)?.into_frames(), size);
                }
                still(bytes)
            }
            Some(ImageFormat::Gif) => {
                let decoder = GifDecoder::new(Cursor::new(bytes)).map_err(broken)?;
                let size = checked_size(&decoder)?;
                animation(decoder.into_frames(), size)
            }
            #[cfg(feature = "webp")]
            Some(ImageFormat::WebP) => {
                let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
                if decoder.has_animation() {
                    let size = checked_size(&decoder)?;
                    return animation(decoder.into_frames(), size);
                }
                still(bytes)
            }
            #[cfg(feature = "jpeg")]
            Some(ImageFormat::Jpeg) => still(bytes),
            _ => Err(Error::UnknownInput { path: PathBuf::new() }),
        }
    }
}

/// The first video stream of a file that only ffmpeg knows.
fn through_ffmpeg(program: &Path, path: &Path) -> Result<Footage> {
    // More frames than any clip here is long; the rest is never decoded.
    const MAX_FRAMES: &str = "2000";
    let unreadable = |message: String| Error::Decode { path: path.to_owned(), message };
    let mut command = Command::new(program);
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"]).arg(file_argument(path));
    command.args([
        "-map",
        "0:v:0",
        "-frames:v",
        MAX_FRAMES,
        "-vf",
        "scale=out_color_matrix=bt601:out_range=tv:flags=accurate_rnd+full_chroma_int",
    ]);
    command.args(["-pix_fmt", "yuv444p", "-strict", "-1", "-f", "yuv4mpegpipe", "pipe:1"]);
    let mut talk = Whole::default();
    let limits = child::Limits { output_bytes: MAX_BYTES as u64, ..WORK };
    let ended = child::run(&mut command, limits, &mut talk).map_err(|problem| unreadable(format!("`{}`: {problem}", program.display())))?;
    if !ended.is_success() || talk.output.is_empty() {
        return Err(unreadable(format!("ffmpeg says: {}", ended.last_message())));
    }
    y4m::decode(&talk.output).map_err(|error| error.in_file(path))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits
}

fn checked_size(decoder: &impl ImageDecoder) -> Result<(u32, u32)> {
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    Ok((width, height))
}

/// # Errors
/// [`Error::Decode`] for a side of 0, [`Error::TooLarge`].
pub(crate) fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::Decode { path: PathBuf::new(), message: format!("its size is {width}x{height}") });
    }
    if width.max(height) > MAX_SIDE_PX {
        let found = format!("{width}x{height}");
        return Err(Error::TooLarge { path: PathBuf::new(), found, limit: format!("{MAX_SIDE_PX} pixels per side") });
    }
    Ok(())
}

fn still(bytes: &[u8]) -> Result<Footage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| broken(e.into()))?;
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(broken)?;
    checked_size(&decoder)?;
    // A file without EXIF stands as it is.
    let orientation = decoder.orientation().map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    let image = image.into_rgba8();
    Footage::untimed(image.width(), image.height(), vec![image.into_raw()])
}

fn animation(frames: Frames<'_>, (width, height): (u32, u32)) -> Result<Footage> {
    /// Seconds of frames that claim to last no time at all, as browsers show them.
    const INSTANT_S: f64 = 0.1;
    let mut timed = Vec::new();
    for frame in frames {
        let frame = frame.map_err(broken)?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        timed.push((frame.into_buffer().into_raw(), if seconds > 0.0 { seconds } else { INSTANT_S }));
        check_bytes(width, height, timed.len())?;
    }
    if timed.is_empty() {
        return Err(Error::Decode { path: PathBuf::new(), message: "it holds no frames".into() });
    }
    // One picture in an animation format is an image.
    match timed.len() {
        1 => Footage::untimed(width, height, timed.into_iter().map(|(frame, _)| frame).collect()),
        _ => Footage::timed(width, height, timed),
    }
}

/// # Errors
/// [`Error::TooLarge`] if so many frames do not fit the limit.
pub(crate) fn check_bytes(width: u32, height: u32, frames: usize) -> Result<()> {
    let bytes = (width as usize).saturating_mul(height as usize).saturating_mul(4).saturating_mul(frames);
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let found = format!("{frames} frames of {width}x{height}");
    Err(Error::TooLarge { path: PathBuf::new(), found, limit: format!("{} MB of frames", MAX_BYTES >> 20) })
}

/// PNG files in the order of their numbers, or of their names in a folder.
fn sequence(path: &Path) -> Result<Footage> {
    let files = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|source| file_error("read", path, source))?;
        let png = |path: &PathBuf| path.extension().and_then(OsStr::to_str).is_some_and(|e| e.eq_ignore_ascii_case("png"));
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(png).collect();
        files.sort();
        files
    } else {
        let pattern = Pattern::new(path)?;
        // Sequences start at 0 or 1.
        (0..)
            .map(|index| pattern.path(index))
            .skip_while(|file| *file == pattern.path(0) && !file.exists())
            .take_while(|f| f.exists())
            .collect()
    };
    let mut frames = Vec::with_capacity(files.len());
    let mut size = None;
    for file in &files {
        let bytes = fs::read(file).map_err(|source| file_error("read", file, source))?;
        let footage = Footage::decode(&bytes).map_err(|error| error.in_file(file))?;
        let found = (footage.width(), footage.height());
        let (width, height) = *size.get_or_insert(found);
        if found != (width, height) {
            let message = format!("it is {}x{}, the frames before it are {width}x{height}", found.0, found.1);
            return Err(Error::Decode { path: file.clone(), message });
        }
        frames.extend(footage.into_frames());
        check_bytes(width, height, frames.len()).map_err(|error| error.in_file(path))?;
    }
    let Some((width, height)) = size else {
        return Err(Error::Decode { path: path.to_owned(), message: "there are no PNG files of this name".into() });
    };
    Footage::untimed(width, height, frames)
}

fn broken(error: image::ImageError) -> Error {
    match error {
        image::ImageError::Limits(limit) => {
            Error::TooLarge { path: PathBuf::new(), found: limit.to_string(), limit: format!("{MAX_SIDE_PX} pixels per side") }
        }
        other => Error::Decode { path: PathBuf::new(), message: other.to_string() },
    }
}

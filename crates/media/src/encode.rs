//! The formats, how a name chooses one, and encoding into any writer.

use std::{
    ffi::OsStr,
    io::{Cursor, Read, Seek, Write},
    path::Path,
};

use crate::{Clip, Error, Head, KeepGoing, Metadata, Result, gif, mp4, pattern::has_percent, png, y4m};

/// A way to write a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// MP4: H.264 through ffmpeg; by the built-in encoders AV1, or for small frames H.264 that is nearly uncompressed.
    Mp4,
    /// Looping GIF with one palette for all frames.
    Gif,
    /// Looping animated PNG; an ordinary PNG to software that knows no animation.
    Apng,
    /// One PNG file per frame.
    PngSequence,
    /// Uncompressed YUV4MPEG2, for piping into other video tools.
    Y4m,
}

impl Format {
    /// The name used on the command line and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Gif => "gif",
            Self::Apng => "apng",
            Self::PngSequence => "png",
            Self::Y4m => "y4m",
        }
    }

    /// The format called `name` by [`Format::name`].
    ///
    /// # Errors
    /// An unknown name.
    pub fn from_name(name: &str) -> Result<Self> {
        [Self::Mp4, Self::Gif, Self::Apng, Self::PngSequence, Self::Y4m]
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::UnknownFormat { found: name.to_owned() })
    }

    /// The format a path asks for: by its extension, as a `%04d.png` pattern, or as a folder
    /// (a trailing slash or an existing directory), which receives a PNG sequence.
    ///
    /// # Errors
    /// An extension that names no format.
    pub fn from_path(path: &Path) -> Result<Self> {
        let text = path.to_string_lossy();
        if text.ends_with(['/', '\\']) || path.is_dir() {
            return Ok(Self::PngSequence);
        }
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "mp4" | "m4v" => Ok(Self::Mp4),
            "gif" => Ok(Self::Gif),
            "png" if has_percent(path) => Ok(Self::PngSequence),
            "apng" | "png" => Ok(Self::Apng),
            "y4m" => Ok(Self::Y4m),
            _ => Err(Error::UnknownFormat { found: path.display().to_string() }),
        }
    }
}

/// Checks what is known of a clip before its frames are: whether `format` can hold it.
///
/// # Errors
/// [`Error::Limit`].
pub(crate) fn check(format: Format, head: &Head) -> Result<()> {
    head.check()?;
    match format {
        Format::Gif => gif::check(head.width, head.height, head.frame_rate).map(drop),
        Format::Apng => png::check(head.frames).map(drop),
        _ => Ok(()),
    }
}

/// Where encoded bytes go.
pub(crate) type Out<'a> = Box<dyn Write + Send + 'a>;

/// Where a format that begins with what only the last frame tells lets the others wait.
pub(crate) type Spool = Box<dyn Waiting>;

/// Written once, then read once.
pub(crate) trait Waiting: Read + Write + Seek + Send {}

impl<T: Read + Write + Seek + Send> Waiting for T {}

/// Writes a clip in one format, frame by frame.
pub(crate) trait Encoder: Send {
    /// The next frame: as many bytes as the size demands.
    fn frame(&mut self, rgba: &[u8]) -> Result<()>;

    /// Writes what is left after the last frame.
    fn finish(self: Box<Self>, keep_going: &mut KeepGoing<'_>) -> Result<()>;
}

/// What encodes to `out` in a format that is one stream; `spool` is asked for by those that need one. MP4 comes from the built-in
/// encoder here.
pub(crate) fn encoder<'a>(
    format: Format,
    head: &Head,
    metadata: &Metadata,
    out: Out<'a>,
    spool: &dyn Fn() -> Result<Spool>,
) -> Result<Box<dyn Encoder + 'a>> {
    Ok(match format {
        Format::Gif => Box::new(gif::Gif::new(head, metadata, out, spool()?)?),
        Format::Apng => Box::new(png::Animation::new(head, metadata, out)?),
        Format::Y4m => Box::new(y4m::Y4m::new(head, out)?),
        Format::Mp4 => Box::new(mp4::Mp4::new(head, metadata, out, spool()?)?),
        Format::PngSequence => return Err(Error::NeedsFile { format: format.name() }),
    })
}

/// Writes `clip` to `out` in a format that is one stream. MP4 comes from the built-in encoder here.
///
/// # Errors
/// A clip the format cannot hold, [`Format::PngSequence`], which is several files ([`crate::Output`]
/// writes those), a failing writer, or a stop asked for by `keep_going`.
pub fn encode(
    clip: &Clip,
    format: Format,
    metadata: &Metadata,
    out: &mut (dyn Write + Send),
    keep_going: &mut KeepGoing<'_>,
) -> Result<()> {
    let in_memory = || Ok(Box::new(Cursor::new(Vec::new())) as Spool);
    let mut encoder = encoder(format, &clip.head(), metadata, Box::new(out), &in_memory)?;
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        encoder.frame(frame)?;
    }
    encoder.finish(keep_going)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_the_format() {
        for (path, expected) in [
            ("a.mp4", Format::Mp4),
            ("a.GIF", Format::Gif),
            ("dir.with.dots/a.apng", Format::Apng),
            ("a.png", Format::Apng),
            ("a-%04d.png", Format::PngSequence),
            ("100%/a.png", Format::Apng),
            ("frames/", Format::PngSequence),
            (".", Format::PngSequence),
            ("a.y4m", Format::Y4m),
        ] {
            assert_eq!(Format::from_path(Path::new(path)).ok(), Some(expected), "{path}");
        }
        for path in ["a", "a.webm", "a.mp4.txt", ".mp4", ""] {
            assert!(Format::from_path(Path::new(path)).is_err(), "`{path}` chose a format");
        }
    }

    #[test]
    fn every_format_is_found_by_its_own_name() {
        for format in [Format::Mp4, Format::Gif, Format::Apng, Format::PngSequence, Format::Y4m] {
            assert_eq!(Format::from_name(format.name()).ok(), Some(format), "{}", format.name());
        }
        assert!(Format::from_name("webm").is_err(), "webm is not written yet");
    }
}

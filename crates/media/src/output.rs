//! Where a clip goes, and writing it there whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{
    Clip, Error, Format, Metadata, Result,
    encode::{KeepGoing, encode},
    ffmpeg::Ffmpeg,
    files::{MadeFolder, Partial, Pattern, file_error},
    png,
};

/// Where a clip goes; checked when it is opened, so that a bad name fails before the clip is made.
#[derive(Debug, Clone)]
pub struct Output {
    target: Target,
    format: Format,
    overwrite: bool,
}

#[derive(Debug, Clone)]
enum Target {
    Stdout,
    /// A device or a pipe, written in place: a rename would replace the device itself.
    Special(PathBuf),
    File(PathBuf),
    Sequence(Pattern),
}

/// What [`Output::write`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file, the folder of a sequence, or `-`.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Size of all files together, in bytes.
    pub size_bytes: u64,
    /// What encoded it: `built-in`, or for example `libx264 (ffmpeg)`.
    pub encoder: String,
}

impl Output {
    /// Checks that `path` can be written in `format`, or in the format its name asks for.
    /// `-` is standard output and needs `format`.
    ///
    /// # Errors
    /// An unknown format, a file in the way, a missing or read-only folder.
    pub fn open(path: &Path, format: Option<Format>, overwrite: bool) -> Result<Self> {
        let to_stdout = path == Path::new("-");
        let format = match format {
            Some(format) => format,
            None if to_stdout => {
                return Err(Error::UnknownFormat { found: "-".to_owned() });
            }
            None => Format::from_path(path)?,
        };
        let target = match format {
            Format::PngSequence if to_stdout => {
                return Err(Error::NeedsFile { format: format.name() });
            }
            _ if to_stdout => Target::Stdout,
            Format::PngSequence => Target::Sequence(Pattern::new(path)?),
            _ => match fs::metadata(path) {
                Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Target::Special(path.to_owned()),
                // A symbolic link stays a link: its target is replaced.
                Ok(_) if path.is_symlink() => Target::File(fs::canonicalize(path).map_err(|source| file_error("follow", path, source))?),
                _ => Target::File(path.to_owned()),
            },
        };
        let output = Self { target, format, overwrite };
        output.check()?;
        Ok(output)
    }

    /// The format that will be written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes the clip; `keep_going` is asked before every frame.
    ///
    /// # Errors
    /// See [`Error`]. After an error nothing of this clip is left on disk.
    pub fn write(&self, clip: &Clip, metadata: &Metadata, keep_going: &mut KeepGoing<'_>) -> Result<Written> {
        // Other programs ran since `open`, perhaps for minutes.
        self.check()?;
        let mut encoder = "built-in".to_owned();
        let (path, size_bytes) = match &self.target {
            Target::Stdout => {
                let mut out = Counted { inner: io::stdout().lock(), bytes: 0 };
                encode(clip, self.format, metadata, &mut out, keep_going)?;
                out.flush()?;
                (Path::new("-"), out.bytes)
            }
            Target::Special(path) => {
                let file = OpenOptions::new().write(true).open(path).map_err(|source| file_error("open", path, source))?;
                let mut out = Counted { inner: BufWriter::new(file), bytes: 0 };
                encode(clip, self.format, metadata, &mut out, keep_going).map_err(|error| at(path, error))?;
                out.flush().map_err(|source| file_error("write", path, source))?;
                (path.as_path(), out.bytes)
            }
            Target::File(path) => {
                let (partial, file) = Partial::create(path)?;
                match (self.format == Format::Mp4).then(Ffmpeg::find).flatten() {
                    Some(ffmpeg) => {
                        drop(file);
                        encoder = ffmpeg.encode(clip, metadata, partial.path(), keep_going)?;
                    }
                    None => write_file(path, file, |out| encode(clip, self.format, metadata, out, keep_going))?,
                }
                (path.as_path(), partial.commit(path)?)
            }
            Target::Sequence(pattern) => (pattern.shown(), write_sequence(pattern, clip, metadata, keep_going)?),
        };
        Ok(Written { path: path.to_owned(), format: self.format, size_bytes, encoder })
    }

    /// Nothing in the way, and the folder takes files.
    fn check(&self) -> Result<()> {
        let first = match &self.target {
            Target::Stdout | Target::Special(_) => return Ok(()),
            Target::File(path) => path.clone(),
            Target::Sequence(pattern) => pattern.path(0),
        };
        if first.is_dir() {
            return Err(file_error("write", &first, io::ErrorKind::IsADirectory.into()));
        }
        if !self.overwrite && first.exists() {
            return Err(Error::Exists { path: first });
        }
        match &self.target {
            // The folder is made when the frames are there; its parent must take it.
            Target::Sequence(pattern) if !pattern.folder().exists() => Partial::create(pattern.folder()).map(drop),
            _ => Partial::create(&first).map(drop),
        }
    }
}

/// Writes all frames under temporary names, then renames them all.
fn write_sequence(pattern: &Pattern, clip: &Clip, metadata: &Metadata, keep_going: &mut KeepGoing<'_>) -> Result<u64> {
    // Frames of an older, longer clip would play after ours.
    let after = pattern.path(clip.frames().len());
    if after.exists() {
        return Err(Error::Exists { path: after });
    }
    let made = MadeFolder::ensure(pattern.folder())?;
    let mut partials = Vec::with_capacity(clip.frames().len());
    for index in 0..clip.frames().len() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        let path = pattern.path(index);
        let (partial, file) = Partial::create(&path)?;
        write_file(&path, file, |out| png::encode_still(clip, index, metadata, out))?;
        partials.push((partial, path));
    }
    let mut size_bytes = 0;
    for (partial, path) in partials {
        size_bytes += partial.commit(&path)?;
    }
    made.keep();
    Ok(size_bytes)
}

fn write_file(path: &Path, file: File, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(file);
    write(&mut out).map_err(|error| at(path, error))?;
    out.flush().map_err(|source| file_error("write", path, source))
}

/// Names the file in an error of a writer that did not know it.
fn at(path: &Path, error: Error) -> Error {
    match error {
        Error::Write(source) => file_error("write", path, source),
        other => other,
    }
}

/// A writer that knows how much went through it.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

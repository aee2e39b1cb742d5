//! Where a clip goes, and writing it there whole or not at all.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    Claim, Clip, Error, Format, FrameRate, KeepGoing, Metadata, Place, Result,
    encode::{check, encode},
    ffmpeg::Ffmpeg,
    files::{MadeFolder, Partial, file_error, remove_abandoned},
    pattern::Pattern,
    place::{Claimed, canonical, check_free, followed},
    png,
};

/// Other sequences that are tried for one whose names are taken.
const MAX_COPIES: u32 = 100;

/// Where a clip goes; checked when it is opened, so that a bad name fails before the clip is made.
#[derive(Debug, Clone)]
pub struct Output {
    target: Target,
    format: Format,
    overwrite: bool,
}

#[derive(Debug, Clone)]
enum Target {
    One(Place),
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
            Format::PngSequence if to_stdout => return Err(Error::NeedsFile { format: format.name() }),
            Format::PngSequence => {
                let pattern = Pattern::new(path)?;
                check_sequence(&pattern, overwrite)?;
                Target::Sequence(pattern)
            }
            _ => Target::One(Place::open(path, overwrite)?),
        };
        Ok(Self { target, format, overwrite })
    }

    /// The same, where the name was made up: if it is taken before the clip is finished, the next free one will do.
    #[must_use]
    pub fn numbered(self) -> Self {
        let target = match self.target {
            Target::One(place) => Target::One(place.numbered()),
            sequence => sequence,
        };
        Self { target, ..self }
    }

    /// The format that will be written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// What this writes to.
    #[must_use]
    pub fn claim(&self) -> Claim {
        match &self.target {
            Target::One(place) => place.claim(),
            Target::Sequence(pattern) => Claim(Claimed::Sequence(pattern.in_folder(canonical(&here(pattern.folder()))))),
        }
    }

    /// Checks what is known of a clip before it is made: whether the format can hold it, whether all its frames can have their
    /// names, and whether the program that would encode it answers.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Exists`], [`Error::File`], [`Error::Encoder`].
    pub fn check(&self, width: u32, height: u32, frame_rate: FrameRate, frames: usize) -> Result<()> {
        check(self.format, width, height, frame_rate)?;
        match &self.target {
            Target::Sequence(pattern) => {
                check_frame(pattern, frames.saturating_sub(1), self.overwrite)?;
                // Frames of an older, longer clip would play after ours.
                check_frame(pattern, frames, self.overwrite)
            }
            Target::One(place) => Ffmpeg::find_for(self.format, place).map(drop),
        }
    }

    /// Writes the clip; `keep_going` is asked before every frame, and again while it is waited for.
    ///
    /// # Errors
    /// See [`Error`]. After an error nothing of this clip is left on disk, except under the name that [`Error::Exists`] says.
    pub fn write(&self, clip: &Clip, metadata: &Metadata, keep_going: &mut KeepGoing<'_>) -> Result<Written> {
        let mut encoder = "built-in".to_owned();
        let (path, size_bytes) = match &self.target {
            Target::Sequence(pattern) => self.write_sequence(pattern, clip, metadata, keep_going)?,
            Target::One(place) => match Ffmpeg::find_for(self.format, place)? {
                Some(ffmpeg) => place.write_file(&mut |partial| {
                    encoder = ffmpeg.encode(clip, metadata, partial.path(), keep_going)?;
                    Ok(())
                })?,
                None => place.write(&mut |out| encode(clip, self.format, metadata, out, keep_going))?,
            },
        };
        Ok(Written { path, format: self.format, size_bytes, encoder })
    }

    /// Writes all frames under temporary names, then renames them all.
    fn write_sequence(
        &self,
        pattern: &Pattern,
        clip: &Clip,
        metadata: &Metadata,
        keep_going: &mut KeepGoing<'_>,
    ) -> Result<(PathBuf, u64)> {
        let num_frames = clip.frames().len();
        let made = MadeFolder::ensure(pattern.folder())?;
        let mut partials = Vec::with_capacity(num_frames);
        let mut size_bytes = 0;
        for index in 0..num_frames {
            if !keep_going(index) {
                return Err(Error::Interrupted);
            }
            let path = followed(&pattern.path(index))?;
            let partial = Partial::create(&path)?;
            let mut out = BufWriter::new(partial.file());
            png::encode_still(clip, index, metadata, &mut out).map_err(|error| match error {
                Error::Write(source) => file_error("write", &path, source),
                other => other,
            })?;
            out.flush().map_err(|source| file_error("write", &path, source))?;
            drop(out);
            size_bytes += partial.settle(&path)?;
            partials.push(partial);
        }
        match name_all(&partials, pattern, self.overwrite) {
            Ok(()) => {}
            Err(Error::Exists { path, .. }) => {
                // Someone else took a name. What took minutes to make is not thrown away.
                let other = (2..MAX_COPIES).map(|copy| pattern.other(copy)).find(|other| check_sequence(other, false).is_ok());
                let kept = other.and_then(|other| {
                    let made = MadeFolder::ensure(other.folder()).ok()?;
                    name_all(&partials, &other, false).ok()?;
                    made.keep();
                    Some(other.shown())
                });
                return Err(Error::Exists { path, kept });
            }
            Err(error) => return Err(error),
        }
        made.keep();
        if self.overwrite {
            // What is replaced is the whole sequence: frames of an older, longer one would play after ours.
            (num_frames..).map(|index| pattern.path(index)).take_while(|old| old.is_file() && fs::remove_file(old).is_ok()).for_each(drop);
        }
        Ok((pattern.shown(), size_bytes))
    }
}

/// Gives all frames their names, or none.
fn name_all(partials: &[Partial], pattern: &Pattern, overwrite: bool) -> Result<()> {
    let mut named: Vec<PathBuf> = Vec::with_capacity(partials.len());
    // A frame that was added meanwhile would play after ours.
    let after = pattern.path(partials.len());
    let all = partials.iter().enumerate().try_for_each(|(index, partial)| {
        let path = followed(&pattern.path(index))?;
        partial.rename(&path, overwrite).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: path.clone(), kept: None },
            _ => file_error("rename to", &path, error),
        })?;
        named.push(path);
        Ok(())
    });
    let all = all.and_then(|()| if overwrite { Ok(()) } else { check_free(&after, &after, false) });
    if all.is_err() {
        partials.iter().zip(&named).for_each(|(partial, path)| partial.take_back(path));
    }
    all
}

/// The first frame can have its name, and the folder takes files or can be made.
fn check_sequence(pattern: &Pattern, overwrite: bool) -> Result<()> {
    check_frame(pattern, 0, overwrite)?;
    let first = match pattern.folder() {
        // It is made when the frames are there; its parent must take it.
        folder if !folder.as_os_str().is_empty() && !folder.exists() => folder.components().collect(),
        _ => pattern.path(0),
    };
    remove_abandoned(&first);
    Partial::create(&first).map(drop)
}

fn check_frame(pattern: &Pattern, index: usize, overwrite: bool) -> Result<()> {
    let path = pattern.path(index);
    check_free(&followed(&path)?, &path, overwrite)
}

/// The current folder by its name.
fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() }
}

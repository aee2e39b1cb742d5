//! Where a clip goes, and writing it there whole or not at all.

use std::path::{Path, PathBuf};

use crate::{
    Claim, Clip, Error, Format, Head, KeepGoing, Metadata, Place, Result, Writing,
    encode::{check, encoder},
    ffmpeg::Ffmpeg,
    pattern::Pattern,
    place::{Claimed, canonical},
    sequence::{Sequence, check_frame, check_sequence},
    writing,
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
    /// [`Error::Size`], [`Error::Limit`], [`Error::Exists`], [`Error::File`], [`Error::Encoder`].
    pub fn check(&self, head: &Head) -> Result<()> {
        check(self.format, head)?;
        match &self.target {
            Target::Sequence(pattern) => {
                let frames = head.frames.unwrap_or(1);
                check_frame(pattern, frames.saturating_sub(1), self.overwrite)?;
                // Frames of an older, longer clip would play after ours.
                check_frame(pattern, frames, self.overwrite)
            }
            Target::One(place) => Ffmpeg::find_for(self.format, place).map(drop),
        }
    }

    /// Begins to write a clip whose frames come one by one.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn begin(&self, head: Head, metadata: &Metadata) -> Result<Writing> {
        check(self.format, &head)?;
        // No format makes more of a frame than its pixels; of a clip without an end nobody knows.
        let bytes = 4 * u64::from(head.width) * u64::from(head.height) * head.frames.unwrap_or(0) as u64;
        let target = match &self.target {
            Target::Sequence(pattern) => writing::Target::Sequence(Sequence::begin(pattern, &head, metadata, self.overwrite)?),
            Target::One(place) => match Ffmpeg::find_for(self.format, place)? {
                Some(ffmpeg) => {
                    let partial = place.begin_file(bytes)?;
                    writing::Target::Ffmpeg(ffmpeg.begin(&head, metadata, partial.path())?, place.clone(), partial)
                }
                None => {
                    let (out, ending) = place.begin(bytes)?;
                    let encoder = encoder(self.format, &head, metadata, out, &|| Ok(Box::new(place.waiting(bytes)?)));
                    writing::Target::Stream(encoder.map_err(|error| place.named(error))?, place.clone(), ending)
                }
            },
        };
        Ok(Writing::new(target, head, self.format))
    }

    /// Writes the clip; `keep_going` is asked before every frame, and again while it is waited for.
    ///
    /// # Errors
    /// See [`Error`]. After an error nothing of this clip is left on disk, except under the name that [`Error::Exists`] or
    /// [`Error::Kept`] says.
    pub fn write(&self, clip: &Clip, metadata: &Metadata, keep_going: &mut KeepGoing<'_>) -> Result<Written> {
        let mut writing = self.begin(clip.head(), metadata)?;
        clip.frames().iter().try_for_each(|frame| writing.frame(frame, keep_going))?;
        writing.finish(keep_going)
    }
}

/// The current folder by its name.
fn here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() }
}

//! What can go wrong while a clip becomes a file or a file a prompt, each with a stable code and a remedy.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::decode::FORMATS;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The clip is empty.
    #[error("a clip needs at least one frame, found none")]
    NoFrames,
    /// A side is zero or too long.
    #[error("frame size {width}x{height} is outside 1..={limit} pixels per side")]
    Size {
        /// Width found, in pixels.
        width: u32,
        /// Height found, in pixels.
        height: u32,
        /// Longest side allowed, in pixels.
        limit: u32,
    },
    /// A frame does not hold `width · height` RGBA pixels.
    #[error("frame {index} holds {found} bytes, expected {expected} ({width}x{height} RGBA)")]
    FrameBytes {
        /// Position in the clip.
        index: usize,
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: u64,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The frame rate is not usable.
    #[error("frame rate {found} is outside 0.01..=1000 frames per second")]
    FrameRate {
        /// Rate found.
        found: f64,
    },
    /// The file name names no known format.
    #[error("cannot tell the format of `{found}`: expected .mp4, .gif, .apng, .png, .y4m, name-%04d.png or a folder")]
    UnknownFormat {
        /// File name or format name.
        found: String,
    },
    /// A format cannot hold this clip.
    #[error("{format} cannot hold this clip: {what} is {found}, the limit is {limit}")]
    Limit {
        /// Format name.
        format: &'static str,
        /// Which property.
        what: &'static str,
        /// Its value.
        found: String,
        /// What the format allows.
        limit: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The output exists and was not to be overwritten.
    #[error("`{}` already exists{}", path.display(), kept.as_ref().map(|kept| format!("; what was made is kept as `{}`", kept.display())).unwrap_or_default())]
    Exists {
        /// The file in the way.
        path: PathBuf,
        /// Where the finished clip is, if the file came while it was made.
        kept: Option<PathBuf>,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder took no more when the clip was finished.
    #[error("cannot write `{}`: {source}; what was made is kept as `{}`", path.display(), kept.display())]
    Kept {
        /// The file that was to be.
        path: PathBuf,
        /// Where the finished clip is.
        kept: PathBuf,
        /// Why it is not there.
        source: io::Error,
    },
    /// Writing to a stream failed.
    #[error("cannot write the encoded clip: {0}")]
    Write(#[from] io::Error),
    /// The encoder refused or broke.
    #[error("the {format} encoder failed: {message}")]
    Encoder {
        /// Format name.
        format: &'static str,
        /// The encoder's own message.
        message: String,
    },
    /// The format cannot be written to a stream.
    #[error("{format} cannot be written to standard output: it needs a file")]
    NeedsFile {
        /// Format name.
        format: &'static str,
    },
    /// A prompt is in no format that can be read.
    #[error("cannot read the format of `{}`: expected {FORMATS}", path.display())]
    UnknownInput {
        /// The file; empty for data in memory.
        path: PathBuf,
    },
    /// A prompt is damaged or empty.
    #[error("cannot read `{}`: {message}", path.display())]
    Decode {
        /// The file; empty for data in memory.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A clip where an image is needed.
    #[error("`{}` has {frames} frames, expected one image", path.display())]
    NotAnImage {
        /// The file; empty for data in memory.
        path: PathBuf,
        /// Its frames.
        frames: usize,
    },
    /// A prompt has more pixels than can be read.
    #[error("`{}` is too large: found {found}, the limit is {limit}", path.display())]
    TooLarge {
        /// The file; empty for data in memory.
        path: PathBuf,
        /// Its size.
        found: String,
        /// What can be read.
        limit: String,
    },
    /// The caller asked to stop.
    #[error("stopped while writing the clip; no file was left behind")]
    Interrupted,
}

impl Error {
    /// A stable name for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoFrames | Self::Size { .. } | Self::FrameBytes { .. } | Self::FrameRate { .. } => "bad-clip",
            Self::UnknownFormat { .. } => "unknown-format",
            Self::Limit { .. } => "format-limit",
            Self::Exists { .. } => "output-exists",
            Self::File { action: "read", .. } => "input-failed",
            Self::File { .. } | Self::Write(_) | Self::Kept { .. } => "output-failed",
            Self::Encoder { .. } => "encoder-failed",
            Self::NeedsFile { .. } => "needs-file",
            Self::UnknownInput { .. } => "unknown-input",
            Self::Decode { .. } => "input-unreadable",
            Self::NotAnImage { .. } => "not-an-image",
            Self::TooLarge { .. } => "input-too-large",
            Self::Interrupted => "interrupted",
        }
    }

    /// What the reader can do about it, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownFormat { .. } => "name the file clip.gif, clip.mp4, …, or give --format",
            Self::Limit { remedy, .. } => remedy,
            Self::Exists { kept: Some(_), .. } => "something else wrote the file meanwhile",
            Self::Exists { .. } => "choose another name or give --overwrite",
            Self::File { action: "read", source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                "start what writes to the pipe beforehand, or give a file"
            }
            Self::File { action: "read", .. } => "check that the file exists and that you may read it",
            Self::File { .. } => "check that the folder exists, is writable and has space",
            Self::Kept { .. } => "move it to a folder that has space for it",
            Self::Encoder { format: "mp4", .. } => "set KINORA_FFMPEG= (empty) to use the built-in encoder, or write .gif or .apng",
            Self::NeedsFile { .. } => "give a file name or a pattern like frame-%04d.png",
            Self::UnknownInput { .. } => {
                "convert the file to one of these; the command reads other files, not pipes, where ffmpeg is installed"
            }
            Self::NotAnImage { .. } => "give it as `video` to use a clip",
            Self::Decode { .. } => "check that the file opens in an image viewer or player",
            Self::TooLarge { .. } => "scale the file down or cut it first; it is fitted to the size of the video anyway",
            Self::FrameRate { .. } => "12 to 30 frames per second suit most clips",
            _ => return None,
        })
    }

    /// Names the file in an error of a reader that did not know it.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        if let Self::UnknownInput { path } | Self::Decode { path, .. } | Self::NotAnImage { path, .. } | Self::TooLarge { path, .. } =
            &mut self
            && path.as_os_str().is_empty()
        {
            file.clone_into(path);
        }
        self
    }
}

//! Arguments of `kinora storyboard`.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use kinora_media::Format;

/// A script and the film that becomes of it.
#[derive(Debug, Args)]
pub(crate) struct StoryboardArgs {
    /// The script, in TOML: flags of `kinora generate` for all scenes, `style`, `[cast]` with what {name} stands for, and a
    /// `[[scene]]` with `prompt` for each, flags of its own, and `continues = true` where it is no cut
    #[arg(value_name = "SCRIPT")]
    pub(crate) script: PathBuf,
    /// File to write: .mp4, .gif, .apng, .y4m, name-%04d.png or folder/
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Format, where the file name does not tell it: mp4, gif, apng, png or y4m
    #[arg(long, value_parser = super::parse_format)]
    pub(crate) format: Option<Format>,
    /// Replace an existing file
    #[arg(short = 'y', long)]
    pub(crate) overwrite: bool,
    /// Keep the shots in this folder: next time those are made again whose scenes were changed
    #[arg(long, value_name = "DIR")]
    pub(crate) scenes: Option<PathBuf>,
    /// Flags of `kinora generate` for all scenes, after `--`, such as the model's
    #[arg(value_name = "FLAGS", last = true)]
    pub(crate) words: Vec<OsString>,
}

//! Turns a clip of RGBA frames into a file that people can watch, and reads images and clips as prompts ([`Source`]).
//!
//! The encoders write to any [`std::io::Write`] and need neither GPU, threads nor processes, so they
//! also serve the browser. [`Output`] adds what a command line needs: the format chosen by the file
//! name, files that appear whole or not at all and never over another, and smaller MP4 through an installed ffmpeg. [`Writing`]
//! takes frames while they are made: none is kept in memory.
//!
//! | format | by name | colour | metadata | limits |
//! |---|---|---|---|---|
//! | [`Format::Mp4`] | `.mp4` | H.264 or, without ffmpeg and above 256×256 pixels, AV1; 4:2:0, BT.709 limited | description, comment | odd sides grow by one pixel |
//! | [`Format::Gif`] | `.gif` | 255 colours, ordered dithering | comment block | 65,535 px, 50 frames/s |
//! | [`Format::Apng`] | `.apng`, `.png` | lossless sRGB | iTXt | — |
//! | [`Format::PngSequence`] | `name-%04d.png`, a folder | lossless sRGB | iTXt | — |
//! | [`Format::Y4m`] | `.y4m` | 4:4:4, BT.601 limited | none | alpha is dropped |
//!
//! Read are PNG, APNG, GIF and Y4M, with the features of these names JPEG and WebP, PNG sequences, and through an installed ffmpeg whatever it knows.
//!
//! ```
//! use kinora_media::{encode, Clip, Format, FrameRate, Metadata};
//!
//! let frames = vec![vec![255; 2 * 2 * 4], vec![0; 2 * 2 * 4]]; // two frames of 2×2 RGBA
//! let clip = Clip::new(2, 2, FrameRate::from_f64(12.0)?, frames)?;
//! let mut file = Vec::new();
//! encode(&clip, Format::Gif, &Metadata::default(), &mut file, &mut |_| true)?;
//! assert!(file.starts_with(b"GIF89a"));
//! # Ok::<(), kinora_media::Error>(())
//! ```

mod apng;
#[cfg(feature = "av1")]
mod av1;
mod avif;
pub mod child;
mod clip;
mod decode;
mod demux;
mod encode;
mod error;
mod ffmpeg;
mod files;
mod fit;
mod gif;
mod h264;
mod made;
mod mp4;
mod on_disk;
mod output;
mod palette;
mod pattern;
mod pipe;
mod place;
mod png;
mod sample;
mod sequence;
mod source;
mod writing;
mod y4m;
mod yuv;

pub use clip::{Clip, FrameRate, Head, KeepGoing, Metadata};
pub use encode::{Format, encode};
pub use error::Error;
pub use ffmpeg::find_ffmpeg;
pub use files::{discard_unfinished, survive_file_limits};
pub use made::Made;
pub use output::{Output, Written};
pub use pipe::{Input, open_input};
pub use place::{Claim, Place};
pub use sample::{Need, Part, Taken};
pub use source::Source;
pub use writing::Writing;

/// Result of every function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

//! [`Event`]: what is told while a clip is made, in the same words to the command, its JSON lines and the npm package.

use serde::Serialize;

use crate::metadata::Metadata;
use crate::understanding::Wording;

/// How far a clip is. A runtime that is given a request tells of everything from the text to decoding; who reads options and
/// writes files tells of the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// Everything is decided: what the clip will be made from.
    Start(Box<Metadata>),
    /// Something that may surprise, such as an image that had to be enlarged.
    Note {
        /// One line for people.
        text: String,
    },
    /// What the prompt was taken for, in the words of a model that lists them.
    Prompt(Wording),
    /// The prompt was read.
    Text {
        /// Its tokens.
        tokens: usize,
        /// Whether it was longer than the model reads.
        truncated: bool,
    },
    /// A denoising step is done.
    Step {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// Whether it was made from what the model said before, as
        /// [`GenerateRequest::step_cache`](crate::GenerateRequest::step_cache) allows.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        reused: bool,
        /// RGBA bytes of the first frame as the model predicts it now, where
        /// [`GenerateRequest::preview_every`](crate::GenerateRequest::preview_every) asks for it, and of
        /// [more](crate::GenerateRequest::preview_frames).
        #[serde(skip)]
        preview: Option<Vec<u8>>,
    },
    /// The latents are being decoded to this many frames.
    Decode {
        /// Frames.
        frames: usize,
    },
    /// The decoded frames are being refined.
    #[serde(rename_all = "camelCase")]
    Refine {
        /// `interpolate` or `upscale`.
        stage: &'static str,
        /// `model`, or what stands in for a stage that the model does not have: `matching` or `catmull-rom`.
        by: &'static str,
        /// That become of it.
        frames: usize,
    },
    /// A frame is being written.
    Write {
        /// Which, from 1.
        frame: usize,
        /// Of how many.
        frames: usize,
    },
    /// The clip is there.
    Done,
}

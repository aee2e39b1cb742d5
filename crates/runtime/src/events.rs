//! [`Event`]: what is told while a generation runs.

/// How far a generation is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
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
        /// RGBA bytes of the first frame as the model predicts it now, where [`GenerateRequest::preview_every`](crate::GenerateRequest::preview_every) asks for it.
        preview: Option<Vec<u8>>,
    },
    /// The latents are being decoded to this many frames.
    Decode {
        /// Frames.
        frames: usize,
    },
}

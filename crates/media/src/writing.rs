//! A clip that is being written while its frames are made.

use crate::{
    Error, Format, Head, KeepGoing, Place, Result, Written, encode::Encoder, ffmpeg::Encoding, files::Partial, place::Ending,
    sequence::Sequence,
};

/// Takes the frames of a clip one by one and keeps none of them; dropped before it is finished, it leaves nothing, but for frames
/// of a sequence whose length nobody knew.
pub struct Writing {
    target: Target,
    head: Head,
    format: Format,
    count: usize,
}

/// What is written to. Fields go in their order: what writes, before the file that it writes.
pub(crate) enum Target {
    Stream(Box<dyn Encoder>, Place, Ending),
    Ffmpeg(Encoding, Place, Partial),
    Sequence(Sequence),
}

impl Writing {
    pub(crate) fn new(target: Target, head: Head, format: Format) -> Self {
        Self { target, head, format, count: 0 }
    }

    /// Writes the next frame, `[height, width, 4]` bytes of sRGB and alpha.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn frame(&mut self, rgba: &[u8], keep_going: &mut KeepGoing<'_>) -> Result<()> {
        self.head.check_frame(self.count, rgba)?;
        if !keep_going(self.count) {
            return Err(Error::Interrupted);
        }
        match &mut self.target {
            Target::Stream(encoder, place, _) => encoder.frame(rgba).map_err(|error| place.named(error))?,
            Target::Ffmpeg(encoding, ..) => encoding.frame(rgba, keep_going)?,
            Target::Sequence(sequence) => sequence.frame(rgba)?,
        }
        self.count += 1;
        Ok(())
    }

    /// How many frames were written.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Gives what was written its name.
    ///
    /// # Errors
    /// [`Error::NoFrames`], and others of [`Error`]: then nothing of this clip is left on disk, except under the name that
    /// [`Error::Exists`] or [`Error::Kept`] says.
    pub fn finish(self, keep_going: &mut KeepGoing<'_>) -> Result<Written> {
        if self.count == 0 {
            return Err(Error::NoFrames);
        }
        let mut by = "built-in".to_owned();
        let (path, size_bytes) = match self.target {
            Target::Stream(encoder, place, ending) => {
                encoder.finish(keep_going).map_err(|error| place.named(error))?;
                ending.end(&place)?
            }
            Target::Ffmpeg(encoding, place, partial) => {
                by = encoding.finish(keep_going)?;
                place.end_file(partial)?
            }
            Target::Sequence(sequence) => sequence.finish()?,
        };
        Ok(Written { path, format: self.format, size_bytes, encoder: by })
    }
}

//! GIF: one palette, dithering fixed to the pixel grid, and only changed pixels written.

use std::io::{Read as _, Seek as _, Write as _};

use gif::{AnyExtension, DisposalMethod, EncodingError, Extension, Frame, Repeat};

use crate::{
    Error, FrameRate, Head, KeepGoing, Metadata, Result,
    encode::{Encoder, Out, Spool},
    palette::{Histogram, Palette},
};

/// Colours of a clip; one of the 256 indices is left for "unchanged since the last frame".
const MAX_COLOURS: usize = 255;
/// A pixel that moved by no more than this, in levels of each channel, keeps its index: decoder noise
/// on a still background would otherwise make the dithering flicker.
const STILL_LEVELS: u8 = 4;
/// Browsers show frames shorter than 2/100 s as if they lasted 10/100 s.
const MAX_FPS: f64 = 50.0;

/// The palette is that of all frames, hence they wait in the spool until the last is there.
pub(crate) struct Gif<'a> {
    head: Head,
    comment: String,
    out: Out<'a>,
    waiting: Spool,
    colours: Histogram,
    count: usize,
}

impl<'a> Gif<'a> {
    pub(crate) fn new(head: &Head, metadata: &Metadata, out: Out<'a>, waiting: Spool) -> Result<Self> {
        check(head.width, head.height, head.frame_rate)?;
        Ok(Self { head: *head, comment: metadata.comment.clone(), out, waiting, colours: Histogram::default(), count: 0 })
    }
}

impl Encoder for Gif<'_> {
    fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        self.colours.add(rgba);
        self.count += 1;
        Ok(self.waiting.write_all(rgba)?)
    }

    fn finish(self: Box<Self>, keep_going: &mut KeepGoing<'_>) -> Result<()> {
        let Self { head, comment, out, mut waiting, colours, count } = *self;
        let fps = head.frame_rate.as_f64();
        let [width, height] = check(head.width, head.height, head.frame_rate)?;
        let palette = Palette::new(&colours, MAX_COLOURS);
        let mut encoder = gif::Encoder::new(out, width, height, &palette.rgb()).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        if !comment.is_empty() {
            let extension = AnyExtension(Extension::Comment as u8);
            encoder.write_raw_extension(extension, &[comment.as_bytes()]).map_err(failed)?;
        }
        let mut canvas = Canvas::new(&head, palette);
        let mut rgba = vec![0; 4 * canvas.shown.len()];
        waiting.rewind()?;
        for index in 0..count {
            if !keep_going(index) {
                return Err(Error::Interrupted);
            }
            waiting.read_exact(&mut rgba)?;
            let mut frame = canvas.draw(&rgba);
            frame.delay = delay(index, fps)?;
            encoder.write_frame(&frame).map_err(failed)?;
        }
        encoder.into_inner().map_err(failed)?.flush()?;
        Ok(())
    }
}

/// The sides as the format holds them.
///
/// # Errors
/// [`Error::Limit`] for a clip that the format cannot hold.
pub(crate) fn check(width: u32, height: u32, frame_rate: FrameRate) -> Result<[u16; 2]> {
    let fps = frame_rate.as_f64();
    if fps > MAX_FPS {
        return Err(limit("the frame rate", fps.to_string(), MAX_FPS.to_string()));
    }
    delay(0, fps)?;
    let side = |pixels: u32| u16::try_from(pixels).map_err(|_| limit("a side", pixels.to_string(), u16::MAX.to_string()));
    Ok([side(width)?, side(height)?])
}

/// What a player shows: the source colour each visible index was chosen for.
struct Canvas {
    palette: Palette,
    width: usize,
    shown: Vec<Option<([u8; 3], u8)>>,
}

impl Canvas {
    fn new(head: &Head, palette: Palette) -> Self {
        let (width, height) = (head.width as usize, head.height as usize);
        Self { palette, width, shown: vec![None; width * height] }
    }

    /// The rectangle of changed pixels, unchanged ones inside it transparent.
    fn draw(&mut self, rgba: &[u8]) -> Frame<'static> {
        // The index after the last colour; fits a byte because of MAX_COLOURS.
        let unchanged = self.palette.len() as u8;
        let mut indices = vec![unchanged; self.shown.len()];
        for (at, pixel) in rgba.chunks_exact(4).enumerate() {
            let rgb = [pixel[0], pixel[1], pixel[2]];
            let shown = self.shown[at];
            if shown.is_some_and(|(from, _)| (0..3).all(|i| from[i].abs_diff(rgb[i]) <= STILL_LEVELS)) {
                continue;
            }
            let index = self.palette.index_at(rgb, at % self.width, at / self.width);
            if shown.is_none_or(|(_, visible)| visible != index) {
                indices[at] = index;
            }
            self.shown[at] = Some((rgb, index));
        }
        let changed = |at: &usize| indices[*at] != unchanged;
        let rows = (0..indices.len()).find(changed).zip((0..indices.len()).rfind(changed));
        let (top, bottom) = rows.map_or((0, 0), |(first, last)| (first / self.width, last / self.width));
        let column_changed = |x: &usize| (top..=bottom).any(|y| changed(&(y * self.width + x)));
        let columns = (0..self.width).find(column_changed).zip((0..self.width).rfind(column_changed));
        // A frame without changes still has to last: it becomes one transparent pixel.
        let (left, right) = columns.unwrap_or((0, 0));
        let buffer: Vec<u8> = (top..=bottom).flat_map(|y| &indices[y * self.width + left..=y * self.width + right]).copied().collect();
        // All four fit 16 bits because the clip's sides do.
        Frame {
            top: top as u16,
            left: left as u16,
            width: (right - left + 1) as u16,
            height: (bottom - top + 1) as u16,
            dispose: DisposalMethod::Keep,
            transparent: Some(unchanged),
            buffer: buffer.into(),
            ..Frame::default()
        }
    }
}

/// Hundredths of a second for frame `index`; rounded so that the sum never drifts from the frame rate.
fn delay(index: usize, fps: f64) -> Result<u16> {
    let end_of = |frames: usize| (frames as f64 * 100.0 / fps).round();
    let delay = end_of(index + 1) - end_of(index);
    if delay > f64::from(u16::MAX) {
        return Err(limit("the time per frame", format!("{} s", delay / 100.0), "655 s".to_owned()));
    }
    Ok(delay as u16)
}

fn limit(what: &'static str, found: String, limit: String) -> Error {
    Error::Limit { format: "gif", what, found, limit, remedy: "write .apng or .mp4, or lower the value" }
}

fn failed(error: EncodingError) -> Error {
    match error {
        EncodingError::Io(source) => Error::Write(source),
        other => Error::Encoder { format: "gif", message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_add_up_to_the_frame_rate() {
        for fps in [8.0, 12.0, 24.0, 30.0, 48.0] {
            let total: u32 = (0..480).map(|index| u32::from(delay(index, fps).unwrap_or(0))).sum();
            assert_eq!(f64::from(total), (480.0 * 100.0 / fps).round(), "{fps} frames/s");
        }
    }
}

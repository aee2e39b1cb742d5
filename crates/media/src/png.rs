//! Lossless output: one animated PNG, or one PNG per frame.

use std::{borrow::Cow, io::Write};

use png::{BitDepth, ColorType, EncodingError, SrgbRenderingIntent, Writer};

use crate::{
    Error, Head, KeepGoing, Metadata, Result,
    encode::{Encoder, Out},
};

/// An endlessly looping APNG; the first frame doubles as the still image.
pub(crate) struct Animation<'a> {
    writer: Writer<Out<'a>>,
    is_opaque: bool,
}

impl<'a> Animation<'a> {
    pub(crate) fn new(head: &Head, metadata: &Metadata, out: Out<'a>) -> Result<Self> {
        let count = check(head.frames)?;
        let mut encoder = encoder(head, metadata, out)?;
        encoder.set_animated(count, 0).map_err(failed)?;
        encoder.set_frame_delay(head.frame_rate.den(), head.frame_rate.num()).map_err(failed)?;
        Ok(Self { writer: encoder.write_header().map_err(failed)?, is_opaque: head.is_opaque })
    }
}

impl Encoder for Animation<'_> {
    fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        self.writer.write_image_data(&samples(rgba, self.is_opaque)).map_err(failed)
    }

    fn finish(self: Box<Self>, _: &mut KeepGoing<'_>) -> Result<()> {
        self.writer.finish().map_err(failed)
    }
}

/// The number of frames, which an APNG has in front of the first.
///
/// # Errors
/// [`Error::Limit`] where nobody knows it.
pub(crate) fn check(frames: Option<usize>) -> Result<u32> {
    let found = frames.map_or("unknown before the last".to_owned(), |frames| frames.to_string());
    frames.and_then(|frames| u32::try_from(frames).ok()).ok_or(Error::Limit {
        format: "apng",
        what: "the number of frames",
        found,
        limit: u32::MAX.to_string(),
        remedy: "write .mp4, .gif or name-%04d.png",
    })
}

/// One frame as an ordinary PNG.
pub(crate) fn encode_still(head: &Head, rgba: &[u8], metadata: &Metadata, out: &mut dyn Write) -> Result<()> {
    let mut writer = encoder(head, metadata, out)?.write_header().map_err(failed)?;
    writer.write_image_data(&samples(rgba, head.is_opaque)).map_err(failed)?;
    writer.finish().map_err(failed)
}

fn encoder<'a, W: Write>(head: &Head, metadata: &Metadata, out: W) -> Result<png::Encoder<'a, W>> {
    let mut encoder = png::Encoder::new(out, head.width, head.height);
    encoder.set_color(if head.is_opaque { ColorType::Rgb } else { ColorType::Rgba });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    // The keywords are those of the PNG specification, §11.3.3.1.
    let text = [("Description", &metadata.description), ("Software", &metadata.software), ("Comment", &metadata.comment)];
    for (keyword, text) in text {
        // A NUL would end the text inside the chunk.
        let text = text.replace('\0', " ");
        if !text.is_empty() {
            encoder.add_itxt_chunk(keyword.to_owned(), text).map_err(failed)?;
        }
    }
    Ok(encoder)
}

/// The bytes PNG wants: RGBA as it is, or RGB when alpha carries nothing.
fn samples(frame: &[u8], opaque: bool) -> Cow<'_, [u8]> {
    if opaque { frame.chunks_exact(4).flat_map(|pixel| &pixel[..3]).copied().collect() } else { Cow::Borrowed(frame) }
}

fn failed(error: EncodingError) -> Error {
    match error {
        EncodingError::IoError(source) => Error::Write(source),
        other => Error::Encoder { format: "png", message: other.to_string() },
    }
}

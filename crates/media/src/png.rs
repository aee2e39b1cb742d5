//! Lossless output: one animated PNG, or one PNG per frame.

use std::{borrow::Cow, io::Write};

use png::{BitDepth, ColorType, Encoder, EncodingError, SrgbRenderingIntent};

use crate::{Clip, Error, KeepGoing, Metadata, Result};

/// An endlessly looping APNG; the first frame doubles as the still image.
pub(crate) fn encode_animation(clip: &Clip, metadata: &Metadata, out: &mut dyn Write, keep_going: &mut KeepGoing<'_>) -> Result<()> {
    let opaque = clip.is_opaque();
    let mut encoder = encoder(clip, opaque, metadata, out)?;
    let num_frames = u32::try_from(clip.frames().len()).map_err(|_| Error::Limit {
        format: "apng",
        what: "the number of frames",
        found: clip.frames().len().to_string(),
        limit: u32::MAX.to_string(),
        remedy: "write shorter clips",
    })?;
    encoder.set_animated(num_frames, 0).map_err(failed)?;
    encoder.set_frame_delay(clip.frame_rate().den(), clip.frame_rate().num()).map_err(failed)?;
    let mut writer = encoder.write_header().map_err(failed)?;
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        writer.write_image_data(&samples(frame, opaque)).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

/// Frame `index` as an ordinary PNG.
pub(crate) fn encode_still(clip: &Clip, index: usize, metadata: &Metadata, out: &mut dyn Write) -> Result<()> {
    let opaque = clip.is_opaque();
    let mut writer = encoder(clip, opaque, metadata, out)?.write_header().map_err(failed)?;
    writer.write_image_data(&samples(&clip.frames()[index], opaque)).map_err(failed)?;
    writer.finish().map_err(failed)
}

fn encoder<'a, W: Write>(clip: &Clip, opaque: bool, metadata: &Metadata, out: W) -> Result<Encoder<'a, W>> {
    let mut encoder = Encoder::new(out, clip.width(), clip.height());
    encoder.set_color(if opaque { ColorType::Rgb } else { ColorType::Rgba });
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

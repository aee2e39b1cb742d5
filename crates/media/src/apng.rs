//! Reading animated PNG of any depth: frames are drawn over each other as the PNG specification, §12.6, says.

use std::{io::Cursor, path::PathBuf};

use png::{BlendOp, ColorType, Decoder, DecodingError, DisposeOp, FrameControl, Reader, Transformations};

use crate::{Error, Result, sample::Frame};

/// One that leaves alone what may unpack to anything and is not needed.
fn decoder(bytes: &[u8]) -> Decoder<Cursor<&[u8]>> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder
}

/// Width and height, if the file holds an animation.
pub(crate) fn size_if_animated(bytes: &[u8]) -> Result<Option<[u32; 2]>> {
    let reader = decoder(bytes).read_info().map_err(|error| broken(&error))?;
    let info = reader.info();
    Ok(info.animation_control.is_some().then_some([info.width, info.height]))
}

/// The frames one by one, each whole.
pub(crate) struct Animation<'a> {
    reader: Reader<Cursor<&'a [u8]>>,
    left: u32,
    canvas: Vec<u8>,
    /// One frame's own pixels.
    buffer: Vec<u8>,
    /// What is to be done with the last frame before the next, and what was there before it.
    last: Option<(FrameControl, Option<Vec<u8>>)>,
}

impl<'a> Animation<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        let mut decoder = decoder(bytes);
        decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
        let reader = decoder.read_info().map_err(|error| broken(&error))?;
        let left = reader.info().animation_control.map_or(0, |control| control.num_frames);
        Ok(Self { reader, left, canvas: Vec::new(), buffer: Vec::new(), last: None })
    }

    fn draw(&mut self) -> Result<Frame> {
        if self.canvas.is_empty() {
            let (width, height) = self.reader.info().size();
            self.canvas = vec![0; width as usize * height as usize * 4];
            let bytes = self.reader.output_buffer_size().ok_or_else(|| failed("its frames are too large"))?;
            self.buffer = vec![0; bytes];
        }
        let mut output = self.reader.next_frame(&mut self.buffer).map_err(|error| broken(&error))?;
        if self.reader.info().frame_control.is_none() {
            // A picture for software that knows no animation, and no part of it.
            output = self.reader.next_frame(&mut self.buffer).map_err(|error| broken(&error))?;
        }
        let control = self.reader.info().frame_control.ok_or_else(|| failed("a frame has no place"))?;
        if let Some((last, before)) = self.last.take() {
            match (last.dispose_op, before) {
                (DisposeOp::None, _) => {}
                (DisposeOp::Previous, Some(before)) => self.canvas = before,
                // There is nothing before the first frame.
                _ => self.rows(&last).for_each(|row| row.fill(0)),
            }
        }
        let keep = control.dispose_op == DisposeOp::Previous && self.left > 0;
        self.last = Some((control, keep.then(|| self.canvas.clone())));
        let grey = output.color_type == ColorType::GrayscaleAlpha;
        let buffer = std::mem::take(&mut self.buffer);
        for (row, drawn) in self.rows(&control).zip(buffer.chunks_exact(output.line_size)) {
            let channels = if grey { 2 } else { 4 };
            for (pixel, drawn) in row.chunks_exact_mut(4).zip(drawn.chunks_exact(channels)) {
                let drawn = if grey { [drawn[0], drawn[0], drawn[0], drawn[1]] } else { [drawn[0], drawn[1], drawn[2], drawn[3]] };
                let new = if control.blend_op == BlendOp::Over { over(drawn, pixel) } else { drawn };
                pixel.copy_from_slice(&new);
            }
        }
        self.buffer = buffer;
        // A denominator of 0 means hundredths.
        let hundredths = if control.delay_den == 0 { 100 } else { control.delay_den };
        let seconds = f64::from(control.delay_num) / f64::from(hundredths);
        Ok(Frame { rgba: self.canvas.clone(), seconds: Some(if seconds > 0.0 { seconds } else { 0.1 }) })
    }

    /// The rows of the canvas that a frame covers; the decoder has checked that it lies within.
    fn rows(&mut self, control: &FrameControl) -> impl Iterator<Item = &mut [u8]> {
        let row_bytes = self.reader.info().width as usize * 4;
        let (left, width) = (control.x_offset as usize * 4, control.width as usize * 4);
        let rows = self.canvas.chunks_exact_mut(row_bytes).skip(control.y_offset as usize).take(control.height as usize);
        rows.map(move |row| &mut row[left..left + width])
    }
}

impl Iterator for Animation<'_> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        self.left = self.left.checked_sub(1)?;
        let frame = self.draw();
        if frame.is_err() {
            self.left = 0;
        }
        // Counted before it is drawn, so that nothing is kept behind the last one.
        Some(frame)
    }
}

/// One pixel over another, alpha not premultiplied.
fn over(pixel: [u8; 4], below: &[u8]) -> [u8; 4] {
    let (alpha, below_alpha) = (u32::from(pixel[3]), u32::from(below[3]));
    if alpha == 255 || below_alpha == 0 {
        return pixel;
    }
    // In units of 1/255².
    let rest = below_alpha * (255 - alpha);
    let whole = alpha * 255 + rest;
    let channel = |i: usize| ((u32::from(pixel[i]) * alpha * 255 + u32::from(below[i]) * rest + whole / 2) / whole) as u8;
    [channel(0), channel(1), channel(2), ((whole + 127) / 255) as u8]
}

fn failed(message: &str) -> Error {
    Error::Decode { path: PathBuf::new(), message: message.to_owned() }
}

fn broken(error: &DecodingError) -> Error {
    failed(&error.to_string())
}

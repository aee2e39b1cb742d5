//! YUV4MPEG2: a text header, then raw planes; the format video tools pipe to each other.
//!
//! Planes are 4:4:4 (`C444`), so any size is allowed and no colour is averaged away, in BT.601
//! limited range. The format has no place for a prompt.

use std::io::Write;

use crate::{Clip, Error, Result, encode::KeepGoing, yuv::BT601};

pub(crate) fn encode(clip: &Clip, out: &mut dyn Write, keep_going: &mut KeepGoing<'_>) -> Result<()> {
    let (width, height, rate) = (clip.width(), clip.height(), clip.frame_rate());
    // Ip: progressive, A1:1: square pixels.
    writeln!(out, "YUV4MPEG2 W{width} H{height} F{}:{} Ip A1:1 C444 XCOLORRANGE=LIMITED", rate.num(), rate.den())?;
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        out.write_all(b"FRAME\n")?;
        for plane in BT601.planes(frame) {
            out.write_all(&plane)?;
        }
    }
    Ok(())
}

//! An installed ffmpeg: raw frames into its standard input and H.264 out, or any clip in and Y4M out.

use std::{
    env,
    ffi::OsString,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{Clip, Error, Footage, Metadata, Result, encode::KeepGoing, y4m};

/// H.264 encoders in order of preference, with settings near visually lossless: clips are short, and
/// someone may want to edit them.
const ENCODERS: [(&str, &[&str]); 2] = [("libx264", &["-preset", "medium", "-crf", "14"]), ("libopenh264", &["-b:v", "8M"])];
/// Longest text passed on the command line, in bytes; Windows allows 32,767 for all of it.
const MAX_TEXT_BYTES: usize = 8_000;

/// The ffmpeg that MP4 output would use: `$KINORA_FFMPEG` if set, else the first on the `PATH`; `None`
/// if there is none or it has no H.264 encoder.
#[must_use]
pub fn find_ffmpeg() -> Option<PathBuf> {
    Ffmpeg::find().map(|ffmpeg| ffmpeg.program)
}

/// An installed ffmpeg that can encode H.264.
pub(crate) struct Ffmpeg {
    program: PathBuf,
    encoder: &'static str,
    settings: &'static [&'static str],
}

impl Ffmpeg {
    pub(crate) fn find() -> Option<Self> {
        let program = Self::locate()?;
        let listed = Command::new(&program).args(["-hide_banner", "-encoders"]).stdin(Stdio::null()).output().ok()?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let has = |name: &str| listed.split_whitespace().any(|word| word == name);
        let (encoder, settings) = ENCODERS.into_iter().find(|(name, _)| has(name))?;
        Some(Self { program, encoder, settings })
    }

    /// The program, whatever it can encode.
    pub(crate) fn locate() -> Option<PathBuf> {
        let name = format!("ffmpeg{}", env::consts::EXE_SUFFIX);
        match env::var_os("KINORA_FFMPEG") {
            Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
            None => env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|path| path.is_file()),
        }
    }

    /// Writes `clip` to `path`, replacing it, and returns the name of the encoder used.
    pub(crate) fn encode(&self, clip: &Clip, metadata: &Metadata, path: &Path, keep_going: &mut KeepGoing<'_>) -> Result<String> {
        let mut child = Command::new(&self.program)
            .args(arguments(clip, metadata, self.encoder, self.settings))
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("`{}` does not start: {error}", self.program.display())))?;

        // Read its messages while frames are written, or both sides could wait for each other.
        let messages = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = stderr.read_to_string(&mut text);
                text
            })
        });
        let fed = feed(&mut child, clip, keep_going);
        if matches!(fed, Err(Error::Interrupted)) {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        let messages = messages.and_then(|thread| thread.join().ok()).unwrap_or_default();
        match fed {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            // A broken pipe only says that ffmpeg stopped; its own message says why.
            Err(_) | Ok(()) if !status.success() => {
                let message = messages.lines().last().unwrap_or("no message").trim();
                Err(failed(format!("ffmpeg ended with {status}: {message}")))
            }
            other => other.map(|()| format!("{} (ffmpeg)", self.encoder)),
        }
    }
}

/// Reads the first video stream of a file through `program`.
pub(crate) fn read(program: &Path, path: &Path) -> Result<Footage> {
    // More frames than any clip here is long; the rest is never decoded.
    const MAX_FRAMES: &str = "2000";
    let unreadable = |message: String| Error::Decode { path: path.to_owned(), message };
    // `file:` keeps names like `concat:…` or `-x` from meaning something else.
    let mut source = OsString::from("file:");
    source.push(path);
    let child = Command::new(program)
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-i"])
        .arg(source)
        .args([
            "-map",
            "0:v:0",
            "-frames:v",
            MAX_FRAMES,
            "-vf",
            "scale=out_color_matrix=bt601:out_range=tv:flags=accurate_rnd+full_chroma_int",
        ])
        .args(["-pix_fmt", "yuv444p", "-strict", "-1", "-f", "yuv4mpegpipe", "pipe:1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| unreadable(format!("`{}` does not start: {error}", program.display())))?;
    if !child.status.success() || child.stdout.is_empty() {
        let messages = String::from_utf8_lossy(&child.stderr);
        return Err(unreadable(format!("ffmpeg says: {}", messages.lines().last().unwrap_or("nothing").trim())));
    }
    y4m::decode(&child.stdout).map_err(|error| error.in_file(path))
}

/// Everything but the output path: 8-bit 4:2:0 in BT.709 limited range, which every player shows.
fn arguments(clip: &Clip, metadata: &Metadata, encoder: &str, settings: &[&str]) -> Vec<OsString> {
    let size = format!("{}x{}", even(clip.width()), even(clip.height()));
    let rate = clip.frame_rate().to_string();
    let input = ["-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"];
    let colour = [
        "-vf",
        "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p",
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "iec61966-2-1",
        "-color_range",
        "tv",
    ];
    let mut arguments: Vec<OsString> = Vec::new();
    arguments.extend(input.map(Into::into));
    arguments.extend(["-s", &size, "-r", &rate, "-i", "pipe:0", "-an", "-c:v", encoder].map(Into::into));
    arguments.extend(settings.iter().map(Into::into));
    arguments.extend(colour.map(Into::into));
    for (key, text) in [("description", &metadata.description), ("comment", &metadata.comment)] {
        arguments.extend(["-metadata".into(), format!("{key}={}", argument_text(text)).into()]);
    }
    // The index in front, so that a browser can start before the file is complete.
    arguments.extend(["-movflags", "+faststart", "-f", "mp4"].map(Into::into));
    arguments
}

/// `text` without NUL, which no argument can hold, cut at [`MAX_TEXT_BYTES`].
fn argument_text(text: &str) -> String {
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].replace('\0', " ")
}

fn feed(child: &mut Child, clip: &Clip, keep_going: &mut KeepGoing<'_>) -> Result<()> {
    // Taken, so that leaving this function closes the pipe and ffmpeg finishes.
    let Some(mut stdin) = child.stdin.take() else {
        return Err(failed("ffmpeg has no standard input".to_owned()));
    };
    for (index, frame) in clip.frames().iter().enumerate() {
        if !keep_going(index) {
            return Err(Error::Interrupted);
        }
        stdin.write_all(&pad_to_even(frame, clip.width(), clip.height()))?;
    }
    Ok(())
}

/// 4:2:0 needs even sides: the last column and row are repeated where a side is odd.
fn pad_to_even(rgba: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut padded = Vec::with_capacity(even(width) as usize * even(height) as usize * 4);
    let rows: Vec<&[u8]> = rgba.chunks_exact(width as usize * 4).collect();
    for row in rows.iter().chain(rows.last().filter(|_| height % 2 == 1)) {
        padded.extend_from_slice(row);
        if width % 2 == 1 {
            padded.extend_from_slice(&row[row.len() - 4..]);
        }
    }
    padded
}

fn even(side: u32) -> u32 {
    side.next_multiple_of(2)
}

fn failed(message: String) -> Error {
    Error::Encoder { format: "mp4", message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sides_repeat_their_last_pixels() {
        let pixel = |value: u8| [value; 4];
        let frame: Vec<u8> = [1, 2, 3].into_iter().flat_map(pixel).collect(); // 1 wide, 3 high
        let expected: Vec<u8> = [1, 1, 2, 2, 3, 3, 3, 3].into_iter().flat_map(pixel).collect();
        assert_eq!(pad_to_even(&frame, 1, 3), expected, "1x3 becomes 2x4");
        assert_eq!(pad_to_even(&expected, 2, 4), expected, "even sizes stay");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(MAX_TEXT_BYTES);
        assert_eq!(argument_text(&format!("a{text}")).len(), MAX_TEXT_BYTES - 1, "cut before a split character");
        assert_eq!(argument_text("a\0b"), "a b", "NUL cannot be an argument");
    }
}

//! An installed ffmpeg: which one, what it can encode, and raw frames to H.264 through it.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    Error, Format, Head, KeepGoing, Metadata, Place, Result,
    child::{self, Ended, Input, Limits, Problem, Talk, Whole},
    files::{Partial, file_error},
    mp4,
};

/// H.264 encoders in order of preference, with settings near visually lossless: clips are short, and
/// someone may want to edit them.
const ENCODERS: [Encoder; 2] = [("libx264", &["-preset", "medium", "-crf", "14"]), ("libopenh264", &["-b:v", "8M"])];
/// A list of encoders takes a fraction of a second.
const LIST: Limits = Limits { silence: Duration::from_secs(4), output_bytes: 1 << 20 };
/// Even the slowest preset tells of progress twice a second.
pub(crate) const WORK: Limits = Limits { silence: Duration::from_secs(60), output_bytes: u64::MAX };

/// How often to look whether ffmpeg takes the next frame, or has ended.
const TICK: Duration = Duration::from_millis(2);

/// Name and settings.
type Encoder = (&'static str, &'static [&'static str]);

/// The ffmpeg that MP4 output would use: `$KINORA_FFMPEG` if set, else the first on the `PATH`; `None`
/// if there is none or it has no H.264 encoder.
///
/// # Errors
/// [`Error::Encoder`] for one that does not answer.
pub fn find_ffmpeg() -> Result<Option<PathBuf>> {
    Ok(Ffmpeg::find()?.map(|ffmpeg| ffmpeg.program))
}

/// An installed ffmpeg that can encode H.264.
pub(crate) struct Ffmpeg {
    program: PathBuf,
    encoder: Encoder,
}

impl Ffmpeg {
    /// What encodes `format` into the file at `place`; `None` for the built-in encoder.
    pub(crate) fn find_for(format: Format, place: &Place) -> Result<Option<Self>> {
        if format == Format::Mp4 && place.is_file() { Self::find() } else { Ok(None) }
    }

    pub(crate) fn find() -> Result<Option<Self>> {
        /// A batch asks once for each clip.
        static KNOWN: Mutex<Option<(PathBuf, Option<Encoder>)>> = Mutex::new(None);
        let Some(program) = Self::locate() else { return Ok(None) };
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let encoder = match known.as_ref().filter(|(path, _)| *path == program) {
            Some((_, encoder)) => *encoder,
            None => encoder_of(&program)?,
        };
        *known = Some((program.clone(), encoder));
        Ok(encoder.map(|encoder| Self { program, encoder }))
    }

    /// The program, whatever it can encode.
    pub(crate) fn locate() -> Option<PathBuf> {
        let name = format!("ffmpeg{}", env::consts::EXE_SUFFIX);
        match env::var_os("KINORA_FFMPEG") {
            Some(path) => Some(PathBuf::from(path)).filter(|path| path.is_file()),
            None => env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|path| path.is_file()),
        }
    }

    /// Begins to write a clip to `path`, replacing it.
    pub(crate) fn begin(&self, head: &Head, metadata: &Metadata, path: &Path) -> Result<Encoding> {
        let (name, settings) = self.encoder;
        // Beside the clip: a command line has no room for long prompts.
        let text = Partial::create(path)?;
        text.file().write_all(metadata_file(metadata).as_bytes()).map_err(|source| file_error("write", path, source))?;
        let mut command = Command::new(&self.program);
        command.args(input(head)).arg(file_argument(text.path())).args(output(name, settings)).arg(file_argument(path));
        let (frames, waiting) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let mut feed = Feed { frames: waiting, stop: Arc::clone(&stop) };
        let ended = thread::spawn(move || child::run(&mut command, WORK, &mut feed));
        let running = Running { frames: Some(frames), stop, ended: Some(ended) };
        Ok(Encoding { running, head: *head, program: self.program.clone(), encoder: name, path: path.to_owned(), count: 0, _text: text })
    }
}

/// A clip on its way through ffmpeg, which is ended if this is dropped before it is finished.
pub(crate) struct Encoding {
    running: Running,
    head: Head,
    program: PathBuf,
    encoder: &'static str,
    path: PathBuf,
    count: usize,
    /// Read while it runs.
    _text: Partial,
}

impl Encoding {
    /// The next frame, once ffmpeg takes it.
    pub(crate) fn frame(&mut self, rgba: &[u8], keep_going: &mut KeepGoing<'_>) -> Result<()> {
        let mut frame = pad_to_even(rgba, self.head.width, self.head.height);
        while let Some(frames) = &self.running.frames {
            match frames.try_send(frame) {
                Ok(()) => break,
                Err(TrySendError::Full(_)) if !keep_going(self.count) => return Err(Error::Interrupted),
                Err(TrySendError::Full(full)) => frame = full,
                Err(TrySendError::Disconnected(_)) => {
                    let ended = self.ended(keep_going)?;
                    return Err(failed(format!("ffmpeg ended before the last frame: {}", ended.last_message())));
                }
            }
            thread::sleep(TICK);
        }
        self.count += 1;
        Ok(())
    }

    /// Waits for the file, and returns the name of the encoder used.
    pub(crate) fn finish(mut self, keep_going: &mut KeepGoing<'_>) -> Result<String> {
        self.running.frames = None;
        let ended = self.ended(keep_going)?;
        // A disk that fills up, or a program that only looks like ffmpeg: what it says of itself is no proof.
        let mut file = File::open(&self.path).map_err(|source| file_error("read back", &self.path, source))?;
        let checked = mp4::check(&mut file, self.count, self.head.frame_rate);
        match checked.map_err(|source| file_error("read back", &self.path, source))? {
            Ok(()) => Ok(format!("{} (ffmpeg)", self.encoder)),
            Err(wrong) => Err(failed(format!("what ffmpeg wrote does not play: {wrong}; it says: {}", ended.last_message()))),
        }
    }

    /// How it ended, which is waited for.
    fn ended(&mut self, keep_going: &mut KeepGoing<'_>) -> Result<Ended> {
        let Some(thread) = self.running.ended.take() else { return Err(failed("ffmpeg has ended".to_owned())) };
        while !thread.is_finished() {
            if !keep_going(self.count.saturating_sub(1)) {
                self.running.ended = Some(thread);
                return Err(Error::Interrupted);
            }
            thread::sleep(TICK);
        }
        let ended = thread.join().map_err(|_| failed("the thread that talks to ffmpeg broke".to_owned()))?;
        let ended = ended.map_err(|problem| match problem {
            Problem::Stopped => Error::Interrupted,
            other => failed(format!("`{}`: {other}", self.program.display())),
        })?;
        if !ended.is_success() {
            let status = ended.status.map(|status| status.to_string()).unwrap_or_default();
            return Err(failed(format!("ffmpeg ended with {status}: {}", ended.last_message())));
        }
        Ok(ended)
    }
}

/// The thread that talks to ffmpeg.
struct Running {
    /// Closed after the last frame.
    frames: Option<SyncSender<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    ended: Option<JoinHandle<std::result::Result<Ended, Problem>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Not before it is gone is its file no longer written to.
        let _ = self.ended.take().map(JoinHandle::join);
    }
}

fn encoder_of(program: &Path) -> Result<Option<Encoder>> {
    let mut listed = Whole::default();
    match child::run(Command::new(program).args(["-hide_banner", "-encoders"]), LIST, &mut listed) {
        Ok(_) => {}
        // What cannot be started is no ffmpeg.
        Err(Problem::Start(_)) => return Ok(None),
        Err(problem) => return Err(failed(format!("`{}`: {problem}", program.display()))),
    }
    let listed = String::from_utf8_lossy(&listed.output);
    Ok(ENCODERS.into_iter().find(|(name, _)| listed.split_whitespace().any(|word| word == *name)))
}

/// Frames on their way to ffmpeg.
struct Feed {
    frames: Receiver<Vec<u8>>,
    stop: Arc<AtomicBool>,
}

impl Talk for Feed {
    fn input(&mut self) -> Input {
        match self.frames.try_recv() {
            Ok(frame) => Input::Bytes(frame),
            Err(TryRecvError::Empty) => Input::Later,
            Err(TryRecvError::Disconnected) => Input::End,
        }
    }

    fn keep_going(&mut self) -> bool {
        !self.stop.load(Relaxed)
    }
}

/// A path that stays one: `file:` keeps names like `concat:…`, `12:30/a.mp4` or `-x` from meaning something else.
pub(crate) fn file_argument(path: &Path) -> OsString {
    let mut argument = OsString::from("file:");
    argument.push(path);
    argument
}

/// Frames from standard input, and text from the file that follows.
fn input(head: &Head) -> Vec<String> {
    let size = format!("{}x{}", even(head.width), even(head.height));
    let rate = head.frame_rate.to_string();
    // Progress is told on standard output, so that a long silence means something.
    let quiet = ["-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1", "-y"];
    let frames = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", &size, "-r", &rate, "-i", "pipe:0"];
    quiet.iter().chain(&frames).chain(&["-f", "ffmetadata", "-i"]).map(|&word| word.to_owned()).collect()
}

/// Everything but the output path: 8-bit 4:2:0 in BT.709 limited range, which every player shows.
fn output(encoder: &str, settings: &[&str]) -> Vec<String> {
    let streams = ["-map", "0:v", "-map_metadata", "1", "-c:v", encoder];
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
    // The index in front, so that a browser can start before the file is complete.
    let container = ["-movflags", "+faststart", "-f", "mp4"];
    streams.iter().chain(settings).chain(&colour).chain(&container).map(|&word| word.to_owned()).collect()
}

/// ffmpeg's own text format for what goes into a file's header, of any length.
fn metadata_file(metadata: &Metadata) -> String {
    let mut file = ";FFMETADATA1\n".to_owned();
    for (key, text) in [("description", &metadata.description), ("comment", &metadata.comment)] {
        file.push_str(key);
        file.push('=');
        for character in text.chars() {
            match character {
                // Ends the text inside the clip.
                '\0' => file.push(' '),
                '=' | ';' | '#' | '\\' | '\n' | '\r' => file.extend(['\\', character]),
                other => file.push(other),
            }
        }
        file.push('\n');
    }
    file
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
    fn text_for_ffmpeg_is_escaped() {
        let metadata = Metadata { description: "a=b;\n#c\\\0".to_owned(), comment: "{}".to_owned(), ..Metadata::default() };
        assert_eq!(metadata_file(&metadata), ";FFMETADATA1\ndescription=a\\=b\\;\\\n\\#c\\\\ \ncomment={}\n");
    }
}

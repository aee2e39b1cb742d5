//! Images and clips as prompts: opened and measured at once, read only as far as a clip needs them.

use std::{
    cmp::Ordering,
    ffi::OsStr,
    fs::{self, File},
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    Clip, Error, FrameRate, Need, Part, Result, Taken,
    decode::{self, Header, check_shape},
    demux::Demuxed,
    ffmpeg::Ffmpeg,
    files::file_error,
    fit::Shape,
    on_disk::Files,
    pattern::{Pattern, has_percent},
    pipe::open_input,
    sample::{self, Clock, Frame, Frames},
    y4m,
};

/// Bytes that are read into memory: a file, and a pipe, which may have no end.
const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_PIPE_BYTES: u64 = 256 << 20;
/// Bytes of all frames of a source in its own size.
const MAX_WHOLE_BYTES: u64 = 2 << 30;
/// Frames that are counted where one is expected.
const MAX_COUNTED: usize = 1000;

/// An image or a clip: PNG, APNG, GIF, Y4M, JPEG, WebP, a PNG sequence, frames in memory, or what an installed ffmpeg knows.
#[derive(Debug, Clone)]
pub struct Source {
    /// Empty for data in memory.
    path: PathBuf,
    data: Data,
    shape: Option<Shape>,
}

#[derive(Debug, Clone)]
enum Data {
    Memory(Vec<u8>, Header),
    /// Uncompressed, hence read from the file as far as needed.
    Y4m(Files),
    Sequence(Vec<PathBuf>, Files),
    Clip(Clip),
    Ffmpeg(Demuxed, Files),
}

impl Source {
    /// Opens a file, a `name-%04d.png` sequence or a folder of PNG files, and reads what it says about itself.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Decode`] for what is no image or clip, [`Error::TooLarge`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_unnamed(path).map_err(|error| error.in_file(path))
    }

    fn open_unnamed(path: &Path) -> Result<Self> {
        let files = Files::for_reading(path)?;
        let unreadable = |source| file_error("read", path, source);
        if path.is_dir() || (has_percent(path) && !path.exists()) {
            return Self::sequence(path, files);
        }
        let mut file = open_input(path).map_err(unreadable)?;
        let (is_file, len) = (file.is_file().map_err(unreadable)?, file.len().map_err(unreadable)?);
        let mut bytes = Vec::new();
        file.by_ref().take(64).read_to_end(&mut bytes).map_err(unreadable)?;
        let known = decode::is_known(&bytes);
        if is_file && y4m::is_y4m(&bytes) {
            return match y4m::Stream::new(bytes.chain(BufReader::new(file))) {
                Ok(stream) => {
                    check_shape(&stream.shape(), len)?;
                    Ok(Self { path: path.to_owned(), data: Data::Y4m(files), shape: Some(stream.shape()) })
                }
                Err(error) => Self::through_ffmpeg(path, error, files),
            };
        }
        if !known {
            let error = Error::UnknownInput { path: path.to_owned() };
            // A pipe can be read once, and has been.
            return if is_file { Self::through_ffmpeg(path, error, files) } else { Err(error) };
        }
        let most = if is_file { MAX_FILE_BYTES } else { MAX_PIPE_BYTES };
        let left = most.saturating_sub(bytes.len() as u64);
        if file.take(left + 1).read_to_end(&mut bytes).map_err(unreadable)? as u64 > left {
            let found = if is_file { format!("{} MB", len >> 20) } else { "no end".to_owned() };
            return Err(Error::TooLarge { path: path.to_owned(), found, limit: format!("{} MB", most >> 20) });
        }
        match Self::decode(bytes) {
            Ok(source) => Ok(Self { path: path.to_owned(), ..source }),
            Err(error) if is_file => Self::through_ffmpeg(path, error, files),
            Err(error) => Err(error),
        }
    }

    /// An image or a clip in memory.
    ///
    /// # Errors
    /// [`Error::UnknownInput`] for another format, [`Error::Decode`], [`Error::TooLarge`].
    pub fn decode(bytes: Vec<u8>) -> Result<Self> {
        let header = decode::header(&bytes)?;
        Ok(Self { path: PathBuf::new(), data: Data::Memory(bytes, header), shape: Some(header.shape) })
    }

    /// What our own readers do not know, ffmpeg may; `error` if it is no question of knowing, or there is no ffmpeg.
    fn through_ffmpeg(path: &Path, error: Error, files: Files) -> Result<Self> {
        let program = if matches!(error, Error::UnknownInput { .. }) { Ffmpeg::locate() } else { None };
        let demuxed = Demuxed::open(program.ok_or(error)?, path)?;
        Ok(Self { path: path.to_owned(), shape: demuxed.shape, data: Data::Ffmpeg(demuxed, files) })
    }

    /// PNG files in the order of their numbers.
    fn sequence(path: &Path, on_disk: Files) -> Result<Self> {
        let files: Vec<PathBuf> = if path.is_dir() {
            let entries = fs::read_dir(path).map_err(|source| file_error("read", path, source))?;
            let png = |path: &PathBuf| path.extension().and_then(OsStr::to_str).is_some_and(|e| e.eq_ignore_ascii_case("png"));
            let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(png).collect();
            files.sort_by(|a, b| by_number(a.as_os_str().as_encoded_bytes(), b.as_os_str().as_encoded_bytes()));
            files
        } else {
            let pattern = Pattern::new(path)?;
            // Sequences start at 0 or 1.
            let first = usize::from(!pattern.path(0).exists());
            (first..).map(|index| pattern.path(index)).take_while(|file| file.exists()).collect()
        };
        let Some(first) = files.first() else {
            return Err(Error::Decode { path: path.to_owned(), message: "there are no PNG files of this name".into() });
        };
        let shape = Self::open(first)?.shape;
        Ok(Self { path: path.to_owned(), data: Data::Sequence(files, on_disk), shape })
    }

    /// Width and height as they are shown, in pixels; `None` if only reading tells.
    #[must_use]
    pub fn size(&self) -> Option<[u32; 2]> {
        Some(self.shape?.shown().map(|side| side.round() as u32))
    }

    /// A sentence for people if the frames of `name` must grow to cover `width` × `height`.
    #[must_use]
    pub fn enlargement_note(&self, name: &str, width: u32, height: u32) -> Option<String> {
        let (enlargement, [w, h]) = (self.shape?.enlargement(width, height), self.size()?);
        (enlargement > 1.0).then(|| format!("`{name}` is {w}x{h}: enlarged {enlargement:.2} times to cover {width}x{height}"))
    }

    /// How many frames there are at `rate`, counted up to `most`.
    ///
    /// # Errors
    /// Those of reading them.
    pub fn frames_at(&self, rate: FrameRate, most: usize) -> Result<usize> {
        if matches!(self.data, Data::Ffmpeg(..)) {
            let need = Need { width: 16, height: 16, rate, part: Part::First(most), background: [0; 3], whole: false };
            return Ok(self.take(&need)?.frames.len());
        }
        let mut clock = Clock::new(rate);
        let mut frames = 0u64;
        let named = |error: Error| error.in_file(&self.path);
        for frame in self.frames().map_err(named)? {
            frames += clock.advance(frame.map_err(named)?.seconds);
            if frames >= most as u64 {
                return Ok(most);
            }
        }
        Ok(usize::try_from(frames + clock.rest()).map_or(most, |frames| frames.min(most)))
    }

    /// Fails unless this is one image.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] for more than one frame.
    pub fn check_image(&self) -> Result<()> {
        let frames = match &self.data {
            Data::Memory(_, Header { kind: decode::Kind::Still, .. }) => 1,
            Data::Ffmpeg(demuxed, _) => {
                let rate = FrameRate::new(1, 1)?;
                demuxed.count(&Need { width: 16, height: 16, rate, part: Part::First(1), background: [0; 3], whole: false }, MAX_COUNTED)?
            }
            _ => {
                let counted =
                    self.frames().and_then(|frames| frames.take(MAX_COUNTED).try_fold(0, |frames, frame| frame.map(|_| frames + 1)));
                counted.map_err(|error| error.in_file(&self.path))?
            }
        };
        if frames > 1 { Err(Error::NotAnImage { path: self.path.clone(), frames }) } else { Ok(()) }
    }

    /// Reads what is needed.
    ///
    /// # Errors
    /// [`Error::Size`] for a side of 0, [`Error::Decode`], [`Error::TooLarge`].
    pub fn take(&self, need: &Need) -> Result<Taken> {
        let taken = match (&self.data, self.shape) {
            (Data::Ffmpeg(demuxed, _), _) => demuxed.take(need),
            (_, None) => Err(Error::NoFrames),
            (_, Some(shape)) => self.frames().and_then(|mut frames| sample::take(&mut *frames, shape, need)),
        };
        match (taken, &self.data) {
            // A variant that only decoding finds to be unknown.
            (Err(Error::UnknownInput { .. }), Data::Memory(..)) => {
                let files = Files::for_reading(&self.path)?;
                let unknown = Error::UnknownInput { path: self.path.clone() };
                if self.path.is_file() { Self::through_ffmpeg(&self.path, unknown, files)?.take(need) } else { Err(unknown) }
            }
            (Ok(taken), _) if taken.frames.is_empty() => Err(Error::NoFrames),
            (taken, _) => taken.map_err(|error| error.in_file(&self.path)),
        }
    }

    /// All frames in their own size, RGBA.
    ///
    /// # Errors
    /// Those of reading them; [`Error::UnknownInput`] for what only ffmpeg reads.
    pub fn whole(&self) -> Result<Vec<Vec<u8>>> {
        let mut bytes = 0;
        let frames = self.frames()?.map(|frame| {
            let rgba = frame?.rgba;
            bytes += rgba.len() as u64;
            if bytes > MAX_WHOLE_BYTES {
                let limit = format!("{} MB of frames", MAX_WHOLE_BYTES >> 20);
                return Err(Error::TooLarge { path: PathBuf::new(), found: "more".to_owned(), limit });
            }
            Ok(rgba)
        });
        frames.collect::<Result<_>>().map_err(|error| error.in_file(&self.path))
    }

    /// The frames one after another, in their own size.
    fn frames(&self) -> Result<Box<Frames<'_>>> {
        match &self.data {
            Data::Memory(bytes, header) => decode::frames(bytes, header),
            Data::Y4m(_) => {
                let file = File::open(&self.path).map_err(|source| file_error("read", &self.path, source))?;
                Ok(Box::new(y4m::Stream::new(BufReader::new(file))?))
            }
            Data::Clip(clip) => {
                let seconds = Some(clip.frame_rate().as_f64().recip());
                Ok(Box::new(clip.frames().iter().map(move |frame| Ok(Frame { rgba: frame.clone(), seconds }))))
            }
            Data::Sequence(files, _) => Ok(Box::new(files.iter().flat_map(|file| match self.frames_of(file) {
                Ok(frames) => frames.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }))),
            Data::Ffmpeg(..) => Err(Error::UnknownInput { path: self.path.clone() }),
        }
    }

    /// The frames of one file of a sequence, which all have the size of the first.
    fn frames_of(&self, file: &Path) -> Result<Vec<Frame>> {
        let source = Self::open(file)?;
        if source.shape != self.shape {
            let [found, expected] =
                [source.size(), self.size()].map(|size| size.map_or("of unknown size".to_owned(), |[w, h]| format!("{w}x{h}")));
            return Err(Error::Decode { path: file.to_owned(), message: format!("it is {found}, the frames before it are {expected}") });
        }
        Ok(source.whole()?.into_iter().map(|rgba| Frame { rgba, seconds: None }).collect())
    }
}

impl From<Clip> for Source {
    fn from(clip: Clip) -> Self {
        let shape = Some(Shape::square(clip.width(), clip.height()));
        Self { path: PathBuf::new(), data: Data::Clip(clip), shape }
    }
}

/// `2.png` before `10.png`: runs of digits are compared as numbers.
fn by_number(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(a), digits(b)) {
            (0, _) | (_, 0) => match (a.split_first(), b.split_first()) {
                (Some((x, a_rest)), Some((y, b_rest))) if x == y => (a, b) = (a_rest, b_rest),
                (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)),
            },
            (in_a, in_b) => {
                let (x, y) = (&a[..in_a], &b[..in_b]);
                let value = |digits: &[u8]| digits.iter().copied().skip_while(|digit| *digit == b'0').collect::<Vec<_>>();
                let (x_value, y_value) = (value(x), value(y));
                let order = x_value.len().cmp(&y_value.len()).then(x_value.cmp(&y_value)).then(x.len().cmp(&y.len()));
                if order != Ordering::Equal {
                    return order;
                }
                (a, b) = (&a[in_a..], &b[in_b..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_the_order_of_their_numbers() {
        let mut names = ["a10.png", "a2.png", "a1.png", "b.png", "a02.png", "a1b10.png", "a1b9.png", "10.png", "9.png"];
        names.sort_by(|a, b| by_number(a.as_bytes(), b.as_bytes()));
        assert_eq!(names, ["9.png", "10.png", "a1.png", "a1b9.png", "a1b10.png", "a2.png", "a02.png", "a10.png", "b.png"]);
    }
}

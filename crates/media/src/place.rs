//! Where one file goes: links followed, checked beforehand, and never over another file unless that was asked for.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    Error, Result,
    encode::Out,
    files::{Partial, file_error, remove_abandoned},
    pattern::{Pattern, joined},
};

/// Links that lead to links are followed so often, as Linux does.
const MAX_LINKS: usize = 40;
/// Other names that are tried for a file whose own is taken.
const MAX_COPIES: u32 = 10_000;

/// Where a file goes; checked when it is opened, so that a bad name fails before there is something to write.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    shown: PathBuf,
    overwrite: bool,
    /// A name that is taken meanwhile is as good as the next one.
    numbered: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Stdout,
    /// A device or a pipe, written in place: a rename would replace the device itself.
    Special,
    /// The file itself, behind all links.
    File(PathBuf),
}

/// What will be written to, in its one spelling, so that two can be compared.
#[derive(Debug, Clone)]
pub struct Claim(pub(crate) Claimed);

#[derive(Debug, Clone)]
pub(crate) enum Claimed {
    /// Devices and pipes take many files.
    Nothing,
    Stdout,
    File(PathBuf),
    /// In its canonical folder.
    Sequence(Pattern),
}

impl Claim {
    /// Whether both would write the same file, however it is spelled.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Claimed::Stdout, Claimed::Stdout) => true,
            (Claimed::File(a), Claimed::File(b)) => a == b,
            (Claimed::Sequence(frames), Claimed::File(file)) | (Claimed::File(file), Claimed::Sequence(frames)) => {
                let frame = || file.file_name().is_some_and(|name| frames.matches(name));
                file == frames.folder() || (file.parent() == Some(frames.folder()) && frame())
            }
            (Claimed::Sequence(a), Claimed::Sequence(b)) => a.folder() == b.folder() && a.overlaps(b),
            _ => false,
        }
    }
}

impl Place {
    /// Checks that a file can be written to `path`; `-` is standard output.
    ///
    /// # Errors
    /// A file in the way, a missing or read-only folder, a name that is too long.
    pub fn open(path: &Path, overwrite: bool) -> Result<Self> {
        let kind = if path == Path::new("-") {
            Kind::Stdout
        } else {
            match fs::metadata(path) {
                Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => Kind::Special,
                _ => Kind::File(followed(path)?),
            }
        };
        let place = Self { kind, shown: path.to_owned(), overwrite, numbered: false };
        place.check()?;
        if let Kind::File(path) = &place.kind {
            remove_abandoned(path);
        }
        Ok(place)
    }

    /// The same, where the name was made up: if it is taken before the file is finished, the next free one will do.
    #[must_use]
    pub fn numbered(self) -> Self {
        Self { numbered: true, ..self }
    }

    /// Writes a file by `write`, whole or not at all, and returns where it is and its size in bytes.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name was taken meanwhile; the file is then kept under the name that the error says.
    pub fn write(&self, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<(PathBuf, u64)> {
        let (mut out, ending) = self.begin(0)?;
        write(&mut out).and_then(|()| Ok(out.flush()?)).map_err(|error| self.named(error))?;
        drop(out);
        ending.end(self)
    }

    /// What is written to, buffered, and what makes a file of it at the end.
    /// `bytes` as in [`begin_file`](Self::begin_file).
    pub(crate) fn begin(&self, bytes: u64) -> Result<(Out<'static>, Ending)> {
        if let Kind::File(_) = &self.kind {
            let partial = self.begin_file(bytes)?;
            let file = partial.file().try_clone().map_err(|source| file_error("write", &self.shown, source))?;
            return Ok((Box::new(BufWriter::new(file)), Ending::File(partial)));
        }
        let bytes = Arc::new(AtomicU64::new(0));
        let inner: Out<'_> = match &self.kind {
            Kind::Special => {
                Box::new(OpenOptions::new().write(true).open(&self.shown).map_err(|source| file_error("open", &self.shown, source))?)
            }
            _ => Box::new(io::stdout()),
        };
        Ok((Box::new(BufWriter::new(Counted { inner, bytes: Arc::clone(&bytes) })), Ending::Stream(bytes)))
    }

    /// As [`begin`](Self::begin), for who needs the temporary file itself. It may come to so many `bytes`: where its folder has
    /// less space, it is made where there is more, so that a disk that turns out to be full costs a move and not the clip.
    pub(crate) fn begin_file(&self, bytes: u64) -> Result<Partial> {
        let Kind::File(path) = &self.kind else { return Err(Error::NeedsFile { format: "a temporary file" }) };
        Partial::create(&roomy(path, bytes))
    }

    /// Where bytes can wait until they are written: beside the file, or where files come and go.
    pub(crate) fn waiting(&self, bytes: u64) -> Result<Partial> {
        match &self.kind {
            Kind::File(path) => Partial::create(&roomy(path, bytes)),
            _ => Partial::create(&env::temp_dir().join("waiting")),
        }
    }

    /// An error of a writer, with the file it is about; standard output has no name.
    pub(crate) fn named(&self, error: Error) -> Error {
        match error {
            Error::Write(source) if !matches!(self.kind, Kind::Stdout) => file_error("write", &self.shown, source),
            other => other,
        }
    }

    /// Whether [`begin_file`](Self::begin_file) can be used.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    /// Gives a finished file its name.
    pub(crate) fn end_file(&self, partial: Partial) -> Result<(PathBuf, u64)> {
        let size_bytes = partial.settle(&self.shown)?;
        let path = self.target();
        let partial = self.moved_home(partial)?;
        let Err(error) = partial.rename(path, self.overwrite) else { return Ok((self.shown.clone(), size_bytes)) };
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(file_error("rename to", &self.shown, error));
        }
        // Someone else took the name. What took minutes to make is not thrown away.
        let copies = (2..MAX_COPIES).map(|copy| (other_name(path, copy), other_name(&self.shown, copy)));
        for (target, shown) in copies {
            match partial.rename(&target, false) {
                Ok(()) if self.numbered => return Ok((shown, size_bytes)),
                Ok(()) => return Err(Error::Exists { path: self.shown.clone(), kept: Some(shown) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => break,
            }
        }
        Err(Error::Exists { path: self.shown.clone(), kept: None })
    }

    /// The finished file in the folder of its name. One that does not fit there is kept where it was made.
    fn moved_home(&self, partial: Partial) -> Result<Partial> {
        let path = self.target();
        if partial.path().parent() == path.parent() {
            return Ok(partial);
        }
        let copied = Partial::create(path).and_then(|home| {
            let copied = partial.copy_to(&home).map_err(|source| file_error("write", &self.shown, source));
            copied.and_then(|()| home.settle(&self.shown)).map(|_| home)
        });
        copied.map_err(|error| {
            let Error::File { source, .. } = error else { return error };
            let free = partial.path().with_file_name(path.file_name().unwrap_or_default());
            let names = std::iter::once(free.clone()).chain((2..MAX_COPIES).map(|copy| other_name(&free, copy)));
            match names.into_iter().find(|name| partial.rename(name, false).is_ok()) {
                Some(kept) => Error::Kept { path: self.shown.clone(), kept, source },
                None => file_error("write", &self.shown, source),
            }
        })
    }

    /// The file itself, behind all links; what was named, where it is no file.
    #[must_use]
    pub fn target(&self) -> &Path {
        if let Kind::File(path) = &self.kind { path } else { &self.shown }
    }

    /// What this writes to.
    #[must_use]
    pub fn claim(&self) -> Claim {
        Claim(match &self.kind {
            Kind::Stdout => Claimed::Stdout,
            Kind::Special => Claimed::Nothing,
            Kind::File(path) => Claimed::File(canonical(path)),
        })
    }

    /// Nothing in the way, and the folder takes a file of this name.
    fn check(&self) -> Result<()> {
        let Kind::File(path) = &self.kind else { return Ok(()) };
        check_free(path, &self.shown, self.overwrite)?;
        Partial::create(path).map(drop).map_err(|error| match error {
            Error::File { action, source, .. } => file_error(action, &self.shown, source),
            other => other,
        })
    }
}

/// A name of the same ending where so many bytes have space: in the folder of `path`, or where files come and go if that has more.
pub(crate) fn roomy(path: &Path, bytes: u64) -> PathBuf {
    let elsewhere = env::temp_dir().join(path.file_name().unwrap_or_default());
    match (room(path), room(&elsewhere)) {
        (Some(here), Some(there)) if here < bytes && there > here => {
            remove_abandoned(&elsewhere);
            elsewhere
        }
        _ => path.to_owned(),
    }
}

/// Bytes that the folder of `path` has space for, where the system tells.
#[cfg(unix)]
fn room(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ by system")]
    Some(u64::from(found.blocks_available()).saturating_mul(found.fragment_size().into()))
}

#[cfg(not(unix))]
fn room(_path: &Path) -> Option<u64> {
    None
}

/// Fails for a folder, for a name that no file can have, and for a file that may not be replaced.
pub(crate) fn check_free(path: &Path, shown: &Path, overwrite: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(file_error("write", shown, io::ErrorKind::IsADirectory.into())),
        Ok(_) if !overwrite => Err(Error::Exists { path: shown.to_owned(), kept: None }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A name that is too long, a file where a folder should be, a folder that cannot be entered.
        Err(error) => Err(file_error("write", shown, error)),
    }
}

/// The file that `path` leads to, which need not exist: links stay links, and what they point to is written.
pub(crate) fn followed(path: &Path) -> Result<PathBuf> {
    let mut file = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&file) {
            Ok(target) => file = file.parent().map_or_else(|| target.clone(), |folder| folder.join(&target)),
            Err(_) => return Ok(file),
        }
    }
    Err(file_error("follow", path, io::Error::other(format!("more than {MAX_LINKS} links"))))
}

/// The one spelling of a path that need not exist: that of its deepest folder that does, and the names below it.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for folder in absolute.ancestors() {
        if let Ok(found) = fs::canonicalize(folder) {
            let below = absolute.strip_prefix(folder).unwrap_or(Path::new(""));
            return if below.as_os_str().is_empty() { found } else { found.join(below) };
        }
    }
    absolute
}

/// `clip-2.gif` for `clip.gif`.
fn other_name(path: &Path, copy: u32) -> PathBuf {
    let dot = if path.extension().is_some() { "." } else { "" };
    let number = format!("-{copy}{dot}");
    path.with_file_name(joined(&[path.file_stem().unwrap_or_default(), number.as_ref(), path.extension().unwrap_or_default()]))
}

/// What was written, before it is there; a file vanishes if this is dropped.
pub(crate) enum Ending {
    File(Partial),
    /// The bytes that went through.
    Stream(Arc<AtomicU64>),
}

impl Ending {
    /// Where it is, and its size in bytes.
    pub(crate) fn end(self, place: &Place) -> Result<(PathBuf, u64)> {
        match self {
            Self::File(partial) => place.end_file(partial),
            Self::Stream(bytes) => Ok((place.shown.clone(), bytes.load(Relaxed))),
        }
    }
}

/// A writer that tells how much went through it.
struct Counted<W> {
    inner: W,
    bytes: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.bytes.fetch_add(written as u64, Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was made elsewhere, and the place that it is for.
    fn made_elsewhere(name: &str) -> (PathBuf, Place, Partial) {
        let folder = env::temp_dir().join(format!("kinora-place-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("home")).expect("a folder");
        let place = Place::open(&folder.join("home/clip.gif"), false).expect("a place");
        let partial = Partial::create(&folder.join("clip.gif")).expect("a file");
        partial.file().write_all(b"frames").expect("written");
        (folder, place, partial)
    }

    #[test]
    fn what_was_made_elsewhere_comes_home_or_is_kept_there() {
        let (folder, place, partial) = made_elsewhere("home");
        place.end_file(partial).expect("there is space");
        assert_eq!(fs::read(folder.join("home/clip.gif")).ok().as_deref(), Some(&b"frames"[..]));
        assert_eq!(fs::read_dir(&folder).map(Iterator::count).ok(), Some(1), "nothing is left elsewhere");

        let (other, place, partial) = made_elsewhere("away");
        fs::remove_dir_all(other.join("home")).expect("it is empty");
        fs::write(other.join("clip.gif"), "of somebody else").expect("written");
        let Err(Error::Kept { path, kept, .. }) = place.end_file(partial) else { panic!("its folder is gone") };
        assert_eq!((path, &kept), (other.join("home/clip.gif"), &other.join("clip-2.gif")));
        assert_eq!(fs::read(kept).ok().as_deref(), Some(&b"frames"[..]));
        for folder in [folder, other] {
            fs::remove_dir_all(folder).expect("ours");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_has_space_for_little_and_not_for_everything() {
        let path = env::temp_dir().join("clip.gif");
        assert!(room(&path).is_some_and(|bytes| bytes < 1 << 60), "{:?}", room(&path));
        assert_eq!(roomy(&path, 0), path);
    }
}

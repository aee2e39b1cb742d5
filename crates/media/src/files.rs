//! Files and folders that vanish again unless they are finished, and names that are taken only if they are free.
//!
//! Everything is written under a temporary name in the target's folder and renamed at the end. An error, a stop or a panic
//! removes what was written; what a killed process leaves is recognised by its name, holds no lock any more, and is removed by
//! the next one that writes there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{Error, Result, child};

/// What unfinished files are called: these two with a process and a number between them.
const PREFIX: &str = ".kinora-";
const SUFFIX: &str = ".partial";

pub(crate) fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// Unfinished files and folders of this process.
static UNFINISHED: Mutex<Unfinished> = Mutex::new(Unfinished { closed: false, paths: Vec::new() });

struct Unfinished {
    /// After [`discard_unfinished`] nothing new begins.
    closed: bool,
    paths: Vec<PathBuf>,
}

fn unfinished() -> MutexGuard<'static, Unfinished> {
    // A list of paths is right after every statement.
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the programs that this process runs, removes its unfinished files and begins no other: for a process that ends without
/// unwinding.
pub fn discard_unfinished() {
    child::end_all();
    let mut unfinished = unfinished();
    unfinished.closed = true;
    // Folders were made before the files in them.
    for path in unfinished.paths.drain(..).rev() {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
}

/// Makes a file that grows beyond what the system allows a process (`ulimit -f`) an error of writing instead of the end of the
/// process, in this thread and those it begins; and lets the process open as many files as it may: the frames of a sequence wait for
/// each other under temporary names.
pub fn survive_file_limits() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        use nix::sys::signal::{SigSet, Signal};
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGXFSZ);
        // Without it the process ends as it always did.
        let _ = signals.thread_block();
        let _ = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    }
}

/// A folder that is removed again unless it is kept; one that existed is left alone.
pub(crate) struct MadeFolder(Option<PathBuf>);

impl MadeFolder {
    pub(crate) fn ensure(folder: &Path) -> Result<Self> {
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(Self(None));
        }
        let mut unfinished = unfinished();
        if unfinished.closed {
            return Err(Error::Interrupted);
        }
        match fs::create_dir(folder) {
            // Another process made it just now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => return Ok(Self(None)),
            made => made.map_err(|source| file_error("create", folder, source))?,
        }
        unfinished.paths.push(folder.to_owned());
        Ok(Self(Some(folder.to_owned())))
    }

    pub(crate) fn keep(mut self) {
        if let Some(folder) = self.0.take() {
            unfinished().paths.retain(|path| *path != folder);
        }
    }
}

impl Drop for MadeFolder {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            unfinished().paths.retain(|path| path != folder);
            // Fails if someone else put files there, which is then right.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A temporary file next to its final place, removed unless it gets its name. It is locked as long as it is ours.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// A file in the folder of `target`, which is named in errors because the reader knows it.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("{PREFIX}{}-{}{SUFFIX}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = target.with_file_name(name);
            let mut unfinished = unfinished();
            if unfinished.closed {
                return Err(Error::Interrupted);
            }
            let file = match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                // A process of this number was here before and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file.map_err(|source| file_error("write", target, source))?,
            };
            unfinished.paths.push(path.clone());
            drop(unfinished);
            let partial = Self { path, file };
            // Elsewhere a lock would keep ffmpeg out; a file system that has none never lets anything be taken for abandoned.
            if cfg!(unix) {
                let _ = partial.file.lock();
            }
            // Another process may have taken it for abandoned before it was locked.
            if partial.path.exists() {
                return Ok(partial);
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Everything written is on the disk: a full one says so here at the latest. Returns the size in bytes.
    pub(crate) fn settle(&self, target: &Path) -> Result<u64> {
        self.file.sync_all().map_err(|source| file_error("write", target, source))?;
        fs::metadata(&self.path).map(|metadata| metadata.len()).map_err(|source| file_error("inspect", target, source))
    }

    /// Copies what is in it to another.
    pub(crate) fn copy_to(&self, other: &Self) -> io::Result<()> {
        // By its name: a program that wrote it may have replaced it.
        io::copy(&mut File::open(&self.path)?, &mut other.file()).map(drop)
    }

    /// Gives the file its name; one that is taken is replaced only if `overwrite`.
    pub(crate) fn rename(&self, target: &Path, overwrite: bool) -> io::Result<()> {
        if overwrite {
            return fs::rename(&self.path, target);
        }
        // Unlike a rename, a second name never replaces anything.
        match fs::hard_link(&self.path, target) {
            Ok(()) => {
                // Whoever removes the first name later finds it gone.
                let _ = fs::remove_file(&self.path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // A file system without second names: who makes the file has it.
            Err(_) => {
                OpenOptions::new().write(true).create_new(true).open(target)?;
                fs::rename(&self.path, target).inspect_err(|_| drop(fs::remove_file(target)))
            }
        }
    }

    /// Takes the name away again.
    pub(crate) fn take_back(&self, target: &Path) {
        // Nothing better can be done if it fails.
        let _ = fs::rename(target, &self.path);
    }
}

/// What is kept in it for a while: it never gets its name.
impl Read for Partial {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Partial {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // With its name there is nothing under this one any more.
        let _ = fs::remove_file(&self.path);
        unfinished().paths.retain(|path| *path != self.path);
    }
}

/// Removes what killed processes left in the folder of `target`.
pub(crate) fn remove_abandoned(target: &Path) {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = |name: &str| name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(SUFFIX)).is_some_and(is_ours);
        if !name.to_str().is_some_and(ours) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // The lock of a process ends with it.
        if OpenOptions::new().write(true).open(entry.path()).is_ok_and(|file| cfg!(unix) && file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// `PROCESS-NUMBER`, and nothing that a person would call a file.
fn is_ours(middle: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    middle.split_once('-').is_some_and(|(process, number)| digits(process) && digits(number))
}

//! Names of sequences, and files and folders that vanish again unless they are finished.
//!
//! Everything is written under a temporary name in the target's folder and renamed at the end; an
//! error, a stop or a panic removes what was written.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Error, Result};

pub(crate) fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// The names of a PNG sequence: `prefix`, then the frame number with at least `digits` digits, then `suffix`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    folder: PathBuf,
    prefix: String,
    digits: usize,
    suffix: String,
    shown: PathBuf,
}

impl Pattern {
    /// A `…%04d….png` path, or a folder for `frame-%04d.png`.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let unknown = || Error::UnknownFormat { found: path.display().to_string() };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_folder = path.is_dir() || !name.contains('%');
        let (folder, name) = if is_folder {
            (path.to_owned(), "frame-%04d.png".to_owned())
        } else {
            (path.parent().map(Path::to_owned).unwrap_or_default(), name)
        };
        let (prefix, rest) = name.split_once('%').ok_or_else(unknown)?;
        let (width, suffix) = rest.split_once('d').ok_or_else(unknown)?;
        let digits = if width.is_empty() { 1 } else { width.parse().map_err(|_| unknown())? };
        // More than 20 digits is no frame number, and a second % would be a second number.
        if digits > 20 || suffix.contains('%') || !suffix.to_ascii_lowercase().ends_with(".png") {
            return Err(unknown());
        }
        let shown = if is_folder { folder.clone() } else { path.to_owned() };
        Ok(Self { folder, prefix: prefix.to_owned(), digits, suffix: suffix.to_owned(), shown })
    }

    /// The folder the frames are in; empty for the current one.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the user wrote: the folder or the pattern.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// The file of frame `index`.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{}{index:0digits$}{}", self.prefix, self.suffix, digits = self.digits))
    }
}

/// A folder that is removed again unless it is kept; one that existed is left alone.
pub(crate) struct MadeFolder(Option<PathBuf>);

impl MadeFolder {
    pub(crate) fn ensure(folder: &Path) -> Result<Self> {
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(Self(None));
        }
        fs::create_dir(folder).map_err(|source| file_error("create", folder, source))?;
        Ok(Self(Some(folder.to_owned())))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for MadeFolder {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // Fails if someone else put files there, which is then right.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A temporary file next to its final place, removed unless committed.
pub(crate) struct Partial {
    path: PathBuf,
}

impl Partial {
    pub(crate) fn create(target: &Path) -> Result<(Self, File)> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(".kinora-{}-{}.partial", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        // The reader knows the target, not the temporary name.
        file.map(|file| (Self { path }, file)).map_err(|source| file_error("write", target, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name and returns its size in bytes.
    pub(crate) fn commit(self, target: &Path) -> Result<u64> {
        let size_bytes = fs::metadata(&self.path).map(|metadata| metadata.len());
        fs::rename(&self.path, target).map_err(|source| file_error("rename to", target, source))?;
        size_bytes.map_err(|source| file_error("inspect", target, source))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

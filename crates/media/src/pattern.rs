//! The names of a PNG sequence: a pattern with a frame number, or a folder of frames.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// `prefix`, then the frame number with at least `digits` digits, then `suffix`. Prefixes may be no UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    folder: PathBuf,
    prefix: OsString,
    digits: usize,
    suffix: OsString,
    /// The user named the folder alone.
    is_folder: bool,
}

impl Pattern {
    /// A `…%04d….png` path, or a folder for `frame-%04d.png`.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let unknown = || Error::UnknownFormat { found: path.display().to_string() };
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() || !has_percent(path) {
            return Ok(Self { folder: path.to_owned(), prefix: "frame-".into(), digits: 4, suffix: ".png".into(), is_folder: true });
        }
        let (prefix, rest) = split(name, b'%').ok_or_else(unknown)?;
        let (width, suffix) = split(&rest, b'd').ok_or_else(unknown)?;
        let width = width.to_str().ok_or_else(unknown)?;
        let digits = if width.is_empty() { 1 } else { width.parse().map_err(|_| unknown())? };
        let png = Path::new(&suffix).extension().or(suffix.to_str().and_then(|s| s.strip_prefix('.')).map(OsStr::new));
        // More than 20 digits is no frame number, and a second % would be a second number.
        if digits > 20 || split(&suffix, b'%').is_some() || !png.is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
            return Err(unknown());
        }
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { folder, prefix, digits, suffix, is_folder: false })
    }

    /// The folder the frames are in; empty for the current one.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same frames in another folder.
    pub(crate) fn in_folder(&self, folder: PathBuf) -> Self {
        Self { folder, ..self.clone() }
    }

    /// What the user wrote: the folder or the pattern.
    pub(crate) fn shown(&self) -> PathBuf {
        if self.is_folder {
            return self.folder.clone();
        }
        let number = if self.digits == 1 { "%d".to_owned() } else { format!("%0{}d", self.digits) };
        self.folder.join(joined(&[&self.prefix, number.as_ref(), &self.suffix]))
    }

    /// The file of frame `index`.
    pub(crate) fn path(&self, index: usize) -> PathBuf {
        let number = format!("{index:0digits$}", digits = self.digits);
        self.folder.join(joined(&[&self.prefix, number.as_ref(), &self.suffix]))
    }

    /// The `copy`th other name for the same sequence.
    pub(crate) fn other(&self, copy: u32) -> Self {
        let number = format!("-{copy}");
        match self.is_folder {
            true => {
                // Without a trailing separator, which would make it a folder inside.
                let folder: PathBuf = self.folder.components().collect();
                Self { folder: joined(&[folder.as_os_str(), number.as_ref()]).into(), ..self.clone() }
            }
            false => Self { prefix: joined(&[&self.prefix, format!("{copy}-").as_ref()]), ..self.clone() },
        }
    }

    /// Whether a file of this name is, or may be, one of these frames.
    pub(crate) fn matches(&self, name: &OsStr) -> bool {
        let (name, prefix, suffix) = (name.as_encoded_bytes(), self.prefix.as_encoded_bytes(), self.suffix.as_encoded_bytes());
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    }

    /// Whether both may have a file in common, once in the same folder.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.prefix.as_encoded_bytes(), other.prefix.as_encoded_bytes());
        let more = a.strip_prefix(b).or(b.strip_prefix(a));
        self.suffix == other.suffix && more.is_some_and(|more| more.iter().all(u8::is_ascii_digit))
    }
}

/// Whether the name, not its folder, holds a `%`.
pub(crate) fn has_percent(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().contains(&b'%'))
}

pub(crate) fn joined(parts: &[&OsStr]) -> OsString {
    let mut name = OsString::new();
    parts.iter().for_each(|part| name.push(part));
    name
}

/// What stands before and after the first `at`.
#[cfg(unix)]
fn split(name: &OsStr, at: u8) -> Option<(OsString, OsString)> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = name.as_bytes();
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((OsStr::from_bytes(&bytes[..place]).to_owned(), OsStr::from_bytes(&bytes[place + 1..]).to_owned()))
}

/// What stands before and after the first `at`, in names that are Unicode.
#[cfg(not(unix))]
fn split(name: &OsStr, at: u8) -> Option<(OsString, OsString)> {
    let (before, after) = name.to_str()?.split_once(char::from(at))?;
    Some((before.into(), after.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(path: &str) -> Pattern {
        Pattern::new(path.as_ref()).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn frames_are_numbered_as_the_pattern_says() {
        assert_eq!(pattern("a/f-%03d.png").path(7), Path::new("a/f-007.png"));
        assert_eq!(pattern("%d.png").path(12), Path::new("12.png"));
        assert_eq!(pattern("frames/").path(1), Path::new("frames/frame-0001.png"));
        assert_eq!(pattern("a/f-%03d.PNG").shown(), Path::new("a/f-%03d.PNG"));
        assert_eq!(pattern("a/f-%03d.png").other(2).path(0), Path::new("a/f-2-000.png"));
        assert_eq!(pattern("frames/").other(2).path(0), Path::new("frames-2/frame-0000.png"));
    }

    #[test]
    fn sequences_that_share_a_file_overlap() {
        for (a, b, expected) in [
            ("f-%d.png", "f-%04d.png", true),
            ("f-%d.png", "f-1%d.png", true),
            ("f-%d.png", "g-%d.png", false),
            ("f-%d.png", "f-%d.PNG", false),
            ("f-%d.png", "f-a%d.png", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} and {b}");
        }
        assert!(pattern("f-%02d.png").matches("f-10000.png".as_ref()) && !pattern("f-%d.png").matches("f-.png".as_ref()), "one file");
    }
}

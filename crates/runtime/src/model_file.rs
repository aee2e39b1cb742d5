//! Files of models on a disk. Only regular ones are read: a device or a pipe may have no end, and opening it may wait for ever.

use std::fs::{self, File};
use std::io::{Error as IoError, Read as _};
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a file.
pub(crate) fn open(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
    if !metadata.is_file() {
        return Err(Error::io("read", path, IoError::other("it is no regular file")));
    }
    File::open(path).map_err(|e| Error::io("open", path, e))
}

/// All of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

/// All of a file of text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|e| Error::io("read", path, e))?;
    Ok(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        for path in ["/dev/zero", "/dev/null", "/"] {
            let Error::Io { source, .. } = read(Path::new(path)).expect_err(path) else { panic!("{path}: another error") };
            assert_eq!(source.to_string(), "it is no regular file", "{path}");
        }
        assert_eq!(read_text(Path::new("/nowhere")).expect_err("absent").code(), "not-found");
    }
}

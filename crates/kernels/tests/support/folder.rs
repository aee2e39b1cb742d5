//! Folders of their own, for tests of all crates.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::{fs, io, path::PathBuf};

/// A folder for one test, removed at the end.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty one; `name` is unique within a file of tests, the process number between them.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("kinora-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// What is in it, in order.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = entries.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover in the temporary folder is no reason to fail a test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! A sequence of PNG files that is being written: all get their names together, or each at once where nobody knows the last.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    Error, Head, Metadata, Result,
    files::{MadeFolder, Partial, file_error, remove_abandoned},
    pattern::Pattern,
    place::{check_free, followed},
    png,
};

/// Other sequences that are tried for one whose names are taken.
const MAX_COPIES: u32 = 100;

/// Frames under temporary names; dropped before it is finished, it leaves none.
pub(crate) struct Sequence {
    pattern: Pattern,
    head: Head,
    metadata: Metadata,
    overwrite: bool,
    /// Those that wait for the others, and are gone before their folder.
    partials: Vec<Partial>,
    folder: MadeFolder,
    count: usize,
    size_bytes: u64,
}

impl Sequence {
    pub(crate) fn begin(pattern: &Pattern, head: &Head, metadata: &Metadata, overwrite: bool) -> Result<Self> {
        let folder = MadeFolder::ensure(pattern.folder())?;
        let (pattern, metadata, partials) = (pattern.clone(), metadata.clone(), Vec::with_capacity(head.frames.unwrap_or_default()));
        Ok(Self { pattern, head: *head, metadata, overwrite, folder, partials, count: 0, size_bytes: 0 })
    }

    pub(crate) fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        let path = followed(&self.pattern.path(self.count))?;
        let partial = Partial::create(&path)?;
        let mut out = BufWriter::new(partial.file());
        png::encode_still(&self.head, rgba, &self.metadata, &mut out).map_err(|error| match error {
            Error::Write(source) => file_error("write", &path, source),
            other => other,
        })?;
        out.flush().map_err(|source| file_error("write", &path, source))?;
        drop(out);
        self.size_bytes += partial.settle(&path)?;
        if self.head.frames.is_some() {
            self.partials.push(partial);
        } else {
            // Without an end there is none to wait for.
            name(&partial, &path, self.overwrite)?;
        }
        self.count += 1;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(PathBuf, u64)> {
        let Self { pattern, partials, overwrite, .. } = self;
        match name_all(&partials, &pattern, overwrite) {
            Ok(()) => {}
            Err(Error::Exists { path, .. }) => {
                // Someone else took a name. What took minutes to make is not thrown away.
                let other = (2..MAX_COPIES).map(|copy| pattern.other(copy)).find(|other| check_sequence(other, false).is_ok());
                let kept = other.and_then(|other| {
                    let made = MadeFolder::ensure(other.folder()).ok()?;
                    name_all(&partials, &other, false).ok()?;
                    made.keep();
                    Some(other.shown())
                });
                return Err(Error::Exists { path, kept });
            }
            Err(error) => return Err(error),
        }
        self.folder.keep();
        if overwrite {
            // What is replaced is the whole sequence: frames of an older, longer one would play after ours.
            (self.count..).map(|index| pattern.path(index)).take_while(|old| old.is_file() && fs::remove_file(old).is_ok()).for_each(drop);
        }
        Ok((pattern.shown(), self.size_bytes))
    }
}

/// Gives a frame its name.
fn name(partial: &Partial, path: &Path, overwrite: bool) -> Result<()> {
    partial.rename(path, overwrite).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned(), kept: None },
        _ => file_error("rename to", path, error),
    })
}

/// Gives all frames their names, or none.
fn name_all(partials: &[Partial], pattern: &Pattern, overwrite: bool) -> Result<()> {
    let mut named: Vec<PathBuf> = Vec::with_capacity(partials.len());
    // A frame that was added meanwhile would play after ours.
    let after = pattern.path(partials.len());
    let all = partials.iter().enumerate().try_for_each(|(index, partial)| {
        let path = followed(&pattern.path(index))?;
        name(partial, &path, overwrite)?;
        named.push(path);
        Ok(())
    });
    let all = all.and_then(|()| if overwrite { Ok(()) } else { check_free(&after, &after, false) });
    if all.is_err() {
        partials.iter().zip(&named).for_each(|(partial, path)| partial.take_back(path));
    }
    all
}

/// The first frame can have its name, and the folder takes files or can be made.
pub(crate) fn check_sequence(pattern: &Pattern, overwrite: bool) -> Result<()> {
    check_frame(pattern, 0, overwrite)?;
    let first = match pattern.folder() {
        // It is made when the frames are there; its parent must take it.
        folder if !folder.as_os_str().is_empty() && !folder.exists() => folder.components().collect(),
        _ => pattern.path(0),
    };
    remove_abandoned(&first);
    Partial::create(&first).map(drop)
}

pub(crate) fn check_frame(pattern: &Pattern, index: usize, overwrite: bool) -> Result<()> {
    let path = pattern.path(index);
    check_free(&followed(&path)?, &path, overwrite)
}

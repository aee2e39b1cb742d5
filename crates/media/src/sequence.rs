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
    place::{check_free, followed, roomy},
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
    /// Where frames wait since their folder is full.
    elsewhere: Option<PathBuf>,
    count: usize,
    size_bytes: u64,
}

impl Sequence {
    pub(crate) fn begin(pattern: &Pattern, head: &Head, metadata: &Metadata, overwrite: bool) -> Result<Self> {
        let folder = MadeFolder::ensure(pattern.folder())?;
        let (pattern, metadata, partials) = (pattern.clone(), metadata.clone(), Vec::with_capacity(head.frames.unwrap_or_default()));
        Ok(Self { pattern, head: *head, metadata, overwrite, folder, partials, elsewhere: None, count: 0, size_bytes: 0 })
    }

    pub(crate) fn frame(&mut self, rgba: &[u8]) -> Result<()> {
        let path = followed(&self.pattern.path(self.count))?;
        let written = match (self.written(rgba, &path), self.head.frames) {
            // What took minutes to make is not thrown away if there is space elsewhere. Without an end it is there already.
            (Err(Error::File { source, .. }), Some(_)) if is_full(&source) && self.elsewhere.is_none() => {
                self.elsewhere = roomy(&path, u64::MAX).parent().map(Path::to_owned);
                self.written(rgba, &path)
            }
            (written, _) => written,
        };
        let (partial, size_bytes) = written?;
        self.size_bytes += size_bytes;
        if self.head.frames.is_some() {
            self.partials.push(partial);
        } else {
            // Without an end there is none to wait for.
            name(&partial, &path, self.overwrite)?;
        }
        self.count += 1;
        Ok(())
    }

    /// A frame under a temporary name, and its size in bytes.
    fn written(&self, rgba: &[u8], path: &Path) -> Result<(Partial, u64)> {
        let partial = match &self.elsewhere {
            Some(folder) => Partial::create(&folder.join(path.file_name().unwrap_or_default()))?,
            None => Partial::create(path)?,
        };
        let mut out = BufWriter::new(partial.file());
        png::encode_still(&self.head, rgba, &self.metadata, &mut out).map_err(|error| match error {
            Error::Write(source) => file_error("write", path, source),
            other => other,
        })?;
        out.flush().map_err(|source| file_error("write", path, source))?;
        drop(out);
        let size_bytes = partial.settle(path)?;
        Ok((partial, size_bytes))
    }

    pub(crate) fn finish(self) -> Result<(PathBuf, u64)> {
        let Self { pattern, mut partials, overwrite, elsewhere, .. } = self;
        if let Some(elsewhere) = elsewhere
            && let Err(error) = bring(&mut partials, &pattern.path(0))
        {
            return Err(match error {
                Error::File { source, .. } => {
                    Error::Kept { kept: keep(&mut partials, &pattern, &elsewhere)?, path: pattern.shown(), source }
                }
                other => other,
            });
        }
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

/// Whether a disk, or the share of one that somebody has, takes no more.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Brings all frames into the folder of `target`.
fn bring(partials: &mut [Partial], target: &Path) -> Result<()> {
    for partial in partials.iter_mut().filter(|partial| partial.path().parent() != target.parent()) {
        let there = Partial::create(target)?;
        partial.copy_to(&there).map_err(|source| file_error("write", target, source))?;
        there.settle(target)?;
        *partial = there;
    }
    Ok(())
}

/// Keeps all frames together in a new folder of `elsewhere`, called as their own is.
fn keep(partials: &mut [Partial], pattern: &Pattern, elsewhere: &Path) -> Result<PathBuf> {
    let first = Pattern::new(&elsewhere.join(pattern.folder().file_name().unwrap_or("frames".as_ref())))?;
    let free = std::iter::once(first.clone()).chain((2..MAX_COPIES).map(|copy| first.other(copy)));
    let kept = free.into_iter().find(|kept| !kept.folder().exists()).unwrap_or(first);
    let folder = MadeFolder::ensure(kept.folder())?;
    bring(partials, &kept.path(0))?;
    name_all(partials, &kept, false)?;
    folder.keep();
    Ok(kept.shown())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameRate;

    /// Three frames that wait elsewhere from number `from`, as when their folder is full.
    fn written(root: &Path, from: usize) -> Sequence {
        let [home, elsewhere] = ["home", "elsewhere"].map(|name| root.join(name));
        for folder in [&home, &elsewhere] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let frame_rate = FrameRate::new(12, 1).expect("a rate");
        let head = Head { width: 2, height: 1, frame_rate, frames: Some(3), is_opaque: true };
        let pattern = Pattern::new(&home.join("a-%d.png")).expect("a pattern");
        let mut sequence = Sequence::begin(&pattern, &head, &Metadata::default(), false).expect("it begins");
        for number in 0..3 {
            sequence.elsewhere = Some(elsewhere.clone()).filter(|_| number >= from);
            sequence.frame(&[number as u8; 8]).expect("there is space");
        }
        sequence
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn frames_that_waited_elsewhere_come_home_or_are_kept_together_there() {
        let root = std::env::temp_dir().join(format!("kinora-sequence-{}", std::process::id()));
        written(&root, 1).finish().expect("there is space again");
        assert_eq!(names(&root.join("home")), ["a-0.png", "a-1.png", "a-2.png"]);
        assert_eq!(names(&root.join("elsewhere")), [""; 0], "nothing is left elsewhere");
        fs::remove_dir_all(&root).expect("ours");

        let sequence = written(&root, 0);
        fs::remove_dir(root.join("home")).expect("it is empty");
        fs::create_dir(root.join("elsewhere/home")).expect("a folder of somebody else");
        let Err(Error::Kept { path, kept, .. }) = sequence.finish() else { panic!("its folder is gone") };
        assert_eq!((path, &kept), (root.join("home/a-%d.png"), &root.join("elsewhere/home-2")));
        assert_eq!(names(&kept), ["frame-0000.png", "frame-0001.png", "frame-0002.png"]);
        assert_eq!(names(&root.join("elsewhere")), ["home", "home-2"]);
        fs::remove_dir_all(&root).expect("ours");
    }
}

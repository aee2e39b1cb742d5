//! What a finished file says it was made from, and whether it is whole: how a batch that goes on knows what it has already made.

use std::{fs, path::Path};

use crate::{Format, Result, files::file_error, mp4, pattern::Pattern};

/// What was found at an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// [`Metadata::comment`](crate::Metadata::comment) as it was given when the file was written.
    pub comment: String,
    /// Files: frames of a sequence, otherwise 1.
    pub files: usize,
    /// Whether every file ends as its format demands.
    pub whole: bool,
    /// Size of all files together.
    pub size_bytes: u64,
}

impl Made {
    /// Reads the comment of what is at `path`, a file or a PNG sequence; `None` where nothing is, and for files that hold no
    /// comment, as Y4M never does.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File), [`Error::UnknownFormat`](crate::Error::UnknownFormat).
    pub fn find(path: &Path, format: Option<Format>) -> Result<Option<Self>> {
        let format = format.map_or_else(|| Format::from_path(path), Ok)?;
        if format != Format::PngSequence {
            return read(path, format);
        }
        let pattern = Pattern::new(path)?;
        let Some(mut made) = read(&pattern.path(0), Format::PngSequence)? else { return Ok(None) };
        while let Some(next) = read(&pattern.path(made.files), Format::PngSequence)? {
            made.files += 1;
            made.whole &= next.whole && next.comment == made.comment;
            made.size_bytes += next.size_bytes;
        }
        Ok(Some(made))
    }
}

fn read(path: &Path, format: Format) -> Result<Option<Made>> {
    if !path.is_file() || format == Format::Y4m {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|source| file_error("read", path, source))?;
    let (comment, whole) = match format {
        Format::Gif => gif(&bytes).unwrap_or_default(),
        Format::Mp4 => mp4::comment(&bytes),
        Format::Apng | Format::PngSequence => png(&bytes),
        Format::Y4m => (None, false),
    };
    Ok(comment.map(|comment| Made { comment, files: 1, whole, size_bytes: bytes.len() as u64 }))
}

/// The blocks of a GIF (`GIF89a`, §§ 17–24), which ends with a trailer.
fn gif(bytes: &[u8]) -> Option<(Option<String>, bool)> {
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut comment = None;
    loop {
        let Some(&kind) = bytes.get(at) else { return Some((comment, false)) };
        let (label, mut next) = match kind {
            0x3b => return Some((comment, at + 1 == bytes.len())),
            0x21 => (bytes.get(at + 1).copied(), at + 2),
            // The image's own table, and the size of its codes.
            0x2c => (None, at + 11 + bytes.get(at + 9).map_or(0, |flags| table(*flags))),
            _ => return Some((comment, false)),
        };
        let mut text = Vec::new();
        while let Some(&length) = bytes.get(next) {
            next += 1 + usize::from(length);
            match bytes.get(next - usize::from(length)..next) {
                Some([]) => break,
                Some(part) if label == Some(0xfe) => text.extend(part),
                _ => {}
            }
        }
        if label == Some(0xfe) && comment.is_none() {
            comment = String::from_utf8(text).ok();
        }
        at = next;
    }
}

/// The chunks of a PNG (§11.3.3 and §5.3 of its specification), which ends with an empty one.
fn png(bytes: &[u8]) -> (Option<String>, bool) {
    let (mut at, mut comment) = (8, None);
    while let Some(&[a, b, c, d, ref kind @ ..]) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(content) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else { break };
        at = at + 12 + length;
        match kind {
            // Keyword, two flags that say "not compressed", two empty names of languages.
            b"iTXt" => comment = content.strip_prefix(b"Comment\0\0\0\0\0").and_then(|text| str::from_utf8(text).ok()).or(comment),
            b"IEND" => return (comment.map(str::to_owned), at == bytes.len()),
            _ => {}
        }
    }
    (comment.map(str::to_owned), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clip, FrameRate, Metadata, Output, encode};

    fn clip() -> Result<Clip> {
        Clip::new(16, 16, FrameRate::new(12, 1)?, (0..3).map(|n| vec![n * 40; 16 * 16 * 4]).collect())
    }

    #[test]
    fn what_was_written_is_found_and_what_is_cut_off_is_not_whole() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("kinora-made-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|source| file_error("create", &folder, source))?;
        let comment = format!("{{\"prompt\":\"{}\"}}", "über 火箭 ".repeat(60));
        let metadata = Metadata { description: "a".into(), software: "b".into(), comment: comment.clone() };
        for (name, format) in [("a.gif", Format::Gif), ("a.apng", Format::Apng), ("a.mp4", Format::Mp4)] {
            let path = folder.join(name);
            let mut bytes = Vec::new();
            encode(&clip()?, format, &metadata, &mut bytes, &mut |_| true)?;
            let written = |bytes: &[u8]| fs::write(&path, bytes).map_err(|source| file_error("write", &path, source));
            written(&bytes)?;
            let whole = Made { comment: comment.clone(), files: 1, whole: true, size_bytes: bytes.len() as u64 };
            assert_eq!(Made::find(&path, None)?, Some(whole), "{name}");
            for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
                written(&bytes[..cut])?;
                assert!(Made::find(&path, None)?.is_none_or(|made| !made.whole), "{name} cut at {cut} of {}", bytes.len());
            }
        }
        let output = Output::open(&folder.join("frames/"), None, false)?;
        output.write(&clip()?, &metadata, &mut |_| true)?;
        let found = Made::find(&folder.join("frames/"), None)?.map(|made| (made.comment, made.files, made.whole));
        assert_eq!(found, Some((comment, 3, true)), "a sequence");
        assert_eq!(Made::find(&folder.join("none.gif"), None)?, None, "nothing there");
        fs::remove_dir_all(&folder).map_err(|source| file_error("remove", &folder, source))
    }
}

//! `kinora models manifest` and `verify` of a folder: SHA-256 of each 4 MiB of its files, so that damage is found and placed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kinora_media::Place;
use kinora_runtime::manifest::is_inside;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Report,
    failure::{Exit, Failure},
    models::broken,
};

/// The file in the folder that it lists; of a file, what follows its name.
const NAME: &str = "manifest.json";
/// Bytes covered by one sum, as in the npm package.
const CHUNK_BYTES: u64 = 4 << 20;
/// Files that a message names.
const MOST_NAMED: usize = 10;

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    chunk_bytes: u64,
    /// By path, with `/` between folders.
    files: BTreeMap<String, Listed>,
}

#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Listed {
    bytes: u64,
    sha256: Vec<String>,
}

/// What the paths in a manifest are relative to, and where it is: in a folder, or beside a file.
fn places(of: &Path) -> (PathBuf, PathBuf) {
    if of.is_dir() {
        return (of.into(), of.join(NAME));
    }
    let name = of.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (of.parent().unwrap_or(Path::new("")).into(), of.with_file_name(format!("{name}.{NAME}")))
}

/// Writes the manifest of a folder or a file.
pub(crate) fn write(of: &Path, overwrite: bool) -> Result<Report, Failure> {
    let (folder, path) = places(of);
    let place = Place::open(&path, overwrite)?;
    let mut files = BTreeMap::new();
    let listed = if of.is_dir() {
        files_of(&folder)?
    } else {
        let name = of.file_name().and_then(|name| name.to_str()).ok_or_else(|| broken(of, "its name is no Unicode"))?;
        vec![(name.to_owned(), of.to_owned())]
    };
    for (name, file) in listed {
        files.insert(name, sums(&file, CHUNK_BYTES).map_err(|error| broken(&file, error))?);
    }
    let (count, bytes) = (files.len(), files.values().map(|listed| listed.bytes).sum::<u64>());
    let mut text = serde_json::to_vec_pretty(&Manifest { chunk_bytes: CHUNK_BYTES, files }).unwrap_or_default();
    text.push(b'\n');
    place.write(&mut |out| Ok(out.write_all(&text)?))?;
    Ok(Report::new(path.as_os_str(), json!({ "path": path.display().to_string(), "files": count, "bytes": bytes })))
}

/// Compares the files of a folder, or a file, with the manifest.
pub(crate) fn verify(of: &Path) -> Result<Report, Failure> {
    let (folder, path) = places(of);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::Model, "no-manifest", format!("there is no `{}`", path.display()))
            .hint("write one by `kinora models manifest DIR` where the files are known to be whole"),
        _ => broken(&path, error),
    })?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| broken(&path, error))?;
    if manifest.chunk_bytes == 0 {
        return Err(broken(&path, "`chunkBytes` is 0"));
    }
    let (mut wrong, mut bytes) = (Vec::new(), 0);
    for (name, listed) in &manifest.files {
        bytes += listed.bytes;
        let found = match is_inside(name) {
            true => sums(&folder.join(name), manifest.chunk_bytes),
            false => Err(io::Error::other("it is no path inside the folder")),
        };
        match found {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(found) if found.bytes != listed.bytes => {
                wrong.push(format!("{name} has {} bytes, expected {}", found.bytes, listed.bytes));
            }
            Ok(found) => {
                let damaged = found.sha256.iter().zip(&listed.sha256).position(|(found, listed)| found != listed);
                if let Some(chunk) = damaged.or_else(|| (found.sha256.len() != listed.sha256.len()).then_some(0)) {
                    wrong.push(format!("{name} is damaged after byte {}", chunk as u64 * manifest.chunk_bytes));
                }
            }
        }
    }
    let shown = of.display();
    if wrong.is_empty() {
        let text = format!("{} files of {shown}, {:.1} MB, are as listed", manifest.files.len(), bytes as f64 / 1e6);
        return Ok(Report::new(text, json!({ "path": shown.to_string(), "files": manifest.files.len(), "bytes": bytes })));
    }
    let more = wrong.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let named = wrong[..wrong.len().min(MOST_NAMED)].join("; ");
    let message = format!("{} of {} files of {shown}: {named}{more}", wrong.len(), manifest.files.len());
    Err(Failure::new(Exit::Model, "damaged-model", message).hint("fetch the files that are named again"))
}

/// Every file of a folder and of its folders, but for the manifest, and what is hidden.
fn files_of(folder: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut files = Vec::new();
    let mut open = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| broken(&folder, error))? {
            let entry = entry.map_err(|error| broken(&folder, error))?;
            let (path, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else { return Err(broken(&path, "its name is no Unicode")) };
            let listed = format!("{prefix}{name}");
            if name.starts_with('.') || listed == NAME {
                continue;
            }
            if path.is_dir() { open.push((format!("{listed}/"), path)) } else { files.push((listed, path)) }
        }
    }
    Ok(files)
}

fn sums(path: &Path, chunk_bytes: u64) -> io::Result<Listed> {
    let mut file = File::open(path)?;
    let (mut sha256, mut bytes, mut buffer) = (Vec::new(), 0, vec![0; 1 << 18]);
    loop {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut chunk = Read::by_ref(&mut file).take(chunk_bytes);
        let mut length = 0;
        loop {
            match chunk.read(&mut buffer)? {
                0 => break,
                count => {
                    context.update(&buffer[..count]);
                    length += count as u64;
                }
            }
        }
        if length == 0 {
            return Ok(Listed { bytes, sha256 });
        }
        bytes += length;
        sha256.push(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flipbook() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/flipbook")
    }

    #[test]
    fn the_built_in_model_is_as_its_manifest_says() {
        verify(&flipbook()).expect("whole");
        let text = fs::read(flipbook().join(NAME)).expect("there");
        let manifest: Manifest = serde_json::from_slice(&text).expect("valid");
        let files = files_of(&flipbook()).expect("readable");
        assert_eq!(
            manifest.files.keys().collect::<std::collections::BTreeSet<_>>(),
            files.iter().map(|(name, _)| name).collect(),
            "all files"
        );
    }
}

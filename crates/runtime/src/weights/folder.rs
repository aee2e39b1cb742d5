//! Weights in files of this machine: a component's folder with one file or an index of several, or a file alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kinora_kernels::ByteSource;

use super::checkpoint::Checkpoint;
use super::files::{NO_WEIGHTS, WEIGHT_FILES};
use crate::error::{Error, Result};
use crate::json::object;
use crate::model_file;

/// Endings of files that are pickles.
const PICKLES: [&str; 4] = [".bin", ".pt", ".pth", ".ckpt"];
/// What an index is called: `NAME.safetensors.index.json`, or `NAME.safetensors.index.VARIANT.json`.
const INDEX: &str = ".safetensors.index.";
/// The names that the libraries give a component's only file, or its index.
const STANDARD: [&str; 2] = ["diffusion_pytorch_model.safetensors", "model.safetensors"];

impl Checkpoint {
    /// Opens a component folder (`config.json` beside the weights) or a single weight file.
    ///
    /// In a folder, an index file (`*.safetensors.index.json`, or one of a variant) names the shards; without one
    /// there must be a single weight file, or one of the two standard names decides.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::CorruptWeights`], [`Error::Pickle`], [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        let files = if kind.is_dir() { weight_files(path)? } else { Located::Single(path.into()) };
        let mut checkpoint = Self::empty(path.display().to_string());
        match files {
            Located::Single(file) => checkpoint.read_file(&file).map(drop)?,
            Located::Sharded(index) => checkpoint.read_shards(&index)?,
        }
        Ok(checkpoint)
    }

    fn read_file(&mut self, path: &Path) -> Result<usize> {
        let file = model_file::open(path)?;
        let size = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        self.add(Arc::new(OnDisk { file: Mutex::new(file), size }), &path.display().to_string())
    }

    fn read_shards(&mut self, path: &Path) -> Result<()> {
        let label = path.display().to_string();
        let corrupt = |problem: String| Error::CorruptWeights { file: label.clone(), problem };
        let text = model_file::read_text(path)?;
        let index: Index = object(&text).map_err(|e| corrupt(e.to_string()))?;
        let mut opened = BTreeMap::new();
        for (name, file) in &index.weight_map {
            if Path::new(file).components().count() != 1 || !file.ends_with(".safetensors") {
                return Err(corrupt(format!("`{file}` is not the name of a safetensors file in the same folder")));
            }
            let shard = match opened.get(file) {
                Some(&shard) => shard,
                None => {
                    let shard = self.read_file(&path.with_file_name(file))?;
                    opened.insert(file, shard);
                    shard
                }
            };
            if self.file_of(name) != Some(shard) {
                return Err(corrupt(format!("tensor `{name}` is not in {file}, where the index says it is")));
            }
        }
        Ok(())
    }
}

/// A file that is read as it is needed. It is not mapped, so that one that is cut short meanwhile is an error and no signal.
struct OnDisk {
    file: Mutex<fs::File>,
    size: u64,
}

impl ByteSource for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.size);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut bytes)?;
        Ok(Cow::Owned(bytes))
    }
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

enum Located {
    Single(PathBuf),
    Sharded(PathBuf),
}

fn weight_files(folder: &Path) -> Result<Located> {
    let mut indices = Vec::new();
    let mut singles = Vec::new();
    let mut pickles = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))? {
        let path = entry.map_err(|e| Error::io("read", folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if name.contains(INDEX) && name.ends_with(".json") {
            indices.push(path);
        } else if ends(&WEIGHT_FILES) {
            singles.push(path);
        } else if ends(&PICKLES) {
            pickles.push(path);
        }
    }
    let named = |files: &[PathBuf], ending: &str| {
        let is =
            |path: &&PathBuf| path.file_name().is_some_and(|name| STANDARD.iter().any(|standard| name == &*format!("{standard}{ending}")));
        files.iter().find(is).cloned()
    };
    if let Some(single) = named(&singles, "") {
        return Ok(Located::Single(single));
    }
    if let Some(index) = named(&indices, ".index.json") {
        return Ok(Located::Sharded(index));
    }
    match (indices.as_slice(), singles.as_slice()) {
        ([index], _) => Ok(Located::Sharded(index.clone())),
        ([], [single]) => Ok(Located::Single(single.clone())),
        ([], []) if !pickles.is_empty() => Err(Error::Pickle { file: pickles[0].display().to_string() }),
        ([], []) => Err(Error::NotFound { what: NO_WEIGHTS.into(), path: folder.into() }),
        _ => Err(Error::CorruptWeights {
            file: folder.display().to_string(),
            problem: format!(
                "{} weight files and {} index files leave open which to load; keep one index or one file",
                singles.len(),
                indices.len()
            ),
        }),
    }
}

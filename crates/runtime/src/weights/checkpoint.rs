//! A model's weights as one table of tensors, whether they lie in one file or in several.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kinora_kernels::SharedBytes;

use crate::error::{Error, Result};
use crate::weights::safetensors::{Header, TensorView};

/// Named tensors of one model component, read in place.
#[derive(Debug)]
pub struct Checkpoint {
    label: String,
    shards: Vec<Shard>,
    /// Tensor name to index into `shards`.
    owner: BTreeMap<String, usize>,
}

struct Shard {
    header: Header,
    /// The whole file: mapped, or read into memory.
    bytes: SharedBytes,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shard").field(&self.header).finish()
    }
}

impl Shard {
    fn new(bytes: SharedBytes, file: &str) -> Result<Self> {
        let slice = (*bytes).as_ref();
        let header = Header::parse(slice, slice.len() as u64, file)
            .map_err(|error| if is_pickle(slice) { Error::Pickle { file: file.into() } } else { error })?;
        Ok(Self { header, bytes })
    }
}

/// Whether what is no safetensors file begins as `torch.save` does: with a zip archive, or with a pickle of protocol 2 to 5.
fn is_pickle(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..])
}

impl Checkpoint {
    /// Takes whole files that are already in memory, `(name, bytes)`; names appear in errors.
    ///
    /// # Errors
    /// [`Error::CorruptWeights`] if a file is malformed or two files hold the same tensor.
    pub fn from_files(label: impl Into<String>, files: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let mut checkpoint = Self { label: label.into(), shards: Vec::new(), owner: BTreeMap::new() };
        for (file, bytes) in files {
            checkpoint.add(Shard::new(Arc::new(bytes), &file)?, &file)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, shard: Shard, file: &str) -> Result<()> {
        let index = self.shards.len();
        for name in shard.header.tensors.keys() {
            if self.owner.insert(name.clone(), index).is_some() {
                let problem = format!("tensor `{name}` is also in another file of the same model");
                return Err(Error::CorruptWeights { file: file.into(), problem });
            }
        }
        self.shards.push(shard);
        Ok(())
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn get(&self, name: &str) -> Result<TensorView<'_>> {
        let found = self.owner.get_key_value(name).and_then(|(name, &shard)| {
            let shard = self.shards.get(shard)?;
            let entry = shard.header.tensors.get(name)?;
            let bytes = (*shard.bytes).as_ref().get(entry.bytes.clone())?;
            Some(TensorView { name, dtype: entry.dtype, shape: &entry.shape, bytes })
        });
        found.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { name: name.into(), file: self.label.clone(), count: self.owner.len() }
    }

    /// The file that holds tensor `name`, and where its values are: for weights that share the file instead of copying.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shared_bytes(&self, name: &str) -> Result<(SharedBytes, Range<usize>)> {
        let shard = self.owner.get(name).and_then(|&shard| self.shards.get(shard));
        let found = shard.and_then(|s| Some((Arc::clone(&s.bytes), s.header.tensors.get(name)?.bytes.clone())));
        found.ok_or_else(|| self.missing(name))
    }

    /// A weight as f32, checked: it must have this shape and hold only finite values.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::NonFinite`].
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.get(name)?;
        tensor.expect_shape(shape)?;
        let values = tensor.to_f32();
        let count = values.iter().filter(|v| !v.is_finite()).count();
        if count > 0 {
            return Err(Error::NonFinite { at: format!("weight `{name}`"), count, total: values.len() });
        }
        Ok(values)
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.owner.contains_key(name)
    }

    /// All names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.owner.keys().map(String::as_str)
    }

    /// How the checkpoint is called in errors: its path.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod files {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{Arc, BTreeMap, Checkpoint, Error, Result, Shard};
    use crate::weights::safetensors::UniqueMap;

    const INDEX_SUFFIX: &str = ".safetensors.index.json";

    impl Checkpoint {
        /// Opens a component folder (`config.json` beside the weights) or a single weight file.
        ///
        /// In a folder, an index file (`*.safetensors.index.json`) names the shards; without one
        /// there must be a single `*.safetensors` file, or one of the two standard names decides.
        ///
        /// # Errors
        /// [`Error::NotFound`], [`Error::CorruptWeights`], [`Error::Io`].
        pub fn open(path: impl AsRef<Path>) -> Result<Self> {
            let path = path.as_ref();
            let kind = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
            let files = if kind.is_dir() { weight_files(path)? } else { Located::Single(path.into()) };
            let empty = Self { label: path.display().to_string(), shards: Vec::new(), owner: BTreeMap::new() };
            match files {
                Located::Single(file) => empty.with_file(&file),
                Located::Sharded(index) => empty.with_index(&index),
            }
        }

        fn with_file(mut self, path: &Path) -> Result<Self> {
            let file = fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
            // SAFETY: the map is read-only and private to this checkpoint. Another process that
            // truncates the file meanwhile can fault the reader, as with every mapped file; model
            // files are replaced by renaming, which leaves the mapped one intact.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
            let label = path.display().to_string();
            self.add(Shard::new(Arc::new(map), &label)?, &label)?;
            Ok(self)
        }

        fn with_index(mut self, path: &Path) -> Result<Self> {
            let label = path.display().to_string();
            let corrupt = |problem: String| Error::CorruptWeights { file: label.clone(), problem };
            let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
            let index: Index = serde_json::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
            let mut opened = BTreeMap::new();
            for (name, file) in &index.weight_map.0 {
                if Path::new(file).components().count() != 1 || !file.ends_with(".safetensors") {
                    return Err(corrupt(format!("`{file}` is not the name of a safetensors file in the same folder")));
                }
                let shard = match opened.get(file) {
                    Some(&shard) => shard,
                    None => {
                        self = self.with_file(&path.with_file_name(file))?;
                        opened.insert(file, self.shards.len() - 1);
                        self.shards.len() - 1
                    }
                };
                if self.owner.get(name) != Some(&shard) {
                    return Err(corrupt(format!("tensor `{name}` is not in {file}, where the index says it is")));
                }
            }
            Ok(self)
        }
    }

    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: UniqueMap<String>,
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
            let entry = entry.map_err(|e| Error::io("read", folder, e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(INDEX_SUFFIX) {
                indices.push(entry.path());
            } else if name.ends_with(".safetensors") {
                singles.push(entry.path());
            } else if [".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending)) {
                pickles.push(entry.path());
            }
        }
        for name in ["diffusion_pytorch_model.safetensors", "model.safetensors"] {
            if let Some(standard) = singles.iter().find(|path| path.file_name().is_some_and(|n| n == name)) {
                return Ok(Located::Single(standard.clone()));
            }
        }
        match (indices.as_slice(), singles.as_slice()) {
            ([index], _) => Ok(Located::Sharded(index.clone())),
            ([], [single]) => Ok(Located::Single(single.clone())),
            ([], []) if !pickles.is_empty() => Err(Error::Pickle { file: pickles[0].display().to_string() }),
            ([], []) => Err(Error::NotFound { what: "weight file (*.safetensors)".into(), path: folder.into() }),
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
}

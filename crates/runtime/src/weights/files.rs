//! A model folder as a browser has it: files in memory, and large ones wherever they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinora_kernels::SharedBytes;

use crate::error::{Error, Result};
use crate::pipeline::parts::{ModelParts, STATES};
use crate::weights::{Checkpoint, Lora};

/// Endings of files that hold weights and can be read.
pub const WEIGHT_FILES: [&str; 2] = [".safetensors", ".gguf"];
/// What a folder without such a file lacks.
pub(super) const NO_WEIGHTS: &str = "weight file (*.safetensors or *.gguf)";

/// The files of one model folder by their path below it, with `/` between folders.
#[derive(Default)]
pub struct ModelFiles {
    label: String,
    files: BTreeMap<String, Contents>,
    loras: Vec<Lora>,
}

/// Where the bytes of a file are.
pub enum Contents {
    /// In memory.
    Here(Vec<u8>),
    /// Elsewhere: read by ranges, when they are needed.
    Kept(SharedBytes),
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Here(bytes)
    }
}

impl Contents {
    fn shared(self) -> SharedBytes {
        match self {
            Self::Here(bytes) => Arc::new(bytes),
            Self::Kept(file) => file,
        }
    }
}

impl ModelFiles {
    /// No files yet; `label` is how errors call the folder.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), files: BTreeMap::new(), loras: Vec::new() }
    }

    /// Adds a file.
    pub fn insert(&mut self, path: impl Into<String>, contents: impl Into<Contents>) {
        self.files.insert(path.into(), contents.into());
    }

    /// Takes a file for an adaptation of the model.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of a file that is none of weights.
    pub fn adapt(&mut self, name: &str, strength: f32, alpha: Option<f32>) -> Result<()> {
        let file = self.take_file(name)?;
        self.loras.push(Lora { file, strength, alpha });
        Ok(())
    }

    /// Hands out the adaptations.
    pub(crate) fn take_loras(&mut self) -> Vec<Lora> {
        std::mem::take(&mut self.loras)
    }

    /// How errors call a file.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.label)
    }

    /// Hands a file out, so that its memory is the caller's to free.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn take(&mut self, name: &str) -> Result<Vec<u8>> {
        match self.contents(name)? {
            Contents::Here(bytes) => Ok(bytes),
            Contents::Kept(file) => {
                let corrupt = |e: std::io::Error| Error::CorruptWeights { file: self.path(name), problem: e.to_string() };
                Ok(file.read(0..file.size()).map_err(corrupt)?.into_owned())
            }
        }
    }

    fn contents(&mut self, name: &str) -> Result<Contents> {
        let file = self.files.remove(name);
        file.ok_or_else(|| Error::NotFound { what: "model file".into(), path: self.path(name).into() })
    }

    /// A weight file of its own.
    fn take_file(&mut self, name: &str) -> Result<Checkpoint> {
        let (path, file) = (self.path(name), self.contents(name)?.shared());
        Checkpoint::from_sources(path.clone(), [(path, file)])
    }

    /// Whether there is such a file.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether there is any weight file.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        self.files.keys().any(|name| WEIGHT_FILES.iter().any(|ending| name.ends_with(ending)))
    }

    /// Hands out every weight file as a part of a model, and a `tokenizer.json`, in whichever folder.
    ///
    /// # Errors
    /// [`Error::CorruptWeights`], [`Error::Pickle`].
    pub fn take_parts(&mut self) -> Result<ModelParts> {
        let mut parts = ModelParts::default();
        for name in self.files.keys().cloned().collect::<Vec<_>>() {
            let last = name.rsplit('/').next();
            if last == Some(STATES) {
                parts.text_states = Some(self.take_file(&name)?);
            } else if WEIGHT_FILES.iter().any(|ending| name.ends_with(ending)) {
                parts.weights.push(self.take_file(&name)?);
            } else if last == Some("tokenizer.json") {
                parts.tokenizer = Some(self.take(&name)?);
            }
        }
        Ok(parts)
    }

    /// Hands out all weight files of a component as one checkpoint. More than one is a sharded model.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::CorruptWeights`].
    pub fn take_checkpoint(&mut self, component: &str) -> Result<Checkpoint> {
        let prefix = format!("{component}/");
        let is_weights = |name: &str| WEIGHT_FILES.iter().any(|ending| name.ends_with(ending));
        let names: Vec<String> = self.files.keys().filter(|name| name.starts_with(&prefix) && is_weights(name)).cloned().collect();
        if names.is_empty() {
            return Err(Error::NotFound { what: NO_WEIGHTS.into(), path: self.path(component).into() });
        }
        let files = names.into_iter().map(|name| Ok((self.path(&name), self.contents(&name)?.shared()))).collect::<Result<Vec<_>>>()?;
        Checkpoint::from_sources(self.path(component), files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{NewTensor, Values, to_bytes};

    #[test]
    fn absent_files_are_named_with_their_folder() {
        let mut files = ModelFiles::new("demo");
        files.insert("vae/config.json", b"{}".to_vec());
        assert_eq!(files.take("vae/config.json").expect("present"), b"{}");
        let again = files.take("vae/config.json").expect_err("taken");
        assert!(again.to_string().contains("demo/vae/config.json"), "{again}");
        assert_eq!(files.take_checkpoint("vae").expect_err("no weights").code(), "not-found");
    }

    #[test]
    fn kept_weights_are_read_by_ranges_only() {
        /// A file that nobody may read as a whole.
        struct Large(Vec<u8>);
        impl kinora_kernels::ByteSource for Large {
            fn size(&self) -> u64 {
                self.0.size()
            }

            fn read(&self, range: std::ops::Range<u64>) -> std::io::Result<std::borrow::Cow<'_, [u8]>> {
                assert!(range != (0..self.size()), "all of it at once");
                self.0.read(range)
            }
        }
        let tensors = [("a", &[1.0, 1.0]), ("b", &[2.0, 2.0])];
        let tensors = tensors.map(|(name, values)| NewTensor { name, shape: &[2], values: Values::F32(values) });
        let bytes = to_bytes(&tensors).expect("plain");
        let mut files = ModelFiles::new("demo");
        files.insert("vae/model.safetensors", Contents::Kept(Arc::new(Large(bytes))));
        assert!(files.has_weights(), "kept files count");
        let weights = files.take_checkpoint("vae").expect("opens");
        assert_eq!(weights.f32("b", &[2]).expect("there"), [2.0; 2]);
    }
}

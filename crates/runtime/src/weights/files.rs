//! A model folder whose files are in memory, as a browser has it.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::pipeline::ModelParts;
use crate::weights::{Checkpoint, Lora};

/// Endings of files that hold weights and can be read.
pub const WEIGHT_FILES: [&str; 2] = [".safetensors", ".gguf"];
/// What a folder without such a file lacks.
pub(super) const NO_WEIGHTS: &str = "weight file (*.safetensors or *.gguf)";

/// The files of one model folder by their path below it, with `/` between folders.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    label: String,
    files: BTreeMap<String, Vec<u8>>,
    loras: Vec<Lora>,
}

impl ModelFiles {
    /// No files yet; `label` is how errors call the folder.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), files: BTreeMap::new(), loras: Vec::new() }
    }

    /// Adds a file.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), bytes);
    }

    /// Takes a file for an adaptation of the model.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of a file that is none of weights.
    pub fn adapt(&mut self, name: &str, strength: f32, alpha: Option<f32>) -> Result<()> {
        let (path, bytes) = (self.path(name), self.take(name)?);
        let file = Checkpoint::from_files(path.clone(), vec![(path, bytes)])?;
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
        let file = self.files.remove(name);
        file.ok_or_else(|| Error::NotFound { what: "model file".into(), path: self.path(name).into() })
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
        for (name, bytes) in std::mem::take(&mut self.files) {
            let path = self.path(&name);
            if WEIGHT_FILES.iter().any(|ending| name.ends_with(ending)) {
                parts.weights.push(Checkpoint::from_files(path.clone(), vec![(path, bytes)])?);
            } else if name.rsplit('/').next() == Some("tokenizer.json") {
                parts.tokenizer = Some(bytes);
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
        let files = names.into_iter().map(|name| Ok((self.path(&name), self.take(&name)?))).collect::<Result<_>>()?;
        Checkpoint::from_files(self.path(component), files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_files_are_named_with_their_folder() {
        let mut files = ModelFiles::new("demo");
        files.insert("vae/config.json", b"{}".to_vec());
        assert_eq!(files.take("vae/config.json").expect("present"), b"{}");
        let again = files.take("vae/config.json").expect_err("taken");
        assert!(again.to_string().contains("demo/vae/config.json"), "{again}");
        assert_eq!(files.take_checkpoint("vae").expect_err("no weights").code(), "not-found");
    }
}

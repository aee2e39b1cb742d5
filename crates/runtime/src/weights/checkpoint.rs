//! A model's weights as one table of tensors, whether they lie in one file or in several, in safetensors or GGUF.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use kinora_kernels::{ByteSource as _, Delta, Encoding, Panels, Place, SharedBytes, Stored};

use super::gguf;
use super::safetensors::Header;
use super::tensor::{Entry, TensorView};
use crate::error::{Error, Result};

/// Named tensors of one model component, read in place. Cloning shares the files.
#[derive(Clone)]
pub struct Checkpoint {
    label: String,
    files: Vec<SharedBytes>,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
    /// The file of each array, and where it is.
    arrays: BTreeMap<String, (usize, Range<u64>)>,
}

#[derive(Clone)]
struct Tensor {
    /// Index into `files`.
    file: usize,
    entry: Entry,
    deltas: Vec<Delta>,
    /// As which it lies in the file, if not row by row.
    panels: Option<Panels>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} tensors", self.label, self.tensors.len())
    }
}

/// What a file that is no checkpoint begins with, and what it is then.
const STRANGERS: [(&[u8], &str); 2] = [
    (b"version https://git-lfs", "this is a pointer of Git LFS, not the file itself; run `git lfs pull` in the folder of the model"),
    (b"<", "this is a web page, not the file it should lead to"),
];

fn header(file: &SharedBytes, label: &str) -> Result<Header> {
    let corrupt = |problem: String| Error::CorruptWeights { file: label.into(), problem };
    let read = |range| file.read(range).map_err(|e| corrupt(e.to_string()));
    let size = file.size();
    let start = read(0..size.min(64))?;
    if cfg!(feature = "families") && start.starts_with(b"GGUF") {
        return gguf::parse(file.as_ref()).map_err(corrupt);
    }
    match Header::length(&start, size) {
        Ok(length) => Header::parse(&read(0..length)?, size, label),
        Err(_) if is_pickle(&start) => Err(Error::Pickle { file: label.into() }),
        Err(problem) => {
            let stranger = STRANGERS.iter().find(|(magic, _)| start.starts_with(magic));
            Err(corrupt(stranger.map_or(problem, |(_, what)| (*what).into())))
        }
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
    /// As [`from_sources`](Self::from_sources).
    pub fn from_files(label: impl Into<String>, files: Vec<(String, Vec<u8>)>) -> Result<Self> {
        Self::from_sources(label, files.into_iter().map(|(name, bytes)| (name, Arc::new(bytes) as SharedBytes)))
    }

    /// Takes files wherever they are, `(name, contents)`; names appear in errors. Only headers are read.
    ///
    /// # Errors
    /// [`Error::CorruptWeights`] if a file is malformed or two files hold the same tensor, [`Error::Pickle`].
    pub fn from_sources(label: impl Into<String>, files: impl IntoIterator<Item = (String, SharedBytes)>) -> Result<Self> {
        let mut checkpoint = Self::empty(label.into());
        for (name, file) in files {
            checkpoint.add(file, &name)?;
        }
        Ok(checkpoint)
    }

    pub(super) fn empty(label: String) -> Self {
        Self { label, files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new(), arrays: BTreeMap::new() }
    }

    /// Adds the tensors of a file called `name`, and returns its number.
    pub(super) fn add(&mut self, file: SharedBytes, name: &str) -> Result<usize> {
        let header = header(&file, name)?;
        let corrupt = |problem: String| Error::CorruptWeights { file: name.into(), problem };
        super::quantised::check_formats(&header.metadata).map_err(corrupt)?;
        let index = self.files.len();
        for (tensor, entry) in header.tensors {
            if self.tensors.contains_key(&tensor) {
                return Err(corrupt(format!("tensor `{tensor}` is also in another file of the same model")));
            }
            self.tensors.insert(tensor, Tensor { file: index, entry, deltas: Vec::new(), panels: None });
        }
        self.metadata.extend(header.metadata);
        self.arrays.extend(header.arrays.into_iter().map(|(key, range)| (key, (index, range))));
        self.files.push(file);
        Ok(index)
    }

    /// The number of the file that holds tensor `name`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn file_of(&self, name: &str) -> Option<usize> {
        self.tensors.get(name).map(|tensor| tensor.file)
    }

    fn tensor(&self, name: &str) -> Result<(&str, &Tensor)> {
        let missing = || Error::MissingTensor { name: name.into(), file: self.label.clone(), count: self.tensors.len() };
        self.tensors.get_key_value(name).map(|(name, tensor)| (name.as_str(), tensor)).ok_or_else(missing)
    }

    /// Type and shape of the tensor of this name, without its values.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn entry(&self, name: &str) -> Result<&Entry> {
        Ok(&self.tensor(name)?.1.entry)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::CorruptWeights`] if it cannot be read.
    pub fn get(&self, name: &str) -> Result<TensorView<'_>> {
        let (name, Tensor { file, entry, panels, .. }) = self.tensor(name)?;
        let unreadable = |e: std::io::Error| Error::CorruptWeights { file: self.label.clone(), problem: format!("`{name}`: {e}") };
        let bytes = match panels {
            Some(panels) => panels.read(0..panels.size()),
            None => self.files[*file].read(entry.bytes.clone()),
        };
        let bytes = bytes.map_err(unreadable)?;
        Ok(TensorView { name, dtype: entry.dtype, shape: &entry.shape, bytes })
    }

    /// Where the values of tensor `name` are, read as `encoding`, with what is added to them.
    pub(super) fn place(&self, name: &str, encoding: Encoding) -> Result<Stored> {
        let (_, Tensor { file, entry, deltas, panels }) = self.tensor(name)?;
        let place = match panels {
            Some(panels) => Place { range: 0..panels.size(), file: Arc::new(panels.clone()), encoding },
            None => Place { file: Arc::clone(&self.files[*file]), range: entry.bytes.clone(), encoding },
        };
        Ok(Stored { deltas: deltas.clone(), panels: panels.clone(), ..place.into() })
    }

    /// Takes tensor `name`, whose own extents are `shape`, for panels of a weight of extents `dims`; whether it can be.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn set_panels(&mut self, name: &str, shape: Vec<usize>, dims: kinora_kernels::Shape) -> bool {
        let Some(tensor) = self.tensors.get_mut(name) else { return false };
        let Some(encoding) = tensor.entry.dtype.encoding() else { return false };
        let place = Place { file: Arc::clone(&self.files[tensor.file]), range: tensor.entry.bytes.clone(), encoding };
        let panels = Panels { place, shape: dims };
        let fits = panels.fits();
        tensor.entry.shape = shape;
        tensor.panels = Some(panels);
        fits
    }

    /// Some bytes of tensor `name` as they are in its file.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::CorruptWeights`] if they cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn bytes(&self, name: &str, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let (_, Tensor { file, entry, .. }) = self.tensor(name)?;
        let unreadable = |e: std::io::Error| Error::CorruptWeights { file: self.label.clone(), problem: format!("`{name}`: {e}") };
        self.files[*file].read(entry.bytes.start + range.start..entry.bytes.start + range.end).map_err(unreadable)
    }

    /// Adds to the values of tensor `name` wherever they are read.
    pub(super) fn add_delta(&mut self, name: &str, delta: Delta) {
        if let Some(tensor) = self.tensors.get_mut(name) {
            tensor.deltas.push(delta);
        }
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

    /// The tensors that `name` gives a name, under that.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(&str) -> Option<String>) -> Self {
        let renamed = |(old, tensor): (&String, &Tensor)| Some((name(old)?, tensor.clone()));
        // Collected, they would be sorted first, by code of its own.
        let mut tensors = BTreeMap::new();
        tensors.extend(self.tensors.iter().filter_map(renamed));
        Self { tensors, ..self.clone() }
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// All names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A text of the files' headers.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The bytes of a list in a GGUF header.
    pub(super) fn array(&self, key: &str) -> Option<Cow<'_, [u8]>> {
        let (file, range) = self.arrays.get(key)?;
        self.files[*file].read(range.clone()).ok()
    }

    /// How the checkpoint is called in errors: its path.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

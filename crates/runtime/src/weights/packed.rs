//! A whole model in one safetensors file, its matrices as the device stores them: what `kinora convert` writes.
//!
//! Tensors are called `FOLDER/NAME`, other files of the model `file:PATH`, as bytes. What is packed, how and from which extents is said by
//! the text [`KEY`] of the header. Quantised matrices stay as they are.

mod write;

use std::collections::BTreeMap;

use kinora_kernels::{Shape, WeightFormat};
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::files::NO_WEIGHTS;
use super::tensor::DType;
use crate::error::{Error, Result};
pub(crate) use write::write;

/// The text of a header that says what is packed.
const KEY: &str = "kinora.packed";
/// How panels lie in a file of this version.
const LAYOUT: &str = "panels of 16 rows, taps outside channels, channels padded to 4";
/// What the names of other files begin with.
const FILE: &str = "file:";

/// What the header says.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct About {
    layout: String,
    format: String,
    /// The extents in the model's own file, and those that the model gives its weight, by the name of the tensor.
    panels: BTreeMap<String, [Vec<usize>; 2]>,
}

/// Whether a file is a whole model, as `kinora convert` writes it.
pub fn is_packed(file: &Checkpoint) -> bool {
    file.metadata(KEY).is_some()
}

/// Such a file with the tensors as the model has them, and the format that it was packed for; `None` for another file.
///
/// # Errors
/// [`Error::InvalidConfig`] for a file of another layout, or with what cannot have been packed.
pub fn unpacked(file: &Checkpoint) -> Result<Option<(Checkpoint, String)>> {
    let Some(text) = file.metadata(KEY) else { return Ok(None) };
    let invalid = |problem| Error::InvalidConfig { file: file.label().into(), problem };
    let about: About = crate::json::object(text).map_err(|error| invalid(format!("`{KEY}`: {error}")))?;
    if about.layout != LAYOUT {
        let found = about.layout;
        let problem = format!("packed as `{found}`, which this version does not read; expected `{LAYOUT}`: convert the model again");
        return Err(invalid(problem));
    }
    let mut file = file.clone();
    for (name, [own, dims]) in about.panels {
        let product = |dims: &[usize]| dims.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        let fits = (2..=5).contains(&dims.len()) && product(&own).is_some() && product(&own) == product(&dims);
        if !fits || !file.set_panels(&name, own, Shape::new(&dims)) {
            let problem = format!("`{name}` is no tensor that can have been packed from {dims:?}");
            return Err(Error::InvalidConfig { file: file.label().into(), problem });
        }
    }
    Ok(Some((file, about.format)))
}

/// The name of a format in files.
fn dtype(format: WeightFormat) -> DType {
    match format {
        WeightFormat::F32 => DType::F32,
        WeightFormat::F16 => DType::F16,
    }
}

/// A model in one file.
pub(crate) struct Packed {
    file: Checkpoint,
    label: String,
}

impl Packed {
    /// The model that a file alone is; `None` if there are several, or one of plain weights.
    ///
    /// # Errors
    /// Those of [`unpacked`], and [`Error::InvalidConfig`] for weights in another format than `format`.
    pub(crate) fn among(files: &[Checkpoint], format: WeightFormat) -> Result<Option<Self>> {
        let [file] = files else { return Ok(None) };
        let Some((file, found)) = unpacked(file)? else { return Ok(None) };
        let (label, expected) = (file.label().to_owned(), dtype(format).name());
        if found != expected {
            let problem = format!("packed as {found}, asked for as {expected}: ask for the other, or convert the model again");
            return Err(Error::InvalidConfig { file: label, problem });
        }
        Ok(Some(Self { file, label }))
    }

    /// A file of the model.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let missing = || Error::NotFound { what: "model file".into(), path: self.path(name).into() };
        let key = format!("{FILE}{name}");
        if self.file.contains(&key) { Ok(self.file.get(&key)?.bytes.into_owned()) } else { Err(missing()) }
    }

    /// How errors call a file of the model.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}:{name}", self.label)
    }

    /// The weights of a component.
    pub(crate) fn checkpoint(&self, folder: &str) -> Result<Checkpoint> {
        let found = self.file.renamed(|name| name.strip_prefix(folder)?.strip_prefix('/').map(str::to_owned));
        if found.names().next().is_some() {
            return Ok(found);
        }
        Err(Error::NotFound { what: NO_WEIGHTS.into(), path: self.path(folder).into() })
    }
}

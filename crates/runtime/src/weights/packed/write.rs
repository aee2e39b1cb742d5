//! Writes a whole model as one file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kinora_kernels::{PANEL, Shape, Weight, WeightFormat};
use serde_json::{Map, Value, json};

use super::{About, FILE, KEY, LAYOUT, dtype};
use crate::error::{Error, Result};
use crate::model_file;
use crate::weights::{Checkpoint, DType, WEIGHT_FILES};

/// As much of a tensor as is copied at once.
const WINDOW_BYTES: u64 = 16 << 20;

/// One tensor of the file that is written.
struct Part<'a> {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    contents: Contents<'a>,
}

/// Where it comes from.
enum Contents<'a> {
    /// Made as the device stores it.
    Panels(Weight),
    /// As it is in its file.
    Tensor(&'a Checkpoint, String),
    File(PathBuf),
}

impl Part<'_> {
    fn bytes(&self) -> Result<u64> {
        let elements = self.shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent as u64));
        let overflow = || Error::WrongShape { name: self.name.clone(), expected: "fewer elements".into(), found: self.shape.clone() };
        elements.and_then(|elements| self.dtype.bytes(elements)).ok_or_else(overflow)
    }

    fn write(&self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &self.contents {
            Contents::Panels(weight) => out(&weight.panel_bytes()),
            Contents::File(path) => out(&model_file::read(path)?),
            Contents::Tensor(checkpoint, name) => {
                let bytes = self.bytes()?;
                let window = |start: u64| start..bytes.min(start + WINDOW_BYTES);
                (0..bytes).step_by(WINDOW_BYTES as usize).try_for_each(|start| out(&checkpoint.bytes(name, window(start))?))
            }
        }
    }
}

/// Writes the model in `folder` to `out`, with every weight of `used` that is not quantised as the device stores it in `format`; returns how
/// many those are.
///
/// # Errors
/// Those of reading the model and of `out`, and [`Error::WrongDType`] for blocks of GGUF.
pub(crate) fn write(folder: &Path, used: &[Weight], format: WeightFormat, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<usize> {
    let views = views(used);
    let mut files = Vec::new();
    files_of(folder, "", &mut files)?;
    let is_weights = |name: &str| WEIGHT_FILES.iter().any(|ending| name.ends_with(ending));
    let folders: BTreeSet<&str> =
        files.iter().filter(|(name, _)| is_weights(name)).filter_map(|(name, _)| name.split_once('/')).map(|(folder, _)| folder).collect();
    let open = |name: &str| Ok((name.to_owned(), Checkpoint::open(folder.join(name))?));
    let components = folders.iter().map(|name| open(name)).collect::<Result<Vec<_>>>()?;
    let (mut parts, mut panels) = (Vec::new(), BTreeMap::new());
    for (component, checkpoint) in &components {
        for own in checkpoint.names() {
            let (entry, name) = (checkpoint.entry(own)?, format!("{component}/{own}"));
            if let DType::Block(_) = entry.dtype {
                let expected = "plain numbers, or bytes with scales: a model in GGUF loads from its own files".into();
                return Err(Error::WrongDType { name, expected, found: entry.dtype.to_string() });
            }
            let is_float = matches!(entry.dtype, DType::F32 | DType::F16 | DType::BF16);
            let view = views.get(own).filter(|_| is_float).and_then(|views| view_of(&entry.shape, views));
            parts.push(match view {
                None => Part { name, dtype: entry.dtype, shape: entry.shape.clone(), contents: Contents::Tensor(checkpoint, own.into()) },
                Some(dims) => {
                    let (stored, _) = checkpoint.stored(own)?;
                    let corrupt = || Error::CorruptWeights {
                        file: checkpoint.label().into(),
                        problem: format!("`{own}` does not lie within its file"),
                    };
                    let weight = Weight::stored(&name, Shape::new(&dims), stored, format).ok_or_else(corrupt)?;
                    weight.check()?;
                    let [count, depth] = weight.panel_extents();
                    panels.insert(name.clone(), [entry.shape.clone(), dims]);
                    Part { name, dtype: dtype(format), shape: vec![count, depth, PANEL], contents: Contents::Panels(weight) }
                }
            });
        }
    }
    // Weights beside the components, like those of words, are files as they are.
    for (name, path) in files.iter().filter(|(name, _)| !is_weights(name) || !name.contains('/')) {
        let bytes = fs::metadata(path).map_err(|error| Error::io("read", path, error))?.len();
        let shape = vec![usize::try_from(bytes).unwrap_or(usize::MAX)];
        parts.push(Part { name: format!("{FILE}{name}"), dtype: DType::U8, shape, contents: Contents::File(path.clone()) });
    }
    let count = panels.len();
    out(&header(&About { layout: LAYOUT.into(), format: dtype(format).name().into(), panels }, &parts)?)?;
    parts.iter().try_for_each(|part| part.write(out))?;
    Ok(count)
}

/// The extents behind the first that the model gives each tensor, by its name in its component.
fn views(used: &[Weight]) -> BTreeMap<String, BTreeSet<Vec<usize>>> {
    let mut views: BTreeMap<String, BTreeSet<Vec<usize>>> = BTreeMap::new();
    for weight in used.iter().filter(|weight| weight.shape().rank() > 1) {
        // Several side by side have equal ones.
        for name in weight.name().split('+') {
            views.entry(name.into()).or_default().insert(weight.shape().dims()[1..].to_vec());
        }
    }
    views
}

/// The extents of a tensor of this shape, if only one of the views can be its own.
fn view_of(shape: &[usize], views: &BTreeSet<Vec<usize>>) -> Option<Vec<usize>> {
    let rows = *shape.first()?;
    let elements: usize = shape.iter().product();
    let mut fitting = views.iter().filter(|view| rows * view.iter().product::<usize>() == elements);
    let view = fitting.next().filter(|_| fitting.next().is_none())?;
    Some([&[rows], view.as_slice()].concat())
}

/// The beginning of the file.
fn header(about: &About, parts: &[Part<'_>]) -> Result<Vec<u8>> {
    let about = Value::from(json!(about).to_string());
    let (mut entries, mut at) = (Map::new(), 0);
    entries.insert("__metadata__".into(), json!({ (KEY): about }));
    for part in parts {
        let end = at + part.bytes()?;
        entries.insert(part.name.clone(), json!({ "dtype": part.dtype.name(), "shape": part.shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut header = Value::from(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes()[..], &header].concat())
}

/// The files of a model that a program reads, by their path in its folder.
fn files_of(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let failed = |error| Error::io("read", folder, error);
    let entries = fs::read_dir(folder).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name == "manifest.json" {
            continue;
        }
        if path.is_dir() && prefix.is_empty() {
            files_of(&path, &format!("{name}/"), files)?;
        } else if path.is_file() && (name.ends_with(".json") || WEIGHT_FILES.iter().any(|ending| name.ends_with(ending))) {
            files.push((format!("{prefix}{name}"), path));
        }
    }
    files.sort();
    Ok(())
}

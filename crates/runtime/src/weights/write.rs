//! Writes tensors as safetensors, to memory or atomically to a file.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::error::{Error, Result};

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewTensor<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// The elements in row-major order.
    pub values: Values<'a>,
}

/// Elements to be written.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

impl Values<'_> {
    const fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "F32",
            Self::I64(_) => "I64",
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    fn extend(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::F32(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::I64(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
    }
}

/// The tensors as the bytes of a safetensors file, data aligned to 8 bytes.
///
/// # Errors
/// [`Error::WrongShape`] if a shape does not match its values, [`Error::InvalidRequest`] for a
/// repeated or reserved name.
pub fn to_bytes(tensors: &[NewTensor<'_>]) -> Result<Vec<u8>> {
    let mut header = String::from("{");
    let mut names = BTreeSet::new();
    // 8-byte elements first, so that every tensor is aligned to its element size.
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|t| matches!(t.values, Values::F32(_)));
    let mut data = Vec::new();
    for tensor in ordered {
        let count = tensor.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if count != Some(tensor.values.len()) {
            let expected = format!("a product of {}", tensor.values.len());
            return Err(Error::WrongShape { name: tensor.name.into(), expected, found: tensor.shape.to_vec() });
        }
        if tensor.name == "__metadata__" || !names.insert(tensor.name) {
            return Err(Error::InvalidRequest {
                parameter: "tensor name".into(),
                found: tensor.name.into(),
                expected: "a name that is not reserved and occurs once".into(),
            });
        }
        let begin = data.len();
        tensor.values.extend(&mut data);
        let comma = if names.len() > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            header,
            r#"{comma}{}:{{"dtype":"{}","shape":{:?},"data_offsets":[{begin},{}]}}"#,
            serde_json::Value::from(tensor.name),
            tensor.values.dtype(),
            tensor.shape,
            data.len()
        );
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header.into_bytes());
    bytes.append(&mut data);
    Ok(bytes)
}

/// Writes the tensors to `path`; an interrupted call leaves the old file or none, never a part.
///
/// # Errors
/// As [`to_bytes`], and [`Error::Io`].
#[cfg(not(target_arch = "wasm32"))]
pub fn write_file(path: impl AsRef<std::path::Path>, tensors: &[NewTensor<'_>]) -> Result<()> {
    use std::io::Write as _;

    let path = path.as_ref();
    let bytes = to_bytes(tensors)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    written.map_err(|source| {
        // The part file is ours; if it cannot be removed either, the first error is the one to report.
        let _ = std::fs::remove_file(&part);
        Error::io("write", path, source)
    })
}

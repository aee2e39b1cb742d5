//! Writes tensors as safetensors, to memory or atomically to a file.

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

    /// Every target is little-endian, as files are.
    fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => bytemuck::cast_slice(values),
            Self::I64(values) => bytemuck::cast_slice(values),
        }
    }
}

/// The tensors as the bytes of a safetensors file, data aligned to 8 bytes.
///
/// # Errors
/// [`Error::WrongShape`] if a shape does not match its values, [`Error::InvalidRequest`] for a
/// repeated or reserved name.
pub fn to_bytes(tensors: &[NewTensor<'_>]) -> Result<Vec<u8>> {
    to_bytes_with(&[], tensors)
}

/// [`to_bytes`] with texts about the file, by name.
///
/// # Errors
/// As [`to_bytes`].
pub fn to_bytes_with(about: &[(&str, &str)], tensors: &[NewTensor<'_>]) -> Result<Vec<u8>> {
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut header = String::from("{");
    for (at, (name, text)) in about.iter().enumerate() {
        header += if at == 0 { r#""__metadata__":{"# } else { "," };
        header += &format!("{}:{}", quoted(name), quoted(text));
    }
    header += if about.is_empty() { "" } else { "}" };
    let mut data = Vec::new();
    // 8-byte elements first, so that every tensor is aligned to its element size.
    let wide = |tensor: &&NewTensor<'_>| matches!(tensor.values, Values::I64(_));
    for tensor in tensors.iter().filter(wide).chain(tensors.iter().filter(|tensor| !wide(tensor))) {
        let count = tensor.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if count != Some(tensor.values.len()) {
            let expected = format!("a product of {}", tensor.values.len());
            return Err(Error::WrongShape { name: tensor.name.into(), expected, found: tensor.shape.to_vec() });
        }
        if tensor.name == "__metadata__" || tensors.iter().filter(|other| other.name == tensor.name).count() > 1 {
            return Err(Error::InvalidRequest {
                parameter: "tensor name".into(),
                found: tensor.name.into(),
                expected: "a name that is not reserved and occurs once".into(),
            });
        }
        let begin = data.len();
        data.extend_from_slice(tensor.values.bytes());
        let comma = if header.len() > 1 { "," } else { "" };
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        header += &format!(
            r#"{comma}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{begin},{}]}}"#,
            quoted(tensor.name),
            tensor.values.dtype(),
            shape.join(","),
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

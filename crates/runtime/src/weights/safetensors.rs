//! The safetensors format: a strict header parser. No file access here.
//!
//! A file is an 8-byte little-endian length, that many bytes of JSON, then tensor data. This parser
//! accepts a file only if it can be read in one way: no duplicate names, no gap, no overlap, no byte
//! behind the last tensor, every size equal to what dtype and shape imply.

use std::collections::BTreeMap;
use std::ops::Range;

use kinora_kernels::sort_by_numbers;
use serde_json::value::RawValue;

use super::tensor::{DType, Entry};
use crate::error::{Error, Result};
use crate::json::object;

/// Longest header accepted, in bytes; the limit of the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The parsed and checked header of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Entry>,
    /// Free text that the writer stored.
    pub metadata: BTreeMap<String, String>,
    /// Where lists of a GGUF file are that are kept for a tokenizer, counted from the start of the file.
    pub arrays: BTreeMap<String, Range<u64>>,
}

impl Header {
    /// Parses the header of a file of `file_len` bytes from its beginning.
    ///
    /// `start` needs to hold only the length and the header, so a header can be checked before the
    /// data is downloaded. `file` names the file in errors.
    ///
    /// # Errors
    /// [`Error::CorruptWeights`] with the rule that is broken.
    pub fn parse(start: &[u8], file_len: u64, file: &str) -> Result<Self> {
        Self::check(start, file_len).map_err(|problem| Error::CorruptWeights { file: file.into(), problem })
    }

    /// Bytes of the header, with its length, which `start` begins with.
    pub(super) fn length(start: &[u8], file_len: u64) -> Result<u64, String> {
        let length = start
            .first_chunk::<8>()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .ok_or_else(|| format!("{file_len} bytes are too few; the header length alone takes 8"))?;
        if length > MAX_HEADER_BYTES {
            return Err(format!("the header claims {length} bytes, more than the {MAX_HEADER_BYTES} allowed"));
        }
        if 8 + length > file_len {
            return Err(format!("the header claims {length} bytes, but the file has {file_len} in all"));
        }
        Ok(8 + length)
    }

    fn check(start: &[u8], file_len: u64) -> Result<Self, String> {
        let data_start = Self::length(start, file_len)?;
        let json = usize::try_from(data_start)
            .ok()
            .and_then(|end| start.get(8..end))
            .ok_or_else(|| format!("only {} bytes of a header of {data_start} were read", start.len()))?;
        if json.first() != Some(&b'{') {
            return Err("the header does not begin with `{`".into());
        }
        let json = std::str::from_utf8(json).map_err(|e| format!("the header is not UTF-8: {e}"))?;
        let raw: BTreeMap<String, &RawValue> = object(json).map_err(|e| format!("the header is not a JSON object of tensors: {e}"))?;

        let mut header = Self { tensors: BTreeMap::new(), metadata: BTreeMap::new(), arrays: BTreeMap::new() };
        for (name, value) in raw {
            if name == "__metadata__" {
                header.metadata = object(value.get()).map_err(|e| format!("`__metadata__`: {e}"))?;
                continue;
            }
            let entry = object(value.get())
                .map_err(|e| e.to_string())
                .and_then(|tensor: RawTensor| tensor.check(data_start, file_len))
                .map_err(|e| format!("tensor `{name}`: {e}"))?;
            header.tensors.insert(name, entry);
        }
        header.check_coverage(data_start, file_len)?;
        Ok(header)
    }

    /// The tensors must tile the data exactly.
    fn check_coverage(&self, data_start: u64, file_len: u64) -> Result<(), String> {
        let mut ranges: Vec<_> = self.tensors.iter().map(|(name, entry)| (&entry.bytes, name)).collect();
        sort_by_numbers(&mut ranges, |(range, _)| [range.start, range.end]);
        let mut end = data_start;
        for (range, name) in ranges {
            let start = range.start;
            if start != end {
                let what = if start < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
                return Err(format!("tensor `{name}` {what}: it starts at byte {start}, expected {end}"));
            }
            end = range.end;
        }
        if end != file_len {
            return Err(format!("the tensors end at byte {end}, but the file has {file_len}"));
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl RawTensor {
    fn check(self, data_start: u64, file_len: u64) -> Result<Entry, String> {
        let dtype = DType::from_name(&self.dtype).ok_or_else(|| {
            // Of a text that may be anything, the beginning.
            let shown: String = self.dtype.chars().take(40).collect();
            format!("unsupported dtype `{shown}`")
        })?;
        let size = self
            .shape
            .iter()
            .try_fold(1u64, |product, &n| product.checked_mul(n))
            .and_then(|elements| dtype.bytes(elements))
            .ok_or_else(|| format!("shape {:?} overflows", self.shape))?;
        let [begin, end] = self.data_offsets;
        if end.checked_sub(begin) != Some(size) {
            return Err(format!("{dtype} of shape {:?} takes {size} bytes, but its offsets are {begin}..{end}", self.shape));
        }
        if end > file_len - data_start {
            return Err(format!("its data ends at {end}, but the file holds {} bytes of data", file_len - data_start));
        }
        // Nothing above exceeds file_len by now, except dimensions beside a zero.
        let index = |n: u64| usize::try_from(n).map_err(|_| format!("{n} exceeds this machine's address space"));
        Ok(Entry {
            dtype,
            shape: self.shape.iter().map(|&n| index(n)).collect::<Result<_, _>>()?,
            bytes: data_start + begin..data_start + end,
        })
    }
}

//! The safetensors format: a strict header parser and views of tensors. No file access here.
//!
//! A file is an 8-byte little-endian length, that many bytes of JSON, then tensor data. This parser
//! accepts a file only if it can be read in one way: no duplicate names, no gap, no overlap, no byte
//! behind the last tensor, every size equal to what dtype and shape imply.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// Longest header accepted, in bytes; the limit of the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $bytes:literal;)+) => {
        /// Element type of a stored tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DType { $($(#[$doc])* $name,)+ }

        impl DType {
            /// Size of one element in bytes.
            #[must_use]
            pub const fn size_bytes(self) -> usize {
                match self { $(Self::$name => $bytes,)+ }
            }

            /// The name used in the file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

dtypes! {
    /// 8-bit truth value.
    Bool = "BOOL", 1;
    /// 8-bit unsigned integer.
    U8 = "U8", 1;
    /// 8-bit signed integer.
    I8 = "I8", 1;
    /// 16-bit unsigned integer.
    U16 = "U16", 2;
    /// 16-bit signed integer.
    I16 = "I16", 2;
    /// IEEE 754 half precision.
    F16 = "F16", 2;
    /// The upper half of an f32.
    BF16 = "BF16", 2;
    /// 32-bit unsigned integer.
    U32 = "U32", 4;
    /// 32-bit signed integer.
    I32 = "I32", 4;
    /// IEEE 754 single precision.
    F32 = "F32", 4;
    /// 64-bit unsigned integer.
    U64 = "U64", 8;
    /// 64-bit signed integer.
    I64 = "I64", 8;
    /// IEEE 754 double precision.
    F64 = "F64", 8;
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One tensor's place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where its bytes are, counted from the start of the file.
    pub bytes: Range<usize>,
}

/// The parsed and checked header of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Entry>,
    /// Free text that the writer stored.
    pub metadata: BTreeMap<String, String>,
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

    fn check(start: &[u8], file_len: u64) -> Result<Self, String> {
        let length = start
            .first_chunk::<8>()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .ok_or_else(|| format!("{file_len} bytes are too few; the header length alone takes 8"))?;
        if length > MAX_HEADER_BYTES {
            return Err(format!("the header claims {length} bytes, more than the {MAX_HEADER_BYTES} allowed"));
        }
        let data_start = 8 + length;
        if data_start > file_len {
            return Err(format!("the header claims {length} bytes, but the file has {file_len} in all"));
        }
        let json = usize::try_from(data_start)
            .ok()
            .and_then(|end| start.get(8..end))
            .ok_or_else(|| format!("only {} bytes of a header of {length} were read", start.len()))?;
        if json.first() != Some(&b'{') {
            return Err("the header does not begin with `{`".into());
        }
        let json = std::str::from_utf8(json).map_err(|e| format!("the header is not UTF-8: {e}"))?;
        let raw: UniqueMap<&RawValue> =
            serde_json::from_str(json).map_err(|e| format!("the header is not a JSON object of tensors: {e}"))?;

        let mut header = Self { tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        for (name, value) in raw.0 {
            if name == "__metadata__" {
                let metadata: UniqueMap<String> = serde_json::from_str(value.get()).map_err(|e| format!("`__metadata__`: {e}"))?;
                header.metadata = metadata.0;
                continue;
            }
            let entry = serde_json::from_str(value.get())
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
        ranges.sort_by_key(|(range, _)| (range.start, range.end));
        let mut end = data_start;
        for (range, name) in ranges {
            let start = range.start as u64;
            if start != end {
                let what = if start < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
                return Err(format!("tensor `{name}` {what}: it starts at byte {start}, expected {end}"));
            }
            end = range.end as u64;
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
        let dtype = DType::from_name(&self.dtype).ok_or_else(|| format!("unsupported dtype `{}`", self.dtype))?;
        let size = self
            .shape
            .iter()
            .try_fold(dtype.size_bytes() as u64, |product, &n| product.checked_mul(n))
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
            bytes: index(data_start + begin)?..index(data_start + end)?,
        })
    }
}

/// A JSON object whose keys must differ; serde's own maps silently keep the last one.
pub(super) struct UniqueMap<V>(pub(super) BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
            type Value = BTreeMap<String, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, V>()? {
                    if map.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("`{key}` occurs twice")));
                    }
                    map.insert(key, value);
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Unique(PhantomData)).map(Self)
    }
}

/// A tensor as it lies in the file.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// Name in the checkpoint.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Little-endian elements, not necessarily aligned.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether a dimension is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requires exactly this shape.
    ///
    /// # Errors
    /// [`Error::WrongShape`].
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::WrongShape { name: self.name.into(), expected: format!("{expected:?}"), found: self.shape.to_vec() })
    }

    /// The elements as f32, whatever their type. Integers beyond 2²⁴ and f64 are rounded.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what this function is for")]
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self.decode(f32::from_le_bytes),
            DType::F16 => self.decode(|b| half::f16::from_le_bytes(b).to_f32()),
            DType::BF16 => self.decode(|b| half::bf16::from_le_bytes(b).to_f32()),
            DType::F64 => self.decode(|b| f64::from_le_bytes(b) as f32),
            DType::Bool | DType::U8 => self.decode(|[b]: [u8; 1]| f32::from(b)),
            DType::I8 => self.decode(|b| f32::from(i8::from_le_bytes(b))),
            DType::U16 => self.decode(|b| f32::from(u16::from_le_bytes(b))),
            DType::I16 => self.decode(|b| f32::from(i16::from_le_bytes(b))),
            DType::U32 => self.decode(|b| u32::from_le_bytes(b) as f32),
            DType::I32 => self.decode(|b| i32::from_le_bytes(b) as f32),
            DType::U64 => self.decode(|b| u64::from_le_bytes(b) as f32),
            DType::I64 => self.decode(|b| i64::from_le_bytes(b) as f32),
        }
    }

    /// The elements of an integer or truth tensor.
    ///
    /// # Errors
    /// [`Error::WrongDType`] for floating-point tensors and for u64, which may not fit.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        Ok(match self.dtype {
            DType::Bool | DType::U8 => self.decode(|[b]: [u8; 1]| i64::from(b)),
            DType::I8 => self.decode(|b| i64::from(i8::from_le_bytes(b))),
            DType::U16 => self.decode(|b| i64::from(u16::from_le_bytes(b))),
            DType::I16 => self.decode(|b| i64::from(i16::from_le_bytes(b))),
            DType::U32 => self.decode(|b| i64::from(u32::from_le_bytes(b))),
            DType::I32 => self.decode(|b| i64::from(i32::from_le_bytes(b))),
            DType::I64 => self.decode(i64::from_le_bytes),
            DType::U64 | DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
                return Err(Error::WrongDType {
                    name: self.name.into(),
                    expected: "an integer type, at best I64".into(),
                    found: self.dtype.to_string(),
                });
            }
        })
    }

    fn decode<const N: usize, T>(&self, element: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (elements, _) = self.bytes.as_chunks::<N>();
        elements.iter().map(|bytes| element(*bytes)).collect()
    }
}

//! Tensors of checkpoints: their types, where they lie, and views of them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use kinora_kernels::Encoding;

use crate::error::{Error, Result};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $bytes:literal;)+) => {
        /// Element type of a stored tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DType {
            $($(#[$doc])* $name,)+
            /// Blocks of quantised values, as GGUF has them.
            Block(Encoding),
        }

        impl DType {
            /// Bytes of so many elements; `None` if they are no whole blocks, or too many.
            #[must_use]
            pub const fn bytes(self, elements: u64) -> Option<u64> {
                match self { $(Self::$name => elements.checked_mul($bytes),)+ Self::Block(encoding) => encoding.bytes(elements) }
            }

            /// The name used in files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ Self::Block(encoding) => encoding.name() }
            }

            /// The type that safetensors files call so.
            pub(super) fn from_name(name: &str) -> Option<Self> {
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
    /// 8-bit float with 4 bits of exponent.
    F8E4M3 = "F8_E4M3", 1;
    /// 8-bit float with 5 bits of exponent.
    F8E5M2 = "F8_E5M2", 1;
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

impl DType {
    /// The encoding of weights of this type, if weights can have it.
    #[must_use]
    pub const fn encoding(self) -> Option<Encoding> {
        Some(match self {
            Self::F32 => Encoding::F32,
            Self::F16 => Encoding::F16,
            Self::BF16 => Encoding::Bf16,
            Self::F8E4M3 => Encoding::F8E4m3,
            Self::F8E5M2 => Encoding::F8E5m2,
            Self::I8 => Encoding::I8,
            Self::Block(encoding) => encoding,
            _ => return None,
        })
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
    pub bytes: Range<u64>,
}

impl Entry {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Requires exactly this shape; `name` is that of the tensor.
    ///
    /// # Errors
    /// [`Error::WrongShape`].
    pub fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        expect_shape(name, &self.shape, expected)
    }
}

fn expect_shape(name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::WrongShape { name: name.into(), expected: format!("{expected:?}"), found: found.to_vec() })
}

/// A tensor as it lies in the file.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Name in the checkpoint.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Little-endian elements, not necessarily aligned.
    pub bytes: Cow<'a, [u8]>,
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
        expect_shape(self.name, self.shape, expected)
    }

    /// The elements as f32, whatever their type. Integers beyond 2²⁴ and f64 are rounded.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what this function is for")]
    pub fn to_f32(&self) -> Vec<f32> {
        if let Some(encoding) = self.dtype.encoding() {
            let mut values = Vec::with_capacity(self.len());
            encoding.decode(&self.bytes, &mut values);
            return values;
        }
        match self.dtype {
            DType::F64 => self.decode(|b| f64::from_le_bytes(b) as f32),
            DType::Bool | DType::U8 => self.decode(|[b]: [u8; 1]| f32::from(b)),
            DType::U16 => self.decode(|b| f32::from(u16::from_le_bytes(b))),
            DType::I16 => self.decode(|b| f32::from(i16::from_le_bytes(b))),
            DType::U32 => self.decode(|b| u32::from_le_bytes(b) as f32),
            DType::I32 => self.decode(|b| i32::from_le_bytes(b) as f32),
            DType::U64 => self.decode(|b| u64::from_le_bytes(b) as f32),
            DType::I64 => self.decode(|b| i64::from_le_bytes(b) as f32),
            // All others are encodings of weights.
            _ => Vec::new(),
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
            _ => {
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

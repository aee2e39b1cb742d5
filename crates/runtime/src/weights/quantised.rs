//! Quantised matrices of safetensors files, whose factors are tensors of their own: our `q8_0`, and what ComfyUI writes.
//!
//! Two generations of ComfyUI files are in use: `X.scale_weight` with a tensor `scaled_fp8` as mark, and `X.weight_scale` with
//! the format in `X.comfy_quant` or in the header. Factors of activations belong to a multiplication in 8 bits, which this is not:
//! they are never multiplied in.

use std::collections::BTreeMap;

use kinora_kernels::{Encoding, Scales, Stored};

use super::checkpoint::Checkpoint;
use super::tensor::{DType, Entry};
use crate::error::{Error, Result};

/// Values of a row that share a factor in our `q8_0`.
const Q8_BLOCK: usize = 32;
/// Formats of the newer generation that can be read.
const FORMATS: [&str; 3] = ["float8_e4m3fn", "float8_e5m2", "int8_tensorwise"];
/// A tensor that marks files of the older generation.
const MARK: &str = "scaled_fp8";
/// What stands beside a matrix and is not needed.
const UNUSED: [&str; 2] = ["scale_input", "input_scale"];

/// Refuses what the header says of layers in formats that cannot be read.
pub(super) fn check_formats(metadata: &BTreeMap<String, String>) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    struct Quantisation {
        #[serde(default)]
        layers: BTreeMap<String, Format>,
    }
    let Some(text) = metadata.get("_quantization_metadata") else { return Ok(()) };
    let found: Quantisation = crate::json::object(text).map_err(|e| format!("`_quantization_metadata`: {e}"))?;
    found.layers.iter().try_for_each(|(layer, format)| format.check(layer))
}

/// How a layer is quantised.
#[derive(serde::Deserialize)]
struct Format {
    #[serde(default)]
    format: String,
    /// Whether the weights are rotated, as the activations then must be.
    #[serde(default)]
    convrot: bool,
}

impl Format {
    fn check(&self, layer: &str) -> Result<(), String> {
        if FORMATS.contains(&self.format.as_str()) && !self.convrot {
            return Ok(());
        }
        let rotated = if self.convrot { ", rotated (convrot)" } else { "" };
        Err(format!("`{layer}` is quantised as `{}`{rotated}; expected one of {}, not rotated", self.format, FORMATS.join(", ")))
    }
}

impl Checkpoint {
    /// The weight `name` as it lies in its file, and the names of the tensors that belong to it.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongDType`], [`Error::WrongShape`], [`Error::CorruptWeights`].
    pub fn stored(&self, name: &str) -> Result<(Stored, Vec<String>)> {
        let Entry { dtype, shape, .. } = self.entry(name)?;
        let matrix = shape.len() > 1 && !shape.contains(&0);
        let in_bytes = matches!(dtype, DType::I8 | DType::U8 | DType::F8E4M3 | DType::F8E5M2);
        let mut taken = Vec::new();
        if matrix && in_bytes {
            // A format that cannot be read is named as such, whatever type its bytes pretend to be.
            self.check_format(name, &mut taken)?;
        }
        let Some(encoding) = dtype.encoding().filter(|_| matrix || *dtype != DType::I8) else {
            let expected = "F32, F16, BF16, F8, a block format of GGUF, or a matrix of I8 with scales".into();
            return Err(Error::WrongDType { name: name.into(), expected, found: dtype.to_string() });
        };
        // A vector is one row; what is added to it is added as a whole.
        let row = if shape.len() > 1 { shape[1..].iter().product::<usize>().max(1) } else { 1 };
        let mut stored = Stored { row, ..self.place(name, encoding)? };
        if matrix && in_bytes {
            stored.scales = self.scales(name, shape[0], row, &mut taken)?;
            if stored.scales.is_none() && *dtype == DType::I8 {
                // The error is that of a tensor that is missing.
                self.entry(&format!("{name}.scale"))?;
            }
        }
        Ok((stored, taken))
    }

    /// Refuses the matrix `name` if the text beside it says that it is in a format that cannot be read.
    fn check_format(&self, name: &str, taken: &mut Vec<String>) -> Result<()> {
        let layer = name.strip_suffix("weight").unwrap_or(name);
        let quant = format!("{layer}comfy_quant");
        if !self.contains(&quant) {
            return Ok(());
        }
        let corrupt = |problem: String| Error::CorruptWeights { file: self.label().into(), problem };
        let text = String::from_utf8_lossy(&self.get(&quant)?.bytes).into_owned();
        let format: Format = crate::json::object(&text).map_err(|e| corrupt(format!("`{quant}`: {e}")))?;
        format.check(layer.trim_end_matches('.')).map_err(corrupt)?;
        taken.push(quant);
        Ok(())
    }

    /// The factors of the matrix `name` `[rows, row]`, wherever they are.
    fn scales(&self, name: &str, rows: usize, row: usize, taken: &mut Vec<String>) -> Result<Option<Scales>> {
        let layer = name.strip_suffix("weight").unwrap_or(name);
        let corrupt = |problem: String| Error::CorruptWeights { file: self.label().into(), problem };
        taken.extend(UNUSED.iter().map(|unused| format!("{layer}{unused}")).filter(|unused| self.contains(unused)));
        let own = format!("{name}.scale");
        let names = [own.clone(), format!("{layer}scale_weight"), format!("{layer}weight_scale")];
        let Some(found) = names.into_iter().find(|scale| self.contains(scale)) else {
            // Marked as scaled, by the file or by what stands beside it, a matrix without a factor is about a thousand times too large.
            let missing = || corrupt(format!("matrices are marked as scaled, but `{layer}scale_weight` is missing"));
            return if self.contains(MARK) || !taken.is_empty() { Err(missing()) } else { Ok(None) };
        };
        if self.contains(MARK) {
            taken.push(MARK.into());
        }
        let Entry { dtype, shape, .. } = self.entry(&found)?;
        let encoding = match dtype {
            DType::F16 => Encoding::F16,
            DType::BF16 if found != own => Encoding::Bf16,
            DType::F32 if found != own => Encoding::F32,
            _ => {
                let expected = if found == own { "F16" } else { "F32, F16 or BF16" };
                return Err(corrupt(format!("`{found}` must be {expected}, not {dtype}")));
            }
        };
        let shared = |count: usize, of: usize| (count > 0 && of.is_multiple_of(count)).then(|| of / count);
        let expected = if found == own {
            format!("[{rows}, {}]", row.div_ceil(Q8_BLOCK))
        } else {
            format!("[], [{rows}] or blocks of [{rows}, {row}]")
        };
        let block = match shape.as_slice() {
            [n, blocks] if found == own => ([*n, *blocks] == [rows, row.div_ceil(Q8_BLOCK)]).then_some([1, Q8_BLOCK]),
            _ if found == own => None,
            [] | [1] => Some([rows, row]),
            [n] => (*n == rows).then_some([1, row]),
            [n, blocks] | [n, blocks, 1] => shared(*n, rows).zip(shared(*blocks, row)).map(<[usize; 2]>::from),
            _ => None,
        };
        let wrong = || Error::WrongShape { name: found.clone(), expected, found: shape.clone() };
        let block = block.ok_or_else(wrong)?;
        let place = self.place(&found, encoding)?.place;
        taken.push(found);
        Ok(Some(Scales { place, block }))
    }
}

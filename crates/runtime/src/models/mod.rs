//! Model families, and the registry of the classes a `config.json` may name.

pub mod bert;
pub mod ltx;
pub mod t5;
pub mod text;

use kinora_kernels::WeightFormat;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::weights::Checkpoint;

/// The classes this runtime implements, as `config.json` names them.
pub const CLASSES: [&str; 4] = ["LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo", "T5EncoderModel", "BertModel"];

/// One component of a model with its weights.
pub enum Model {
    /// `LTXVideoTransformer3DModel`.
    LtxTransformer(ltx::Transformer),
    /// `AutoencoderKLLTXVideo`.
    LtxVae(ltx::Vae),
    /// `T5EncoderModel`.
    T5(t5::T5Encoder),
    /// `BertModel`.
    Bert(bert::Bert),
}

impl Model {
    /// The component that `config`, the text of a `config.json` called `file`, describes. Every tensor of `checkpoint`
    /// must belong to it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`], and those of a checkpoint that does not fit.
    pub fn load(config: &str, file: &str, checkpoint: &Checkpoint, format: WeightFormat) -> Result<Self> {
        let w = Weights::new(checkpoint, format);
        let model = match class_name(config, file)?.as_str() {
            "LTXVideoTransformer3DModel" => {
                Self::LtxTransformer(ltx::Transformer::load(&w, &ltx::TransformerConfig::parse(config, file)?)?)
            }
            "AutoencoderKLLTXVideo" => Self::LtxVae(ltx::Vae::load(&w, &ltx::VaeConfig::parse(config, file)?)?),
            "T5EncoderModel" => Self::T5(t5::T5Encoder::load(&w, &t5::T5Config::parse(config, file)?)?),
            "BertModel" => Self::Bert(bert::Bert::load(&w, &bert::BertConfig::parse(config, file)?)?),
            class => return Err(Error::UnknownClass { class: class.into(), file: file.into(), known: CLASSES.join(", ") }),
        };
        w.finish()?;
        Ok(model)
    }

    /// What [`eval`](crate::eval::eval) can run of it.
    pub fn operations(&self) -> &'static [&'static str] {
        match self {
            Self::LtxTransformer(_) | Self::T5(_) | Self::Bert(_) => &["forward"],
            Self::LtxVae(_) => &["encode", "decode"],
        }
    }

    /// The component in `folder`: `config.json` beside its weights.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of missing or unreadable files.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(folder: &std::path::Path, format: WeightFormat) -> Result<Self> {
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        Self::load(&config, &path.display().to_string(), &Checkpoint::open(folder)?, format)
    }
}

/// The class that a `config.json` of diffusers (`_class_name`) or transformers (`architectures`) names.
///
/// # Errors
/// [`Error::InvalidConfig`].
pub fn class_name(config: &str, file: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        _class_name: Option<String>,
        architectures: Option<Vec<String>>,
    }
    let invalid = |problem: String| Error::InvalidConfig { file: file.into(), problem };
    let named: Named = serde_json::from_str(config).map_err(|e| invalid(e.to_string()))?;
    let transformers = named.architectures.and_then(|list| list.into_iter().next());
    named._class_name.or(transformers).ok_or_else(|| invalid("neither `_class_name` nor `architectures` names a class".into()))
}

/// Reads a `config.json` called `file`.
fn parse_config<T: for<'a> Deserialize<'a>>(json: &str, file: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::InvalidConfig { file: file.into(), problem: e.to_string() })
}

/// Refuses a configuration whose field `name` does not hold what the runtime can do.
fn require(file: &str, name: &str, found: &impl std::fmt::Display, holds: bool, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::InvalidConfig { file: file.into(), problem: format!("{name}: expected {expected}, found {found}") })
}

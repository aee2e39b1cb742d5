//! Model families, and the registry of the classes a `config.json` may name.

pub mod bert;
pub mod ltx;
pub mod t5;
pub mod text;

#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

use kinora_kernels::WeightFormat;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::sampling::schedule::ScheduleConfig;
use crate::weights::Checkpoint;

/// A class this runtime implements, as `config.json` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `LTXVideoTransformer3DModel`.
    LtxTransformer,
    /// `AutoencoderKLLTXVideo`.
    LtxVae,
    /// `T5EncoderModel`.
    T5,
    /// `BertModel`.
    Bert,
}

impl Class {
    /// All classes with their names.
    pub const ALL: [(&str, Self); 4] = [
        ("LTXVideoTransformer3DModel", Self::LtxTransformer),
        ("AutoencoderKLLTXVideo", Self::LtxVae),
        ("T5EncoderModel", Self::T5),
        ("BertModel", Self::Bert),
    ];

    /// The class that a `config.json` of diffusers (`_class_name`) or transformers (`architectures`) names; `file` is
    /// what it is called in errors.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`].
    pub fn of(config: &str, file: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Named {
            _class_name: Option<String>,
            architectures: Option<Vec<String>>,
        }
        let named: Named = parse_config(config, file)?;
        let transformers = named.architectures.and_then(|list| list.into_iter().next());
        let name = named._class_name.or(transformers).ok_or_else(|| Error::InvalidConfig {
            file: file.into(),
            problem: "neither `_class_name` nor `architectures` names a class".into(),
        })?;
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, class)| *class).ok_or_else(|| Error::UnknownClass {
            class: name,
            file: file.into(),
            known: Self::ALL.map(|(known, _)| known).join(", "),
        })
    }
}

/// One component of a model with its weights.
#[expect(clippy::large_enum_variant, reason = "a few of them exist, and they rarely move")]
pub enum Model {
    /// `LTXVideoTransformer3DModel`.
    LtxTransformer(ltx::Transformer),
    /// `AutoencoderKLLTXVideo`.
    LtxVae(ltx::Vae),
    /// `T5EncoderModel`.
    T5(t5::T5Encoder),
    /// `BertModel`.
    Bert(bert::Bert),
    /// `FlowMatchEulerDiscreteScheduler`, which has no weights.
    Scheduler(ScheduleConfig),
}

impl Model {
    /// The component that `config`, the text of a `config.json` called `file`, describes. Every tensor of `checkpoint`
    /// must belong to it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`], and those of a checkpoint that does not fit.
    pub fn load(config: &str, file: &str, checkpoint: &Checkpoint, format: WeightFormat) -> Result<Self> {
        let w = Weights::new(checkpoint, format);
        let model = match Class::of(config, file)? {
            Class::LtxTransformer => Self::LtxTransformer(ltx::Transformer::load(&w, &ltx::TransformerConfig::parse(config, file)?)?),
            Class::LtxVae => Self::LtxVae(ltx::Vae::load(&w, &ltx::VaeConfig::parse(config, file)?)?),
            Class::T5 => Self::T5(t5::T5Encoder::load(&w, &t5::T5Config::parse(config, file)?)?),
            Class::Bert => Self::Bert(bert::Bert::load(&w, &bert::BertConfig::parse(config, file)?)?),
        };
        w.finish()?;
        Ok(model)
    }

    /// What [`eval`](crate::eval::eval) can run of it.
    pub fn operations(&self) -> &'static [&'static str] {
        match self {
            Self::LtxTransformer(_) | Self::T5(_) | Self::Bert(_) | Self::Scheduler(_) => &["forward"],
            Self::LtxVae(_) => &["encode", "decode"],
        }
    }

    /// The component in `folder`: `config.json` beside its weights, or `scheduler_config.json`.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of missing or unreadable files.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(folder: &Path, format: WeightFormat) -> Result<Self> {
        let scheduler = folder.join("scheduler_config.json");
        if scheduler.is_file() {
            let json = std::fs::read(&scheduler).map_err(|e| Error::io("read", &scheduler, e))?;
            return Ok(Self::Scheduler(ScheduleConfig::from_json(&json, &scheduler.display().to_string())?));
        }
        let path = folder.join("config.json");
        let config = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
        let file = path.display().to_string();
        // Before the weights are looked for: another class may keep them elsewhere.
        Class::of(&config, &file)?;
        Self::load(&config, &file, &Checkpoint::open(folder)?, format)
    }
}

/// The folder of a component: `folder` itself, or the one `component` names in a model folder with `model_index.json`.
///
/// # Errors
/// [`Error::NotFound`], [`Error::InvalidRequest`] if a model folder is given without a component.
#[cfg(not(target_arch = "wasm32"))]
pub fn component_folder(folder: &Path, component: Option<&str>) -> Result<PathBuf> {
    if ["config.json", "scheduler_config.json"].iter().any(|file| folder.join(file).is_file()) {
        return Ok(folder.into());
    }
    if !folder.join("model_index.json").is_file() {
        let what = if folder.is_dir() { "model_index.json or config.json" } else { "model folder" };
        return Err(Error::NotFound { what: what.into(), path: folder.into() });
    }
    let Some(component) = component else {
        let expected = "the name of a folder beside model_index.json, e.g. transformer, vae, text_encoder or scheduler";
        return Err(Error::InvalidRequest { parameter: "component".into(), found: "none".into(), expected: expected.into() });
    };
    let path = folder.join(component);
    if path.is_dir() { Ok(path) } else { Err(Error::NotFound { what: format!("component `{component}`"), path }) }
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

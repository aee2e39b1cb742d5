//! [`Component`]: one part of a model with its weights, whichever family it comes from, and how it is found and loaded.

#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

use kinora_kernels::WeightFormat;
use serde::Deserialize;

use super::FAMILIES;
use super::config::parse_config;
#[cfg(feature = "eval")]
use super::family::Evaluate;
#[cfg(feature = "families")]
use super::family::LatentStage;
use super::family::{Autoencoder, ComponentClass, Denoiser, ImageEncoder, SecondStage, Source, TextEncoder};
use super::layout;
use crate::error::{Error, Result};
use crate::manifest::Index;
use crate::nn::Weights;
use crate::sampling::solvers::Solver;
#[cfg(not(target_arch = "wasm32"))]
use crate::sampling::solvers::{SchedulerFile, of_file};
use crate::weights::Checkpoint;

/// A part of a model.
pub enum Component {
    /// Predicts what is noise.
    Denoiser(Box<dyn Denoiser>),
    /// Frames to latents and back.
    Autoencoder(Box<dyn Autoencoder>),
    /// Token ids to text states.
    TextEncoder(Box<dyn TextEncoder>),
    /// Pictures to states.
    ImageEncoder(Box<dyn ImageEncoder>),
    /// Finished frames to more of them, or larger ones.
    SecondStage(Box<dyn SecondStage>),
    /// Latents to larger ones.
    #[cfg(feature = "families")]
    LatentStage(Box<dyn LatentStage>),
    /// A way from noise to a clean sample, which has no weights.
    Scheduler(Box<dyn Solver>),
}

impl Component {
    /// The component that `config`, the text of a `config.json` called `file`, describes, of the model of `index`. Every
    /// tensor of `checkpoint`, in whichever layout, must belong to it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`], and those of a checkpoint that does not fit.
    pub fn load(config: &str, file: &str, checkpoint: &Checkpoint, format: WeightFormat, index: &Index) -> Result<Self> {
        let class = class_of(config, file)?;
        let adapted = layout::adapt(checkpoint);
        let source = Source { config, file, weights: Weights::new(adapted.as_ref().unwrap_or(checkpoint), format), index };
        let component = (class.load)(&source)?;
        source.weights.finish()?;
        Ok(component)
    }

    /// The component in `folder`: `config.json` beside its weights, or `scheduler_config.json`.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of missing or unreadable files.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(folder: &Path, format: WeightFormat) -> Result<Self> {
        let scheduler = folder.join("scheduler_config.json");
        if scheduler.is_file() {
            let json = crate::model_file::read(&scheduler)?;
            return Ok(Self::Scheduler(of_file(&SchedulerFile::from_json(&json, &scheduler.display().to_string())?)?));
        }
        let path = folder.join("config.json");
        let config = crate::model_file::read_text(&path)?;
        let file = path.display().to_string();
        // Before the weights are looked for: another class may keep them elsewhere.
        class_of(&config, &file)?;
        Self::load(&config, &file, &Checkpoint::open(folder)?, format, &Index::default())
    }

    /// The component in a single weight file that belongs into `folder` (`transformer`, `vae`, `text_encoder`), or the only one.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of files that are no component or leave open which.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open_file(path: &Path, folder: Option<&str>, format: WeightFormat) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let mut found = crate::pipeline::parts::components(&file)?;
        found.retain(|(own, _)| folder.is_none_or(|folder| folder == *own));
        match found.as_slice() {
            [(_, found)] => Self::load(&found.config.to_string(), file.label(), &found.checkpoint, format, &Index::default()),
            several => {
                let expected = "the folder of one component in it: transformer, vae or text_encoder".into();
                let found = format!("{} of {} that fit", folder.unwrap_or("none"), several.len());
                Err(Error::InvalidRequest { parameter: "component".into(), found, expected })
            }
        }
    }

    /// What [`eval`](crate::eval::eval) can run of it.
    #[cfg(feature = "eval")]
    pub fn evaluate(&self) -> &dyn Evaluate {
        match self {
            Self::Denoiser(model) => model.as_ref(),
            Self::Autoencoder(model) => model.as_ref(),
            Self::TextEncoder(model) => model.as_ref(),
            Self::ImageEncoder(model) => model.as_ref(),
            Self::SecondStage(model) => model.as_ref(),
            #[cfg(feature = "families")]
            Self::LatentStage(model) => model.as_ref(),
            Self::Scheduler(solver) => solver,
        }
    }
}

/// The class that a `config.json` of diffusers (`_class_name`) or transformers (`architectures`) names; `file` is what it is
/// called in errors.
///
/// # Errors
/// [`Error::InvalidConfig`], [`Error::UnknownClass`].
pub fn class_of(config: &str, file: &str) -> Result<&'static ComponentClass> {
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
    let classes = || FAMILIES.iter().flat_map(|family| family.components);
    classes().find(|class| class.name == name).ok_or_else(|| Error::UnknownClass {
        class: name,
        file: file.into(),
        known: classes().map(|class| class.name).collect::<Vec<_>>().join(", "),
    })
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

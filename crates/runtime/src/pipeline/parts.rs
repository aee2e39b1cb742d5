//! A model put together from single files, as people have them: each is recognised by its tensors, and what a model folder
//! would say besides comes from the layout of its denoiser.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::manifest::Index;
use crate::models::FAMILIES;
use crate::models::component::class_of;
use crate::models::layout::{Found, recognise};
use crate::weights::{Checkpoint, Lora};

/// What is given beside a model folder, or instead of one.
#[derive(Clone, Debug, Default)]
pub struct ModelParts {
    /// Weight files. A component that is in one of them replaces that of the folder.
    pub weights: Vec<Checkpoint>,
    /// Contents of a `tokenizer.json`; absent if the text encoder's file has a tokenizer in it.
    pub tokenizer: Option<Vec<u8>>,
    /// States of texts, as [`text_states_file`](crate::VideoPipeline::text_states_file) writes them: prompts among them need no text encoder.
    pub text_states: Option<Checkpoint>,
    /// Adaptations of the denoisers, which add up.
    pub loras: Vec<Lora>,
}

/// Files of a model folder that are made up or replaced.
#[derive(Default)]
pub(super) struct Overlay {
    /// Files by their path in the folder.
    texts: BTreeMap<String, Vec<u8>>,
    /// Weights by the folder of their component.
    checkpoints: BTreeMap<&'static str, Checkpoint>,
    pub(super) loras: Vec<Lora>,
    pub(super) text_states: Option<Checkpoint>,
}

const ENCODER: &str = "text_encoder/config.json";
/// The file of [`text_states`](ModelParts::text_states) in a model folder.
pub const STATES: &str = "text_states.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer/tokenizer.json";

/// The folder of a component of this class in a model that has one denoiser.
pub fn folder_of(class: &str) -> Option<&'static str> {
    let pipelines = || FAMILIES.iter().flat_map(|family| family.pipelines);
    let is_in = |list: &[&str]| list.contains(&class);
    [
        ("transformer", pipelines().any(|pipeline| is_in(pipeline.denoisers))),
        ("vae", pipelines().any(|pipeline| is_in(pipeline.autoencoders))),
        ("text_encoder", pipelines().any(|pipeline| is_in(pipeline.text_encoders))),
        ("image_encoder", pipelines().any(|pipeline| is_in(pipeline.image_encoders))),
    ]
    .into_iter()
    .find_map(|(folder, fits)| fits.then_some(folder))
}

/// The components of a weight file with their folders.
///
/// # Errors
/// Those of a file that is no component, or of more than that.
pub fn components(file: &Checkpoint) -> Result<Vec<(&'static str, Found)>> {
    let (found, strangers) = recognise(file)?;
    if found.is_empty() {
        let names: Vec<&str> = file.names().take(3).collect();
        return Err(Error::InvalidConfig {
            file: file.label().into(),
            problem: format!("its tensors ({}, …) are those of no model that is known", names.join(", ")),
        });
    }
    if let Some(first) = strangers.first() {
        return Err(Error::UnexpectedTensors { first: first.clone(), count: strangers.len(), file: file.label().into() });
    }
    let placed = |found: Found| {
        let class = class_of(&found.config.to_string(), file.label())?.name;
        let nowhere = || Error::InvalidConfig { file: file.label().into(), problem: format!("a {class} is no part of a pipeline") };
        Ok((folder_of(class).ok_or_else(nowhere)?, found))
    };
    found.into_iter().map(placed).collect()
}

impl Overlay {
    /// Recognises `parts`; `whole` if there is no model folder below them.
    pub(super) fn new(parts: ModelParts, whole: bool) -> Result<Self> {
        let mut overlay = Self { loras: parts.loras, text_states: parts.text_states, ..Self::default() };
        for file in &parts.weights {
            for (folder, found) in components(file)? {
                overlay.texts.insert(format!("{folder}/config.json"), found.config.to_string().into_bytes());
                if let Some([index, scheduler]) = found.pipeline.filter(|_| whole) {
                    overlay.texts.insert("model_index.json".into(), index.into());
                    overlay.texts.insert("scheduler/scheduler_config.json".into(), scheduler.into());
                }
                // One that is given goes before one that travels with the weights.
                if let Some(tokenizer) = if whole && parts.tokenizer.is_none() { found.checkpoint.tokenizer()? } else { None } {
                    overlay.texts.insert(TOKENIZER.into(), tokenizer);
                }
                if let Some(other) = overlay.checkpoints.insert(folder, found.checkpoint) {
                    return Err(Error::InvalidConfig {
                        file: file.label().into(),
                        problem: format!("it holds a {folder}, and so does {}; give one of them", other.label()),
                    });
                }
            }
        }
        if let Some(tokenizer) = parts.tokenizer {
            overlay.texts.insert(TOKENIZER.into(), tokenizer);
        }
        if whole {
            overlay.check()?;
        }
        Ok(overlay)
    }

    /// Whether everything of a model is there, each part named by what would give it.
    fn check(&self) -> Result<()> {
        let parts = [
            ("a diffusion transformer (`transformer`)", "model_index.json"),
            ("the autoencoder of the model (`vae`)", "vae/config.json"),
            ("the text encoder of the model (`text_encoder`)", ENCODER),
            ("the tokenizer.json of the text encoder (`tokenizer`)", TOKENIZER),
        ];
        // What has no index is refused for that first.
        let index = self.text("model_index.json").and_then(|index| Index::parse(&String::from_utf8(index).ok()?, "model_index.json").ok());
        let is_told_classes = index.is_some_and(|index| index.pipeline().is_ok_and(|class| class.text_encoders.is_empty()));
        let is_needless = |file: &str| match file {
            ENCODER => is_told_classes || self.text_states.is_some(),
            TOKENIZER => is_told_classes,
            _ => false,
        };
        let is_there = |file: &str| self.texts.contains_key(file) || is_needless(file);
        match parts.iter().find(|(_, file)| !is_there(file)) {
            None => Ok(()),
            Some((what, _)) => {
                let given: Vec<&str> = self.checkpoints.values().map(Checkpoint::label).collect();
                let given = if given.is_empty() { "no weight file".to_owned() } else { given.join(", ") };
                Err(Error::InvalidRequest { parameter: "model".into(), found: given, expected: format!("{what} besides") })
            }
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<Vec<u8>> {
        self.texts.get(name).cloned()
    }

    pub(super) fn checkpoint(&self, folder: &str) -> Option<Checkpoint> {
        self.checkpoints.get(folder).cloned()
    }
}

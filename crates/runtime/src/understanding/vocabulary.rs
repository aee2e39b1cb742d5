//! The words that a model knows, and what language models are told of them that write prompts for it (the idea of DALL·E 3's
//! caption upsampling).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The words a model knows: the file that `kinora.vocabulary` of its `model_index.json` names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Vocabulary {
    /// The caption it was trained with, around `{object}`, `{motion}` and `{color}`.
    #[serde(default)]
    pub template: String,
    /// Background colours; the first stands where a prompt names none.
    pub colors: Vec<String>,
    /// Backgrounds by the places that have about their colour.
    #[serde(default)]
    pub places: BTreeMap<String, Vec<String>>,
    /// What it can draw.
    pub objects: Vec<Object>,
    /// Things people ask for that it cannot draw.
    #[serde(default)]
    pub others: Vec<String>,
    /// When a text stands for one of the objects.
    #[serde(default)]
    pub known: Known,
}

/// When a text that names no object by itself stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Known {
    /// The least cosine between its pooled state and that of a phrase of the object.
    pub cosine: f32,
    /// By how much the cosine to one of [`Vocabulary::others`] may be above that.
    pub margin: f32,
}

impl Default for Known {
    fn default() -> Self {
        Self { cosine: 0.5, margin: 0.0 }
    }
}

/// What a language model is told that is to expand prompts for a model with these words, if it has any.
pub fn expansion_task(vocabulary: Option<&Vocabulary>) -> String {
    const TASK: &str = "You write prompts for a text-to-video model. Rewrite the user's prompt as one short sentence that says what \
        is seen, how it moves, and what is behind it. Keep everything the user asked for. Answer with the sentence alone.";
    let Some(Vocabulary { colors, objects, .. }) = vocabulary else { return TASK.to_owned() };
    // Names and motions without synonyms: some language models read a few thousand tokens only.
    let objects: Vec<String> = objects.iter().map(|object| format!("{}: {}", object.name, object.motions.join(", "))).collect();
    let colors = colors.join(", ");
    format!("{TASK} The model knows these backgrounds: {colors}. It knows these objects, each with what it does:\n{}", objects.join("\n"))
}

/// One thing a model can draw.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Object {
    /// Its usual name.
    pub name: String,
    /// Other names, which captions had too.
    pub synonyms: Vec<String>,
    /// Words for it that no caption had.
    #[serde(default)]
    pub also: Vec<String>,
    /// The pictograph of it.
    #[serde(default)]
    pub emoji: String,
    /// What it does, as in "flying".
    pub motions: Vec<String>,
}

impl Vocabulary {
    /// Reads the text of the file called `file`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        crate::json::object(json).map_err(|error| Error::InvalidConfig { file: file.into(), problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let json = r#"{"template": "unused", "colors": ["blue", "red"], "objects": [
            {"name": "bear", "synonyms": [], "motions": ["nodding"]},
            {"name": "teddy bear", "synonyms": ["toy"], "motions": ["waving", "wiggling"]},
            {"name": "owl", "synonyms": [], "motions": ["looking around"]}]}"#;
        Vocabulary::parse(json, "vocabulary.json").expect("valid")
    }

    #[test]
    fn language_models_are_told_the_words() {
        let plain = expansion_task(None);
        let task = expansion_task(Some(&vocabulary()));
        let words = task.strip_prefix(&plain).expect("the same task");
        assert_eq!(
            words,
            " The model knows these backgrounds: blue, red. It knows these objects, each with what it does:\n\
             bear: nodding\nteddy bear: waving, wiggling\nowl: looking around"
        );
    }

    #[test]
    fn a_file_without_words_is_refused() {
        assert_eq!(Vocabulary::parse("{}", "v.json").map_err(|e| e.code()), Err("invalid-config"));
    }
}

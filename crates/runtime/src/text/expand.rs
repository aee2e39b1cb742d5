//! Prompt expansion: a short prompt becomes one like those the model was trained with (the idea of DALL·E 3's caption
//! upsampling), here by rules over the model's own vocabulary. Text is only ever added, so that what was asked for stays.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::sampling::noise::philox4x32_10;

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
        serde_json::from_str(json).map_err(|error| Error::InvalidConfig { file: file.into(), problem: error.to_string() })
    }

    /// `prompt` with the article, the motion and the background that it lacks, chosen by `seed`; unchanged if it names
    /// nothing the model knows.
    pub fn expand(&self, prompt: &str, seed: u64) -> String {
        let words: Vec<&str> = prompt.split_whitespace().collect();
        let plain: Vec<String> = words.iter().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()).collect();
        let Some((object, start, end)) = self.find(&plain) else { return prompt.to_owned() };
        let [motion_draw, color_draw, ..] = philox4x32_10([0; 4], [seed as u32, (seed >> 32) as u32]);

        let mut out: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let has_color = plain.iter().any(|word| self.colors.iter().any(|color| color.eq_ignore_ascii_case(word)));
        if let Some(color) = pick(&self.colors, color_draw).filter(|_| !has_color) {
            let last = out.len() - 1;
            out[last] = out[last].trim_end_matches(['.', ',', ';', '!', '?']).to_owned();
            out.push(format!("on a {color} background"));
        }
        // Motions are participles, in the vocabulary as in prompts.
        let moves = plain[end..].iter().any(|word| word.len() > 4 && word.ends_with("ing"));
        if let Some(motion) = pick(&object.motions, motion_draw).filter(|_| !moves) {
            let noun = out[end - 1].clone();
            let bare = noun.trim_end_matches(|c: char| !c.is_alphanumeric());
            out[end - 1] = format!("{bare} {motion}{}", &noun[bare.len()..]);
        }
        if start == 0 {
            let vowel = plain[0].starts_with(['a', 'e', 'i', 'o']);
            out.insert(0, if vowel { "an" } else { "a" }.to_owned());
        }
        out.join(" ")
    }

    /// The object with the longest name among `words`, and where the name begins and ends.
    fn find(&self, words: &[String]) -> Option<(&Object, usize, usize)> {
        let names =
            self.objects.iter().flat_map(|object| [&object.name].into_iter().chain(&object.synonyms).map(move |name| (object, name)));
        let found = names.filter_map(|(object, name)| {
            let name: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
            let start = words.windows(name.len().max(1)).position(|window| window == name)?;
            Some((object, start, start + name.len()))
        });
        // The first of equally long ones, so that the order of the file decides.
        found.reduce(|best, next| if next.2 - next.1 > best.2 - best.1 { next } else { best })
    }
}

fn pick(words: &[String], draw: u32) -> Option<&String> {
    words.get(draw as usize % words.len().max(1))
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
    fn what_is_missing_is_added() {
        let expand = |prompt| vocabulary().expand(prompt, 0);
        let background = expand("a bear nodding").replace("a bear nodding", "");
        assert!([" on a blue background", " on a red background"].contains(&background.as_str()), "{background}");
        assert_eq!(expand("a bear on a red background"), "a bear nodding on a red background", "a motion after the noun");
        assert_eq!(expand("Owl, red wall"), "an Owl looking around, red wall", "an article and the comma's place");
        assert_eq!(expand("a bear nodding."), format!("a bear nodding{background}"), "a full stop does not stay inside");
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
    fn the_longest_name_wins_and_seeds_choose() {
        let expand = |seed| vocabulary().expand("the teddy bear on a red background", seed);
        let all: std::collections::BTreeSet<String> = (0..32).map(expand).collect();
        let expected = ["the teddy bear waving on a red background", "the teddy bear wiggling on a red background"];
        assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), expected, "both, and nothing else");
        assert_eq!(expand(7), expand(7), "the same seed, the same text");
    }

    #[test]
    fn complete_and_unknown_prompts_stay_as_they_are() {
        for prompt in ["a bear nodding on a red background", "a castle", "", "  two  spaces ", "{object} \"; rm -rf", "bears", "🐻"] {
            assert_eq!(vocabulary().expand(prompt, 3), prompt);
        }
        assert_eq!(Vocabulary::parse("{}", "v.json").map_err(|e| e.code()), Err("invalid-config"), "no vocabulary");
    }
}

//! Prompts as people write them become captions as the model was trained with, by the words that it lists.
//!
//! Words of the vocabulary win, in whatever case, number or spelling; what they leave open is answered by the model's own
//! text encoder, whose pooled states are near for phrases of like meaning. A model without vocabulary takes prompts as they
//! are.

mod grammar;
mod lexicon;
mod reading;
mod spelling;
mod states;
mod vocabulary;

use kinora_kernels::sort_by_numbers;
use serde::Serialize;

use crate::error::Result;
use crate::nn::Weights;

use self::lexicon::Lexicon;
pub use self::reading::Reading;
use self::states::States;
pub use self::vocabulary::{Known, Object, Vocabulary, expansion_task};

/// The least cosine of a verb to the motion that is drawn for it; below it another would be as good.
const MOTION_COSINE: f32 = 0.4;

/// A word that the model does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unknown {
    /// As it was written.
    pub word: String,
    /// The nearest name that the model knows.
    pub nearest: String,
}

/// What became of a prompt, for people: the words used, and those that were not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wording {
    /// As in "cat face, nodding, white".
    pub used: String,
    /// What was asked for and is not known, each with what is drawn for it.
    pub unknown: Vec<Unknown>,
    /// Words that the clip does not follow.
    pub ignored: Vec<String>,
}

/// What a prompt became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Understood {
    /// The object, what it does and the background: the words used.
    pub used: [String; 3],
    /// The caption of them, which is given to the model.
    pub caption: String,
    /// What was asked for and is not known.
    pub unknown: Vec<Unknown>,
    /// Words of the prompt that the clip does not follow.
    pub ignored: Vec<String>,
}

impl Understood {
    /// The words used, as in "cat face, nodding, white". Read as a prompt they mean themselves.
    pub fn used(&self) -> String {
        self.used.join(", ")
    }
}

/// How what a prompt leaves open is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first motion of the object, the first colour.
    #[default]
    First,
    /// By this seed.
    Seed(u64),
}

/// The words of a model, ready to read prompts.
#[derive(Debug)]
pub struct Understanding {
    vocabulary: Vocabulary,
    lexicon: Lexicon,
    /// Without them only listed words are understood.
    states: Option<States>,
    /// Pictographs and the names of what they show, the longest first.
    emoji: Vec<(String, String)>,
}

impl Understanding {
    /// Indexes a vocabulary; `weights` hold the pooled states of its phrases, `width` wide, if there are any.
    ///
    /// # Errors
    /// Those of missing tensors or other shapes.
    pub fn load(vocabulary: Vocabulary, weights: Option<&Weights<'_>>, width: usize) -> Result<Self> {
        let states = weights.map(|weights| States::load(weights, &vocabulary, width)).transpose()?;
        let lexicon = Lexicon::new(&vocabulary);
        let drawn = vocabulary.objects.iter().filter(|object| !object.emoji.is_empty());
        let mut emoji: Vec<_> = drawn.map(|object| (without_selectors(&object.emoji), format!(" {} ", object.name))).collect();
        sort_by_numbers(&mut emoji, |(emoji, _)| [u64::MAX - emoji.len() as u64, 0]);
        Ok(Self { vocabulary, lexicon, states, emoji })
    }

    /// The words it was made from.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The phrases of the table as the text encoder read them, with their states.
    #[cfg(test)]
    pub(crate) fn phrases(&self) -> Vec<(String, &[f32])> {
        let Vocabulary { objects, others, .. } = &self.vocabulary;
        let names = objects.iter().flat_map(|object| [&object.name].into_iter().chain(&object.synonyms));
        let noun = |noun: &String| format!("{} {noun}", reading::article(noun));
        let motions = objects.iter().flat_map(|object| object.motions.iter().cloned());
        let texts = names.map(noun).chain(motions).chain(others.iter().map(noun));
        texts.zip(self.states.iter().flat_map(States::rows)).collect()
    }

    /// A caption, or the words used as they are shown: what needs no reading, in which names could run into each other.
    pub fn repeated(&self, prompt: &str) -> Option<Understood> {
        let Vocabulary { template, colors, objects, .. } = &self.vocabulary;
        let prompt = grammar::plain(prompt);
        let named = objects.iter().filter(|object| prompt.contains(&grammar::plain(&object.name)));
        let all = named.flat_map(|object| {
            let motions = object.motions.iter().flat_map(|motion| colors.iter().map(move |color| (motion, color)));
            motions.map(move |(motion, color)| Understood {
                used: [object.name.clone(), motion.clone(), color.clone()],
                caption: reading::caption(template, &object.name, motion, color),
                unknown: Vec::new(),
                ignored: Vec::new(),
            })
        });
        all.into_iter().find(|one| prompt == grammar::plain(&one.caption) || prompt == grammar::plain(&one.used()))
    }

    /// Reads a prompt as far as its words go; `None` if it has none. `is_word` tells words that are spelt rightly.
    pub fn read(&self, prompt: &str, choice: Choice, is_word: &dyn Fn(&str) -> bool) -> Option<Reading<'_>> {
        let mut text = without_selectors(prompt);
        for (emoji, name) in &self.emoji {
            if text.contains(emoji.as_str()) {
                text = text.replace(emoji.as_str(), name);
            }
        }
        Reading::new(self, &text, choice, is_word)
    }
}

/// Without the characters that choose between pictograph and letter.
fn without_selectors(text: &str) -> String {
    text.replace('\u{fe0f}', "")
}

/// The mean of hidden states `[L, D]` of a text, of length 1: what answers [`Reading::questions`].
pub fn pooled(states: &[f32], width: usize) -> Vec<f32> {
    states::pooled(states, width)
}

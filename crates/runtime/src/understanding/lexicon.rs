//! The phrases that a vocabulary lists, found in prompts by their letters: whatever case, hyphens, spaces and endings.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use kinora_kernels::sort_by_numbers;

use super::Vocabulary;
use super::grammar::{self, Word};
use super::spelling;

/// The longest phrase that is looked for, in words.
const MAX_WORDS: usize = 8;
/// Shorter words are taken as they are.
const MIN_LETTERS: usize = 4;
/// From this length on a word may be misspelt twice.
const TWO_EDITS_LETTERS: usize = 8;

/// What a phrase of a prompt stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// An object of the vocabulary.
    Object(usize),
    /// A motion of some object.
    Motion,
    /// Something else.
    Other,
}

/// A phrase of a prompt that the vocabulary lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) words: Range<usize>,
    pub(super) meaning: Meaning,
    /// Its letters, the last word as the vocabulary has it.
    pub(super) letters: String,
}

/// The phrases of a vocabulary.
#[derive(Debug)]
pub(super) struct Lexicon {
    phrases: HashMap<String, Meaning>,
    /// All words in them, for spelling; sorted.
    words: Vec<String>,
    /// Stems of the verbs in motions.
    verbs: HashSet<String>,
}

impl Lexicon {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let Vocabulary { colors, places, objects, others, .. } = vocabulary;
        let mut phrases = HashMap::new();
        let mut words = HashSet::new();
        // A word that means two things means the first: an object rather than what one does.
        let mut add = |phrase: &str, meaning: Option<Meaning>| {
            let own: Vec<String> = grammar::words(phrase).into_iter().map(|word| word.plain).collect();
            if let (Some(meaning), false) = (meaning, own.len() == 1 && grammar::is_grammar(&own[0])) {
                phrases.entry(own.concat()).or_insert(meaning);
            }
            // Parts of what cannot be drawn would draw words to them that are right.
            if meaning != Some(Meaning::Other) || own.len() == 1 {
                words.extend(own);
            }
        };
        for (i, object) in objects.iter().enumerate() {
            add(&object.name, Some(Meaning::Object(i)));
        }
        for (i, object) in objects.iter().enumerate() {
            object.synonyms.iter().chain(&object.also).for_each(|name| add(name, Some(Meaning::Object(i))));
        }
        objects.iter().flat_map(|object| &object.motions).for_each(|motion| add(motion, Some(Meaning::Motion)));
        others.iter().for_each(|other| add(other, Some(Meaning::Other)));
        colors.iter().chain(places.values().flatten()).for_each(|word| add(word, None));
        let first_words = objects.iter().flat_map(|object| &object.motions).filter_map(|motion| grammar::words(motion).into_iter().next());
        let verbs = first_words.map(|word| spelling::stem(&word.plain)).collect();
        let mut words: Vec<String> = words.into_iter().filter(|word| word.chars().count() >= MIN_LETTERS).collect();
        words.sort_unstable();
        Self { phrases, words, verbs }
    }

    /// Whether the word is a verb: in the form of captions, or any form of one in them.
    pub(super) fn is_verb(&self, word: &Word) -> bool {
        word.is_participle() || self.verbs.contains(&spelling::stem(&word.plain))
    }

    /// Puts the nearest word of the vocabulary in the place of one that is misspelt: one that `is_word` does not know
    /// either. People get first letters right.
    pub(super) fn correct(&self, word: &mut Word, is_word: &dyn Fn(&str) -> bool) {
        let letters = word.plain.chars().count();
        let known = |form: &String| self.words.binary_search(form).is_ok();
        if letters < MIN_LETTERS || is_word(&word.plain) || spelling::singulars(&word.plain).iter().any(known) {
            return;
        }
        // "trex" is right in its way.
        if self.phrases.contains_key(&word.plain) {
            return;
        }
        let first = word.plain.chars().next();
        let near = self.words.iter().filter(|known| known.chars().next() == first).filter_map(|known| {
            let most = if letters.max(known.chars().count()) < TWO_EDITS_LETTERS { 1 } else { 2 };
            Some((spelling::distance(&word.plain, known, most)?, known))
        });
        if let Some((_, known)) = near.min() {
            word.plain.clone_from(known);
            word.misspelt = true;
        }
    }

    /// The listed phrases among `words`, longer ones first served, in their order.
    pub(super) fn spans(&self, words: &[Word]) -> Vec<Span> {
        let mut taken = vec![false; words.len()];
        let mut spans = Vec::new();
        for length in (1..=MAX_WORDS.min(words.len())).rev() {
            for start in 0..=words.len() - length {
                let range = start..start + length;
                if taken[range.clone()].contains(&true) || words[range.clone()].iter().rev().skip(1).any(|word| word.stop) {
                    continue;
                }
                if let Some((letters, meaning)) = self.find(&words[range.clone()]) {
                    taken[range.clone()].fill(true);
                    spans.push(Span { words: range, meaning, letters });
                }
            }
        }
        sort_by_numbers(&mut spans, |span| [span.words.start as u64, 0]);
        spans
    }

    fn find(&self, words: &[Word]) -> Option<(String, Meaning)> {
        let (last, before) = words.split_last()?;
        let before: String = before.iter().map(|word| word.plain.as_str()).collect();
        let forms = spelling::singulars(&last.plain).into_iter().map(|form| format!("{before}{form}"));
        let listed = |letters: String| self.phrases.get(&letters).map(|meaning| (letters, *meaning));
        // A word of grammar may be a listed one's letters all the same.
        forms.filter(|_| words.len() > 1 || !grammar::is_grammar(&last.plain)).find_map(listed)
    }
}

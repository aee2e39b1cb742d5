//! One prompt: what its words say, what the text encoder is asked, and the caption that follows.

use std::ops::Range;

use super::Object;
use super::grammar::{self, Word};
use super::lexicon::{Meaning, Span};
use super::spelling;
use super::states::Nearest;
use super::{Choice, MOTION_COSINE, Understanding, Understood, Unknown};
use crate::sampling::noise::philox4x32_10;

/// Longer texts than this say enough without an article.
const BARE_WORDS: usize = 3;

/// A prompt whose words are read.
#[derive(Debug)]
pub struct Reading<'a> {
    words_of: &'a Understanding,
    choice: Choice,
    words: Vec<Word>,
    spans: Vec<Span>,
    subject: Subject,
    /// What is said to move, if anything is.
    verb: Option<Range<usize>>,
    /// The background's place among the colours and the words that name it.
    color: Option<(usize, Range<usize>)>,
    questions: Vec<String>,
    /// How many of them are about the subject; the one after them is about the verb.
    about_subject: usize,
}

/// What a prompt is about.
#[derive(Debug)]
enum Subject {
    /// A listed object.
    Known(usize, Range<usize>),
    /// Words that may stand for one.
    Asked(Range<usize>),
}

impl<'a> Reading<'a> {
    pub(super) fn new(words_of: &'a Understanding, text: &str, choice: Choice, is_word: &dyn Fn(&str) -> bool) -> Option<Self> {
        let mut words = grammar::words(text);
        words.drain(..grammar::lead(&words));
        words.iter_mut().for_each(|word| words_of.lexicon.correct(word, is_word));
        let spans = words_of.lexicon.spans(&words);
        if words.is_empty() {
            return None;
        }
        let color = color(words_of, &words, &spans);
        let phrases = phrases(words_of, &words, &spans, color.as_ref().map(|(_, words)| words));
        let subject = subject(&words, &spans, &phrases);
        let after = match &subject {
            Subject::Known(_, words) => words.end,
            Subject::Asked(_) => 0,
        };
        let verb = phrases.iter().find(|phrase| phrase.verb && phrase.words.start >= after).map(|phrase| verb(&words, &phrase.words));
        let mut reading = Self { words_of, choice, words, spans, subject, verb, color, questions: Vec::new(), about_subject: 0 };
        reading.ask();
        Some(reading)
    }

    /// What the text encoder is asked: a text each, to be answered by its pooled state.
    pub fn questions(&self) -> &[String] {
        &self.questions
    }

    fn ask(&mut self) {
        if self.words_of.states.is_none() {
            return;
        }
        if let Subject::Asked(words) = &self.subject {
            let text = self.corrected(words);
            let bare = words.len() <= BARE_WORDS && self.words[words.clone()].iter().all(Word::is_content);
            let noun = bare.then(|| format!("{} {text}", article(&text)));
            self.questions.push(text);
            self.questions.extend(noun);
        }
        self.about_subject = self.questions.len();
        let object = match &self.subject {
            Subject::Known(object, _) => Some(&self.words_of.vocabulary.objects[*object]),
            Subject::Asked(_) => None,
        };
        if let Some(verb) = self.verb.as_ref().filter(|_| object.is_none_or(|object| self.said_motion(object).is_none())) {
            self.questions.push(self.corrected(verb));
        }
    }

    /// The caption, given the pooled states of the texts in [`questions`](Self::questions); `None` if the prompt names
    /// nothing that is listed and there are no questions.
    pub fn understood(&self, answers: &[Vec<f32>]) -> Option<Understood> {
        let vocabulary = &self.words_of.vocabulary;
        let (about_subject, about_verb) = answers.split_at(self.about_subject.min(answers.len()));
        let mut used: Vec<Range<usize>> = self.color.iter().map(|(_, words)| words.clone()).collect();
        let mut unknown = Vec::new();
        let mut meant = None;
        let object = match &self.subject {
            Subject::Known(object, words) => {
                used.push(words.clone());
                *object
            }
            Subject::Asked(words) => {
                used.push(words.clone());
                let nearest = self.nearest(about_subject, words);
                match nearest.filter(|nearest| self.is_known(*nearest)) {
                    Some(known) => {
                        meant = known.motion;
                        known.object
                    }
                    None => {
                        // Something else of the prompt that can be drawn is nearer to it than what is only alike.
                        let listed = self.spans.iter().find_map(|span| match span.meaning {
                            Meaning::Object(object) => Some((object, span.words.clone())),
                            Meaning::Motion | Meaning::Other => None,
                        });
                        let object = listed.as_ref().map(|(object, _)| *object).or(nearest.map(|nearest| nearest.object))?;
                        used.extend(listed.map(|(_, words)| words));
                        unknown.push(Unknown { word: self.named(words), nearest: vocabulary.objects[object].name.clone() });
                        object
                    }
                }
            }
        };

        let color = self.color.as_ref().map(|(color, _)| *color);
        let object_words = &vocabulary.objects[object];
        let asked = self.words_of.states.as_ref().zip(about_verb.first()).and_then(|(states, state)| states.motion(object, state));
        let asked = asked.filter(|(_, cosine)| *cosine >= MOTION_COSINE);
        let motion = match (self.said_motion(object_words), asked) {
            (Some((motion, words)), _) => {
                used.push(words);
                Some(motion)
            }
            (None, Some((motion, _))) => {
                used.extend(self.verb.clone());
                Some(motion)
            }
            (None, None) => meant,
        };
        let draws = match self.choice {
            Choice::First => [0, 0],
            Choice::Seed(seed) => {
                let [motion, color, ..] = philox4x32_10([0; 4], [seed as u32, (seed >> 32) as u32]);
                [motion as usize, color as usize]
            }
        };
        let motion = motion.unwrap_or(draws[0] % object_words.motions.len().max(1));
        let motion = object_words.motions.get(motion).cloned().unwrap_or_default();
        let color = vocabulary.colors.get(color.unwrap_or(draws[1] % vocabulary.colors.len().max(1))).cloned().unwrap_or_default();
        let caption = caption(&vocabulary.template, &object_words.name, &motion, &color);
        Some(Understood { used: [object_words.name.clone(), motion, color], caption, unknown, ignored: self.ignored(&used) })
    }

    fn nearest(&self, answers: &[Vec<f32>], words: &Range<usize>) -> Option<Nearest> {
        let states = self.words_of.states.as_ref().filter(|_| !answers.is_empty())?;
        let wordings: Vec<&[f32]> = answers.iter().map(Vec::as_slice).collect();
        Some(states.nearest(&wordings, self.head(words).as_deref()))
    }

    fn is_known(&self, nearest: Nearest) -> bool {
        let known = self.words_of.vocabulary.known;
        nearest.cosine >= known.cosine && nearest.other - nearest.cosine <= known.margin
    }

    /// The motion of `object` that the prompt names in some form, and where.
    fn said_motion(&self, object: &Object) -> Option<(usize, Range<usize>)> {
        let after = match &self.subject {
            Subject::Known(_, words) => words.end,
            Subject::Asked(_) => 0,
        };
        let listed = object.motions.iter().enumerate().filter_map(|(i, motion)| {
            let letters: String = grammar::words(motion).into_iter().map(|word| word.plain).collect();
            let span = self.spans.iter().find(|span| span.letters == letters && span.words.start >= after)?;
            Some((i, span.words.clone()))
        });
        let other_form = object.motions.iter().enumerate().filter_map(|(i, motion)| {
            let words = grammar::words(motion);
            let [verb] = words.as_slice() else { return None };
            let at = (after..self.words.len()).find(|at| spelling::stem(&self.words[*at].plain) == spelling::stem(&verb.plain))?;
            Some((i, at..at + 1))
        });
        // The longest: "spinning its rotor" rather than "spinning".
        listed.max_by_key(|(i, words)| (words.len(), std::cmp::Reverse(*i))).or_else(|| other_form.min_by_key(|(_, words)| words.start))
    }

    fn text(&self, words: &Range<usize>) -> String {
        self.words[words.clone()].iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn corrected(&self, words: &Range<usize>) -> String {
        self.words[words.clone()].iter().map(Word::corrected).collect::<Vec<_>>().join(" ")
    }

    /// A phrase without its article.
    fn named(&self, words: &Range<usize>) -> String {
        let bare = self.words[words.clone()].iter().take_while(|word| word.is_determiner()).count();
        self.text(&(words.start + bare.min(words.len() - 1)..words.end))
    }

    /// The word that says what a phrase with an article is: the last that says anything, before "of".
    fn head(&self, words: &Range<usize>) -> Option<String> {
        let own = &self.words[words.clone()];
        own.first().filter(|word| word.is_determiner())?;
        let end = own.iter().position(|word| word.plain == "of").unwrap_or(own.len());
        let last = own[..end].iter().rev().find(|word| word.is_content())?;
        spelling::singulars(&last.plain).pop()
    }

    /// Words that say something and are not among those used.
    fn ignored(&self, used: &[Range<usize>]) -> Vec<String> {
        let left = self.words.iter().enumerate().filter(|(at, word)| word.is_content() && !used.iter().any(|words| words.contains(at)));
        left.map(|(_, word)| word.text.clone()).collect()
    }
}

/// A run of words that belong together.
struct Phrase {
    words: Range<usize>,
    /// Whether it begins with a verb.
    verb: bool,
    /// Whether it only says where, with what or how.
    aside: bool,
}

/// Cuts at punctuation, prepositions, conjunctions and verbs, but inside no listed phrase; `color` is none of them.
fn phrases(words_of: &Understanding, words: &[Word], spans: &[Span], color: Option<&Range<usize>>) -> Vec<Phrase> {
    let mut phrases: Vec<Phrase> = Vec::new();
    let mut open = false;
    let mut aside = false;
    for (at, word) in words.iter().enumerate() {
        let span = spans.iter().find(|span| span.words.contains(&at));
        let inside = span.is_some_and(|span| span.words.start < at);
        let listed = span.is_some();
        let verb = match span {
            Some(span) => span.meaning == Meaning::Motion && !inside,
            None => words_of.lexicon.is_verb(word),
        };
        if color.is_some_and(|color| color.contains(&at)) {
            open = false;
        } else if !listed && word.is_break() {
            (open, aside) = (false, word.is_preposition());
        } else if open && !verb {
            if let Some(phrase) = phrases.last_mut() {
                phrase.words.end = at + 1;
            }
        } else {
            phrases.push(Phrase { words: at..at + 1, verb, aside: aside && !verb });
            (open, aside) = (true, false);
        }
        if word.stop {
            (open, aside) = (false, false);
        }
    }
    phrases
}

/// What the first phrase that says anything is about.
fn subject(words: &[Word], spans: &[Span], phrases: &[Phrase]) -> Subject {
    let whole = 0..words.len();
    let says = |phrase: &&Phrase| words[phrase.words.clone()].iter().any(Word::is_content);
    let Some(first) = phrases.iter().find(says) else { return Subject::Asked(whole) };
    let content: Vec<usize> = first.words.clone().filter(|at| words[*at].is_content()).collect();
    let objects = |span: &&Span| matches!(span.meaning, Meaning::Object(_)) && first.words.contains(&span.words.start);
    // The last noun of a phrase is what the others describe; said twice, the second time may be what it does.
    let last = spans.iter().rfind(objects).filter(|span| content.last().is_some_and(|last| span.words.contains(last)));
    let named = last.and_then(|last| spans.iter().filter(objects).find(|span| span.meaning == last.meaning));
    let named = named.and_then(|span| match span.meaning {
        Meaning::Object(object) => Some((object, span.words.clone())),
        Meaning::Motion | Meaning::Other => None,
    });
    match named {
        Some((object, words)) => Subject::Known(object, words),
        None if first.verb || first.aside || content.iter().all(|at| words[*at].is_anyone() || words[*at].is_amount()) => {
            Subject::Asked(whole)
        }
        None => Subject::Asked(first.words.clone()),
    }
}

/// The words of a phrase that say what is done: the verb with its object, and a particle after it.
fn verb(words: &[Word], phrase: &Range<usize>) -> Range<usize> {
    let particle = words.get(phrase.end).is_some_and(|word| word.is_particle() && !words[phrase.end - 1].stop);
    phrase.start..phrase.end + usize::from(particle)
}

/// The background: a colour that is said to be one, or a place of about that colour.
fn color(words_of: &Understanding, words: &[Word], spans: &[Span]) -> Option<(usize, Range<usize>)> {
    const BACKGROUNDS: &[&str] = &["background", "backdrop", "wall", "screen", "sky", "bg"];
    let vocabulary = &words_of.vocabulary;
    let color_of = |word: &Word| vocabulary.colors.iter().position(|color| *color == word.plain);
    let free = |at: usize| !spans.iter().any(|span| span.words.contains(&at) && span.words.len() > 1);
    let before = |at: usize| (0..at).rev().find(|at| !words[*at].is_determiner());
    let mut colors = (0..words.len()).filter(|at| free(*at)).filter_map(|at| {
        let color = color_of(&words[at])?;
        let (last, next) = (at + 1 == words.len() || words[at].stop, words.get(at + 1));
        let alone = last && (at == 0 || words[at - 1].stop || before(at).is_some_and(|at| words[at].is_preposition()));
        match next {
            Some(next) if !words[at].stop && BACKGROUNDS.contains(&next.plain.as_str()) => Some((color, at..at + 2)),
            _ => alone.then_some((color, at..at + 1)),
        }
    });
    colors.next_back().or_else(|| {
        let mut places = vocabulary.places.iter().filter_map(|(color, places)| {
            let color = vocabulary.colors.iter().position(|known| known == color)?;
            let at = (1..words.len()).find(|at| {
                let place = |place: &String| *place == words[*at].plain || spelling::singulars(&words[*at].plain).contains(place);
                places.iter().any(place) && before(*at).is_some_and(|at| words[at].is_preposition())
            })?;
            Some((color, at..at + 1))
        });
        places.next()
    })
}

pub(super) fn article(noun: &str) -> &'static str {
    // The rule of the captions in training.
    let noun = noun.to_lowercase();
    if noun.starts_with(['a', 'e', 'i', 'o']) || noun.starts_with("hour") || noun.starts_with("umbrella") { "an" } else { "a" }
}

pub(super) fn caption(template: &str, name: &str, motion: &str, color: &str) -> String {
    let filled = template.replace("a {object}", &format!("{} {name}", article(name)));
    filled.replace("{object}", name).replace("{motion}", motion).replace("{color}", color)
}

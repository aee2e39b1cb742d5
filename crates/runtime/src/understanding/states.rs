//! Phrases of a vocabulary as points: the pooled states that the model's own text encoder gives them.

use super::Vocabulary;
use super::grammar;
use crate::error::Result;
use crate::nn::Weights;

/// How far the cosine to a motion counts less than one to a name, which says more.
const MOTION_BEHIND: f32 = 0.05;

/// What a phrase belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Name(usize),
    /// Object, which of its motions, and whether other objects do the same.
    Motion(usize, usize, bool),
    Other,
}

/// One unit vector per phrase: the names and synonyms of each object, the motions of each, then the others.
#[derive(Debug)]
pub(super) struct States {
    owners: Vec<(Owner, Head)>,
    /// `[N, D]`, row-major.
    rows: Vec<f32>,
    width: usize,
}

/// The word of a phrase that says what it is, and the others.
#[derive(Debug, Default)]
struct Head {
    /// "truck" of "fire truck", "ball" of "ball with a tail", "flapping" of "flapping its wings".
    head: String,
    rest: Vec<String>,
}

/// What a text is nearest to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Nearest {
    pub(super) object: usize,
    /// The motion that it is nearest to, if none of the object's names is nearer.
    pub(super) motion: Option<usize>,
    /// Cosine to that.
    pub(super) cosine: f32,
    /// Cosine to the nearest of what is no object.
    pub(super) other: f32,
}

impl Head {
    fn of(name: &str) -> Self {
        let words = grammar::words(name);
        let end = words.iter().position(|word| word.is_preposition() || word.plain == "of").unwrap_or(words.len());
        let at = end.saturating_sub(1);
        let mut rest: Vec<String> = words.into_iter().map(|word| word.plain).collect();
        let head = if rest.is_empty() { String::new() } else { rest.remove(at) };
        Self { head, rest }
    }

    fn of_motion(motion: &str) -> Self {
        let mut words = grammar::words(motion).into_iter().map(|word| word.plain);
        Self { head: words.next().unwrap_or_default(), rest: words.collect() }
    }
}

impl States {
    /// Takes the tensor `phrases [N, D]`.
    ///
    /// # Errors
    /// Those of [`Weights::values`], also if there are more or fewer phrases than the vocabulary has.
    pub(super) fn load(w: &Weights<'_>, vocabulary: &Vocabulary, width: usize) -> Result<Self> {
        let mut owners: Vec<(Owner, Head)> = Vec::new();
        for (i, object) in vocabulary.objects.iter().enumerate() {
            owners.extend([&object.name].into_iter().chain(&object.synonyms).map(|name| (Owner::Name(i), Head::of(name))));
        }
        for (i, object) in vocabulary.objects.iter().enumerate() {
            owners.extend(object.motions.iter().enumerate().map(|(at, motion)| {
                let shared = vocabulary.objects.iter().filter(|other| other.motions.contains(motion)).count() > 1;
                (Owner::Motion(i, at, shared), Head::of_motion(motion))
            }));
        }
        owners.extend(vocabulary.others.iter().map(|_| (Owner::Other, Head::default())));
        let rows = w.values("phrases", &[owners.len(), width])?;
        w.finish()?;
        Ok(Self { owners, rows, width })
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.rows.chunks_exact(self.width)
    }

    /// What a text about `head` is nearest to, given as a unit vector; for names in the mean of further wordings of it.
    pub(super) fn nearest(&self, wordings: &[&[f32]], head: Option<&str>) -> Nearest {
        let mut nearest = Nearest { object: 0, motion: None, cosine: -1.0, other: -1.0 };
        for ((owner, name), row) in self.owners.iter().zip(self.rows.chunks_exact(self.width)) {
            // Motions stand without an article in the table.
            let wordings = if matches!(owner, Owner::Motion(..)) { &wordings[..wordings.len().min(1)] } else { wordings };
            let cosine = wordings.iter().map(|wording| dot(wording, row)).sum::<f32>() / wordings.len().max(1) as f32;
            match *owner {
                Owner::Other => nearest.other = nearest.other.max(cosine),
                // A ladder is no ladder truck.
                _ if head.is_some_and(|head| head != name.head && name.rest.iter().any(|word| word == head)) => {}
                Owner::Name(object) if cosine > nearest.cosine => nearest = Nearest { object, motion: None, cosine, ..nearest },
                Owner::Motion(object, motion, false) if cosine - MOTION_BEHIND > nearest.cosine => {
                    nearest = Nearest { object, motion: Some(motion), cosine: cosine - MOTION_BEHIND, ..nearest };
                }
                Owner::Name(_) | Owner::Motion(..) => {}
            }
        }
        nearest
    }

    /// The motion of an object that a text is nearest to, with its cosine.
    pub(super) fn motion(&self, object: usize, text: &[f32]) -> Option<(usize, f32)> {
        let rows = self.owners.iter().zip(self.rows.chunks_exact(self.width));
        let own = rows.filter_map(|((owner, _), row)| match *owner {
            Owner::Motion(of, motion, _) if of == object => Some((motion, dot(text, row))),
            _ => None,
        });
        own.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The mean of hidden states `[L, D]`, of length 1.
pub(super) fn pooled(states: &[f32], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    for state in states.chunks_exact(width) {
        mean.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
    }
    let length = dot(&mean, &mean).sqrt().max(f32::MIN_POSITIVE);
    mean.iter_mut().for_each(|value| *value /= length);
    mean
}

//! Prompts in options become captions of the model: what the words mean to it, told and kept beside what was written.

use kinora_kernels::CancelToken;

use super::Options;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::pipeline::VideoPipeline;
use crate::understanding::{Choice, Understood, Wording};

/// Between the words used for scenes that follow each other.
const THEN: &str = "; then ";

impl Options {
    /// Puts what the prompts of several requests mean in the words of the model in their place, all in one pass of its text
    /// encoder, and tells what that is. Options with [`expand`](Self::expand) off, and all where the model has no vocabulary, stay
    /// as they are. `pictures` says of each whether images or clips come with it: what the model does not know is then left as it
    /// is written, since another object would take the place of what they show.
    ///
    /// # Errors
    /// [`Error::NoVocabulary`] if one must be expanded, [`Error::Cancelled`], [`Error::Kernels`].
    pub async fn understand(
        all: &mut [Self],
        pictures: &[bool],
        pipeline: &VideoPipeline,
        cancel: &CancelToken,
    ) -> Result<Vec<Option<Event>>> {
        if pipeline.vocabulary().is_none() {
            return match all.iter().any(|options| options.expand == Some(true)) {
                true => Err(Error::NoVocabulary { model: pipeline.manifest().name.clone() }),
                false => Ok(vec![None; all.len()]),
            };
        }
        let counts: Vec<usize> = all.iter().map(|options| options.scenes().count()).collect();
        let prompts: Vec<(&str, Choice)> = all.iter().flat_map(|options| options.scenes().map(|text| (text, options.choice()))).collect();
        let mut understood = pipeline.understand(&prompts, cancel).await?.into_iter();
        let events = all.iter_mut().zip(counts).enumerate().map(|(i, (options, count))| {
            let scenes = understood.by_ref().take(count).collect();
            options.reword(scenes, pictures.get(i).copied().unwrap_or_default())
        });
        Ok(events.collect())
    }

    /// The prompts in their order, unless they are to be taken as they are.
    fn scenes(&self) -> impl Iterator<Item = &str> {
        let scenes = self.prompt.iter().chain(self.then.iter().flatten()).map(String::as_str);
        scenes.filter(|_| self.expand != Some(false))
    }

    fn choice(&self) -> Choice {
        if self.expand == Some(true) { Choice::Seed(self.seed.unwrap_or_default()) } else { Choice::First }
    }

    fn reword(&mut self, understood: Vec<Option<Understood>>, pictures: bool) -> Option<Event> {
        let mut wording = Wording::default();
        let mut used = Vec::new();
        let before = self.clone();
        let scenes = self.prompt.iter_mut().chain(self.then.iter_mut().flatten());
        for (text, understood) in scenes.zip(understood) {
            let Some(understood) = understood else { continue };
            if understood.unknown.is_empty() || !pictures {
                used.push(understood.used());
                *text = understood.caption;
            } else {
                used.push(text.clone());
            }
            wording.unknown.extend(understood.unknown);
            wording.ignored.extend(understood.ignored);
        }
        if used.is_empty() {
            return None;
        }
        wording.used = used.join(THEN);
        self.original_prompt = before.original_prompt.or(before.prompt);
        self.original_then = before.then.filter(|then| Some(then) != self.then.as_ref());
        self.wording = Some(wording.clone());
        Some(Event::Prompt(wording))
    }
}

//! Prompts as they are written become what the model was trained with.

use kinora_kernels::CancelToken;

use super::VideoPipeline;
use super::text::Text;
use crate::error::Result;
use crate::understanding::{Choice, Reading, Understood, pooled};

impl VideoPipeline {
    /// What each prompt means in the words of the model, all in one pass of its text encoder; `None` for a prompt without
    /// words, and for all if the model has no vocabulary.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), [`Error::Kernels`](crate::Error::Kernels).
    pub async fn understand(&self, prompts: &[(&str, Choice)], cancel: &CancelToken) -> Result<Vec<Option<Understood>>> {
        let Some(understanding) = &self.understanding else { return Ok(vec![None; prompts.len()]) };
        let is_word = |word: &str| self.words.knows(word);
        let repeated: Vec<Option<Understood>> = prompts.iter().map(|(prompt, _)| understanding.repeated(prompt)).collect();
        let new = prompts.iter().zip(&repeated).map(|((prompt, choice), repeated)| match repeated {
            Some(_) => None,
            None => understanding.read(prompt, *choice, &is_word),
        });
        let readings: Vec<Option<Reading<'_>>> = new.collect();
        let texts: Vec<&str> = readings.iter().flatten().flat_map(Reading::questions).map(String::as_str).collect();
        let mut answers = self.pooled_states(&texts, cancel).await?.into_iter();
        let understood = readings.iter().zip(repeated).map(|(reading, repeated)| {
            let Some(reading) = reading else { return repeated };
            let own: Vec<Vec<f32>> = answers.by_ref().take(reading.questions().len()).collect();
            reading.understood(&own)
        });
        Ok(understood.collect())
    }

    /// The mean of the text encoder's states of each text, of length 1.
    async fn pooled_states(&self, texts: &[&str], cancel: &CancelToken) -> Result<Vec<Vec<f32>>> {
        let encode = |text: &&str| Ok(self.words.read(&self.class.text, self.manifest.max_text_tokens, text)?.ids.into());
        let ids: Vec<Text> = texts.iter().map(encode).collect::<Result<_>>()?;
        let states = self.text_states(&ids, texts, cancel).await?;
        Ok(states.iter().map(|states| pooled(states, self.texts.width())).collect())
    }
}

#[cfg(test)]
mod tests {
    use kinora_kernels::{Device, WeightFormat};

    use super::*;

    #[test]
    fn the_shipped_states_are_those_of_the_encoder() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/flipbook");
        let pipeline = VideoPipeline::load(Device::cpu(), &folder, WeightFormat::F16).expect("the shipped model loads");
        let understanding = pipeline.understanding.as_ref().expect("it has a vocabulary");
        let phrases = understanding.phrases();
        // The first and the last of the table among them, so that a shift of its rows is found.
        let some: Vec<usize> = (0..=12).map(|part| part * (phrases.len() - 1) / 12).collect();
        let texts: Vec<&str> = some.iter().map(|at| phrases[*at].0.as_str()).collect();
        let made = pollster::block_on(pipeline.pooled_states(&texts, &CancelToken::default())).expect("the encoder runs");
        for (at, made) in some.into_iter().zip(made) {
            let (text, shipped) = &phrases[at];
            let cosine: f32 = made.iter().zip(*shipped).map(|(a, b)| a * b).sum();
            assert!(cosine > 0.999, "`{text}` (row {at}): {cosine}");
        }
    }
}

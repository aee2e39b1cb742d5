//! Prompts to text states: a pipeline's text rules around its text encoder.

use std::sync::Arc;

use kinora_kernels::{Cadence, CancelToken, Device, Graph, Plan};

use super::VideoPipeline;
use crate::error::Result;
use crate::eval::text::MASKED;
use crate::events::Event;
use crate::executables::{Executables, Key};
use crate::models::family::{TextEncoder, TextPadding, TextRules};
use crate::request::GenerateRequest;

/// Tokens that are encoded for a prompt of so many.
pub(super) fn encoded_tokens(tokens: usize, rules: &TextRules, max_tokens: usize) -> usize {
    if matches!(rules.padding, TextPadding::Token(_)) { max_tokens } else { tokens }
}

/// Ids to encode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) ids: Vec<u32>,
    /// How many of them, counted from the first, the others see.
    pub(super) seen: usize,
}

impl From<Vec<u32>> for Text {
    fn from(ids: Vec<u32>) -> Self {
        Self { seen: ids.len(), ids }
    }
}

/// What is encoded for the ids of a prompt.
pub(super) fn encoded_text(mut ids: Vec<u32>, rules: &TextRules, max_tokens: usize) -> Text {
    if let TextPadding::Token(id) = rules.padding {
        ids.resize(max_tokens, id);
    }
    ids.into()
}

/// What is encoded for the ids of a negative prompt beside a prompt of so many tokens.
pub(super) fn encoded_negative(mut ids: Vec<u32>, rules: &TextRules, max_tokens: usize, prompt_tokens: usize) -> Text {
    let TextPadding::Paired(id) = rules.padding else { return encoded_text(ids, rules, max_tokens) };
    let seen = ids.len();
    ids.resize(seen.max(prompt_tokens), id);
    Text { ids, seen }
}

/// States `[T, D]` of a prompt as the denoiser sees them.
pub(super) fn padded(mut states: Vec<f32>, rules: &TextRules, max_tokens: usize, width: usize) -> Vec<f32> {
    if rules.padding == TextPadding::Zeros {
        states.resize(max_tokens * width, 0.0);
    }
    states
}

/// Rows of text that the denoiser sees for a prompt of so many tokens.
pub(super) fn padded_rows(tokens: usize, rules: &TextRules, max_tokens: usize) -> usize {
    if matches!(rules.padding, TextPadding::None | TextPadding::Paired(_)) { tokens } else { max_tokens }
}

/// The plan from `embeddings [T, D]` to `last_hidden_state [T, D]` of sequences of so many tokens, T together, of which so many are
/// seen.
///
/// # Errors
/// [`Kernels`](crate::Error::Kernels).
pub(super) fn text_plan(encoder: &dyn TextEncoder, sequences: &[[usize; 2]]) -> Result<Graph> {
    let plan = Plan::new();
    let lengths: Vec<usize> = sequences.iter().map(|[length, _]| *length).collect();
    let x = plan.input("embeddings", &[lengths.iter().sum(), encoder.width()], Cadence::Once);
    let masked = sequences.iter().any(|[length, seen]| seen < length).then(|| {
        let of = |&[length, seen]: &[usize; 2]| (0..length).map(move |at| if at < seen { 0.0 } else { MASKED });
        let mask: Vec<f32> = sequences.iter().flat_map(of).collect();
        plan.constant(&[mask.len()], &mask)
    });
    let states = plan.scope("text_encoder", || encoder.record(&plan, x, &lengths, masked));
    plan.output("last_hidden_state", states);
    Ok(plan.finish()?)
}

/// Hidden states `[T, D]` of each of several texts, all in one pass.
///
/// # Errors
/// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary, [`Kernels`](crate::Error::Kernels).
pub(super) async fn encode_ids(
    encoder: &dyn TextEncoder,
    (device, executables): (&Device, &Executables),
    texts: &[Text],
    cancel: &CancelToken,
) -> Result<Vec<Vec<f32>>> {
    let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
    let ids: Vec<u32> = texts.iter().flat_map(|text| text.ids.iter().copied()).collect();
    if ids.is_empty() {
        return Ok(vec![Vec::new(); texts.len()]);
    }
    let sequences: Vec<[usize; 2]> = texts.iter().map(|text| [text.ids.len(), text.seen]).collect();
    let mut exec = executables.take(Key::Text(sequences.clone()), device, cancel, || text_plan(encoder, &sequences))?;
    exec.write("embeddings", &encoder.embed(&ids, &lengths)?)?;
    exec.run().await?;
    let states = exec.read("last_hidden_state").await?;
    if states.iter().any(|v| !v.is_finite()) {
        exec.find_non_finite().await?;
    } else {
        executables.keep(exec);
    }
    let mut rest = states.as_slice();
    let split = lengths.iter().map(|length| {
        let (own, after) = rest.split_at(length * encoder.width());
        rest = after;
        own.to_vec()
    });
    Ok(split.collect())
}

/// What a generation follows, and what it is guided away from.
#[derive(Clone, Default)]
pub(super) struct Texts {
    /// Text states `[T, Ct]`.
    pub(super) prompt: Vec<f32>,
    pub(super) negative: Option<Vec<f32>>,
}

impl VideoPipeline {
    /// Hidden states of each text, which errors call as it is `written`. Unless all are known, all are encoded, in one pass: with some of
    /// them it would be another plan.
    pub(super) async fn text_states(&self, texts: &[Text], written: &[&str], cancel: &CancelToken) -> Result<Vec<Arc<[f32]>>> {
        if let Some(known) = texts.iter().map(|text| self.texts.find(text)).collect() {
            return Ok(known);
        }
        let new = texts.iter().position(|text| !self.texts.knows(text)).unwrap_or(0);
        let encoder = self.texts.encoder_for(written[new])?;
        let made = self.on_device(async |device: &Device| encode_ids(encoder, (device, &self.executables), texts, cancel).await).await?;
        let states: Vec<Arc<[f32]>> = made.into_iter().map(Arc::from).collect();
        texts.iter().zip(&states).for_each(|(text, states)| self.texts.keep(text.clone(), states));
        Ok(states)
    }

    /// The states of all texts that this pipeline has encoded lately or was given, as a file that stands in for the text encoder of the
    /// same model.
    ///
    /// # Errors
    /// None in practice.
    pub fn text_states_file(&self) -> Result<Vec<u8>> {
        self.texts.to_bytes(&format!("{}, {} tokens", self.class.name, self.manifest.max_text_tokens))
    }

    /// Prompt and, where it guides, negative prompt of each request, in one pass; equal texts are encoded once.
    pub(super) async fn encode_texts(
        &self,
        requests: &[&GenerateRequest],
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Texts>> {
        let (rules, max_tokens, width) = (&self.class.text, self.manifest.max_text_tokens, self.texts.width());
        let (mut distinct, mut written): (Vec<Text>, Vec<&str>) = (Vec::new(), Vec::new());
        let mut index = |text: Text, prompt| match distinct.iter().position(|known| *known == text) {
            Some(at) => at,
            None => {
                distinct.push(text);
                written.push(prompt);
                distinct.len() - 1
            }
        };
        let mut places = Vec::with_capacity(requests.len());
        for (i, request) in requests.iter().enumerate() {
            let prompt = self.words.read(rules, max_tokens, &request.prompt)?;
            let tokens = prompt.ids.len();
            on_event(i, Event::Text { tokens, truncated: prompt.truncated });
            let negative = match request.guidance.is_off() {
                true => None,
                false => {
                    let ids = self.words.read(rules, max_tokens, &request.negative)?.ids;
                    Some(index(encoded_negative(ids, rules, max_tokens, tokens), request.negative.as_str()))
                }
            };
            places.push((index(encoded_text(prompt.ids, rules, max_tokens), &request.prompt), negative));
        }
        let states = self.text_states(&distinct, &written, cancel).await?;
        let text = |at: usize| padded(states[at].to_vec(), rules, max_tokens, width);
        let texts = places.into_iter().map(|(prompt, negative)| {
            let (prompt, mut negative) = (text(prompt), negative.map(text));
            if let (TextPadding::Paired(_), Some(negative)) = (rules.padding, &mut negative) {
                negative.truncate(prompt.len());
            }
            Texts { prompt, negative }
        });
        Ok(texts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::words::Words;
    use crate::text::Tokenizer;

    fn rules(padding: TextPadding) -> TextRules {
        TextRules { max_tokens: 4, clean: str::to_owned, padding }
    }

    #[test]
    fn zeros_follow_the_states_of_a_short_prompt() {
        let states = |padding| padded(vec![1.0; 6], &rules(padding), 4, 2);
        assert_eq!(states(TextPadding::Zeros), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], "three tokens and a row of zeros");
        assert_eq!(states(TextPadding::None), [1.0; 6], "as it is");
        assert_eq!(padded_rows(3, &rules(TextPadding::None), 4), 3, "as many as tokens");
        assert_eq!(padded_rows(3, &rules(TextPadding::Zeros), 4), 4, "always all");
    }

    #[test]
    fn prompts_are_cleaned_and_filled_up_by_the_rules() {
        let json = r#"{"pre_tokenizer": {"type": "BertPreTokenizer"}, "model": {"type": "WordPiece",
            "vocab": {"[UNK]": 0, "a": 1, "fox": 2}, "unk_token": "[UNK]",
            "continuing_subword_prefix": "\#\#", "max_input_chars_per_word": 100}}"#
            .replace('\\', "");
        let words = Words::Tokens(Box::new(Tokenizer::from_json(json.as_bytes()).expect("valid")));
        let lower = TextRules { clean: str::to_lowercase, ..rules(TextPadding::Token(7)) };
        let ids = |rules: &TextRules| encoded_text(words.read(rules, 4, "A fox").expect("a text").ids, rules, 4).ids;
        assert_eq!((ids(&lower), encoded_tokens(2, &lower, 4)), (vec![1, 2, 7, 7], 4), "in lower case, and filled up");
        let plain = rules(TextPadding::None);
        let negative = |prompt_tokens| encoded_negative(vec![1, 2], &rules(TextPadding::Paired(7)), 4, prompt_tokens);
        assert_eq!(negative(4), Text { ids: vec![1, 2, 7, 7], seen: 2 }, "as long as the prompt, which sees no more than before");
        assert_eq!(negative(1), Text { ids: vec![1, 2], seen: 2 }, "cut after encoding");
        assert_eq!((ids(&plain), encoded_tokens(2, &plain, 4)), (vec![0, 2], 2), "as it is");
    }
}

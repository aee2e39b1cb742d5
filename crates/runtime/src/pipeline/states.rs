//! States of texts: what the text encoder made of a text before, or what is given in its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::text::Text;
use crate::error::{Error, Result};
use crate::models::family::TextEncoder;
use crate::weights::{Checkpoint, DType, NewTensor, Values, to_bytes_with};

/// Bytes of states that wait for their text to come again; those that are given stay besides.
const KEPT_BYTES: usize = 32 << 20;

/// A text with its states `[T, D]`.
struct Known {
    text: Text,
    states: Arc<[f32]>,
    given: bool,
}

/// The text encoder of a pipeline, which may be absent, and the states that are known without it.
pub(super) struct TextStates {
    encoder: Option<Box<dyn TextEncoder>>,
    /// Class of the encoder.
    class: String,
    width: usize,
    /// How errors call the file of given states.
    label: String,
    /// From the least to the most recently used.
    known: Mutex<Vec<Known>>,
}

impl TextStates {
    /// An encoder of this class.
    pub(super) fn of(encoder: Box<dyn TextEncoder>, class: &str) -> Self {
        let width = encoder.width();
        Self { encoder: Some(encoder), class: class.into(), width, label: String::new(), known: Mutex::default() }
    }

    /// The states in a file, of an encoder of one of `classes` that is not there.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and those of a file that holds something else.
    pub(super) fn without_encoder(file: &Checkpoint, classes: &[&str]) -> Result<Self> {
        let (class, width) = made_by(file)?;
        if !classes.contains(&class) {
            return Err(invalid(file, format!("made by a {class}, expected {}, as the model has", classes.join(" or "))));
        }
        let states = Self { encoder: None, class: class.into(), width, label: String::new(), known: Mutex::default() };
        states.with(file)
    }

    /// With the states in a file besides, which an encoder like its own has made.
    ///
    /// # Errors
    /// As [`without_encoder`](Self::without_encoder).
    pub(super) fn with(mut self, file: &Checkpoint) -> Result<Self> {
        let (class, width) = made_by(file)?;
        if (class, width) != (self.class.as_str(), self.width) {
            let expected = format!("the model's is a {} of width {}", self.class, self.width);
            return Err(invalid(file, format!("made by a {class} of width {width}, {expected}")));
        }
        let (lengths, ids, mask) = (integers(file, "lengths")?, integers(file, "ids")?, integers(file, "mask")?);
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if [ids.len() as u64, mask.len() as u64] != [total; 2] || lengths.contains(&0) {
            return Err(invalid(file, "`lengths` are not those of its `ids` and `mask`".into()));
        }
        let states = file.f32("states", &[ids.len(), width])?;
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut start = 0;
        for length in lengths {
            let end = start + length as usize;
            let seen = mask[start..end].iter().take_while(|seen| **seen == 1).count();
            if mask[start + seen..end].iter().any(|seen| *seen != 0) {
                return Err(invalid(file, "a `mask` that is not ones and then zeros".into()));
            }
            let text = Text { ids: ids[start..end].to_vec(), seen };
            known.push(Known { text, states: states[start * width..end * width].into(), given: true });
            start = end;
        }
        self.label = file.label().into();
        Ok(self)
    }

    /// Values of a state.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The encoder, if it is there.
    pub(super) fn encoder(&self) -> Option<&dyn TextEncoder> {
        self.encoder.as_deref()
    }

    /// The encoder for a text whose states are not known.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if it is not there.
    pub(super) fn encoder_for(&self, text: &str) -> Result<&dyn TextEncoder> {
        self.encoder().ok_or_else(|| Error::InvalidRequest {
            parameter: "prompt".into(),
            found: format!("`{text}`"),
            expected: format!("a text of {}, since the model is here without its text encoder ({})", self.label, self.class),
        })
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        // Every change is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the states of a text are known.
    pub(super) fn knows(&self, text: &Text) -> bool {
        text.ids.is_empty() || self.known().iter().any(|known| known.text == *text)
    }

    /// The states of a text, if they are known.
    pub(super) fn find(&self, text: &Text) -> Option<Arc<[f32]>> {
        if text.ids.is_empty() {
            return Some(Arc::from([]));
        }
        let mut known = self.known();
        let at = known.iter().position(|known| known.text == *text)?;
        let found = known.remove(at);
        let states = Arc::clone(&found.states);
        known.push(found);
        Some(states)
    }

    /// Forgets what the encoder made.
    pub(super) fn forget(&self) {
        self.known().retain(|known| known.given);
    }

    /// Keeps what the encoder made of a text.
    pub(super) fn keep(&self, text: Text, states: &Arc<[f32]>) {
        let mut known = self.known();
        if text.ids.is_empty() || known.iter().any(|known| known.text == text) {
            return;
        }
        known.push(Known { text, states: Arc::clone(states), given: false });
        let mut bytes: usize = known.iter().map(|known| if known.given { 0 } else { 4 * known.states.len() }).sum();
        while bytes > KEPT_BYTES
            && let Some(oldest) = known.iter().position(|known| !known.given)
        {
            bytes -= 4 * known.remove(oldest).states.len();
        }
    }

    /// All that is known as a file, for models without their encoder.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn to_bytes(&self, template: &str) -> Result<Vec<u8>> {
        let known = self.known();
        let (mut lengths, mut ids, mut mask, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for Known { text, states: own, .. } in known.iter() {
            lengths.push(text.ids.len() as i64);
            for (at, id) in text.ids.iter().enumerate() {
                ids.push(i64::from(*id));
                mask.push(i64::from(at < text.seen));
            }
            states.extend_from_slice(own);
        }
        let list = [lengths.len()];
        let tokens = [ids.len()];
        let tensors = [
            NewTensor { name: "lengths", shape: &list, values: Values::I64(&lengths) },
            NewTensor { name: "ids", shape: &tokens, values: Values::I64(&ids) },
            NewTensor { name: "mask", shape: &tokens, values: Values::I64(&mask) },
            NewTensor { name: "states", shape: &[ids.len(), self.width], values: Values::F32(&states) },
        ];
        to_bytes_with(&[("encoder", &self.class), ("width", &self.width.to_string()), ("template", template)], &tensors)
    }
}

fn invalid(file: &Checkpoint, problem: String) -> Error {
    Error::InvalidConfig { file: file.label().into(), problem }
}

/// Class and width of the encoder that made the states in a file.
fn made_by(file: &Checkpoint) -> Result<(&str, usize)> {
    let width = file.metadata("width").and_then(|width| width.parse().ok());
    let found = file.metadata("encoder").zip(width);
    found.ok_or_else(|| invalid(file, "its metadata names no `encoder` and `width`, so it holds no states of texts".into()))
}

/// A list of integers of 32 bits.
fn integers(file: &Checkpoint, name: &str) -> Result<Vec<u32>> {
    let tensor = file.get(name)?;
    if tensor.dtype != DType::I64 {
        return Err(Error::WrongDType { name: name.into(), expected: "I64".into(), found: tensor.dtype.to_string() });
    }
    let mut values = Vec::new();
    for bytes in tensor.bytes.as_chunks().0 {
        let value = u32::try_from(i64::from_le_bytes(*bytes));
        values.push(value.map_err(|_| invalid(file, format!("`{name}` holds numbers that are none of 32 bits")))?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use kinora_kernels::{Plan, Tensor};

    use super::*;
    use crate::eval::{Evaluation, Inputs};
    use crate::models::family::Evaluate;

    /// Says how wide it is.
    struct Encoder(usize);

    impl TextEncoder for Encoder {
        fn width(&self) -> usize {
            self.0
        }

        fn embed(&self, _: &[u32], _: &[usize]) -> Result<Vec<f32>> {
            Ok(Vec::new())
        }

        fn record<'p>(&self, _: &'p Plan, x: Tensor<'p>, _: &[usize], _: Option<Tensor<'p>>) -> Tensor<'p> {
            x
        }
    }

    impl Evaluate for Encoder {
        fn operations(&self) -> &'static [&'static str] {
            &[]
        }

        fn evaluate(&self, _: &str, _: &Inputs<'_>) -> Result<Evaluation> {
            Err(Error::Cancelled)
        }
    }

    fn text(ids: &[u32], seen: usize) -> Text {
        Text { ids: ids.to_vec(), seen }
    }

    fn file(bytes: Vec<u8>) -> Checkpoint {
        Checkpoint::from_files("states", vec![("states".into(), bytes)]).expect("safetensors")
    }

    #[test]
    fn states_come_back_from_a_file() {
        let made = TextStates::of(Box::new(Encoder(2)), "T5EncoderModel");
        made.keep(text(&[5, 1], 2), &[0.5f32, -0.25, 3.0, 1.0e-30].into());
        made.keep(text(&[5, 1], 1), &[1.0f32, 2.0, 3.0, 4.0].into());
        let bytes = made.to_bytes("T, 8 tokens").expect("plain");
        let given = TextStates::without_encoder(&file(bytes.clone()), &["T5EncoderModel"]).expect("its own");
        assert_eq!(given.find(&text(&[5, 1], 2)).expect("given")[..], [0.5, -0.25, 3.0, 1.0e-30], "to the bit");
        assert_eq!(given.find(&text(&[5, 1], 1)).expect("given")[0], 1.0, "what is masked is another text");
        assert!(given.find(&text(&[5], 1)).is_none() && given.encoder().is_none(), "no other, and nobody to make it");
        let error = given.encoder_for("a fox").err().expect("absent").to_string();
        assert!(error.contains("a fox") && error.contains("without its text encoder (T5EncoderModel)"), "{error}");
        let other = |class, width| TextStates::of(Box::new(Encoder(width)), class).with(&file(bytes.clone()));
        assert!(other("T5EncoderModel", 2).is_ok(), "beside the encoder");
        for (class, width) in [("UMT5EncoderModel", 2), ("T5EncoderModel", 4)] {
            let error = other(class, width).err().expect("another").to_string();
            assert!(error.contains("T5EncoderModel of width 2") && error.contains(&format!("{class} of width {width}")), "{error}");
        }
        assert!(TextStates::without_encoder(&file(bytes), &["BertModel"]).is_err(), "another model's");
    }

    #[test]
    fn files_of_something_else_are_refused() {
        let tensor = |name, values| NewTensor { name, shape: &[2], values: Values::I64(values) };
        let about = [("encoder", "T"), ("width", "1")];
        let read = |about: &[(&str, &str)], lengths, ids, mask| {
            let tensors = [
                tensor("lengths", lengths),
                tensor("ids", ids),
                tensor("mask", mask),
                NewTensor { name: "states", shape: &[2, 1], values: Values::F32(&[1.0, 2.0]) },
            ];
            TextStates::without_encoder(&file(to_bytes_with(about, &tensors).expect("plain")), &["T"]).map(drop)
        };
        assert!(read(&about, &[1, 1], &[3, 4], &[1, 1]).is_ok(), "two texts of a token");
        assert!(read(&[], &[1, 1], &[3, 4], &[1, 1]).is_err(), "nobody made it");
        assert!(read(&about, &[1, 2], &[3, 4], &[1, 1]).is_err(), "too few ids");
        assert!(read(&about, &[0, 2], &[3, 4], &[1, 1]).is_err(), "a text of nothing");
        assert!(read(&about, &[i64::MAX, i64::MAX], &[3, 4], &[1, 1]).is_err(), "lengths that overflow");
        assert!(read(&about, &[1, 1], &[3, -4], &[1, 1]).is_err(), "below 0");
        assert!(read(&about, &[1, 1], &[3, 1 << 40], &[1, 1]).is_err(), "beyond any vocabulary");
        assert!(read(&about, &[1, 1], &[3, 4], &[1, 2]).is_err(), "no mask");
    }

    #[test]
    fn the_oldest_states_leave_and_given_ones_stay() {
        let made = TextStates::of(Box::new(Encoder(1)), "T");
        made.keep(text(&[0], 1), &[1.0f32].into());
        let made = TextStates::of(Box::new(Encoder(1)), "T").with(&file(made.to_bytes("").expect("plain"))).expect("its own");
        let third: Arc<[f32]> = vec![0.0; KEPT_BYTES / 12].into();
        for id in 1..=3 {
            made.keep(text(&[id], 1), &third);
        }
        assert!(made.find(&text(&[1], 1)).is_some(), "used again");
        made.keep(text(&[4], 1), &third);
        let there: Vec<bool> = (0..=4).map(|id| made.knows(&text(&[id], 1))).collect();
        assert_eq!(there, [true, true, false, true, true], "given, used, oldest, and two more");
    }
}

//! The crate's one error type: what failed, what was found, what was expected; codes never change.

use std::path::PathBuf;

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong between a model folder and a finished clip.
///
/// [`code`](Self::code) is stable and meant for programs, the message for people,
/// [`hint`](Self::hint) says what to try next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of a model is absent.
    #[error("{what} not found at {}", path.display())]
    NotFound {
        /// What was looked for, e.g. `model folder`.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A weight file breaks the rules of its format or disagrees with its index.
    #[error("corrupt weight file {file}: {problem}")]
    CorruptWeights {
        /// Path or name of the file.
        file: String,
        /// The rule that is broken, with the values found.
        problem: String,
    },
    /// Weights are a Python pickle.
    #[error("{file} is a pickle, which can run any program while it is read; expected safetensors")]
    Pickle {
        /// Path or name of the file.
        file: String,
    },
    /// A JSON configuration cannot be read or holds values the model cannot have.
    #[error("invalid configuration {file}: {problem}")]
    InvalidConfig {
        /// Path or name of the file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A configuration names a class that this runtime does not implement.
    #[error("unknown class `{class}` in {file}; known are {known}")]
    UnknownClass {
        /// The class found.
        class: String,
        /// Path or name of the configuration.
        file: String,
        /// The classes that would have worked.
        known: String,
    },
    /// A tensor that the model needs is not in the file.
    #[error("tensor `{name}` is missing from {file}, which holds {count} tensors")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// Path or name of the file or folder.
        file: String,
        /// How many tensors there are.
        count: usize,
    },
    /// The file holds tensors that the configured model does not have.
    #[error("{count} tensors of {file} belong to no layer of the configured model, the first is `{first}`")]
    UnexpectedTensors {
        /// The first of them in alphabetical order.
        first: String,
        /// How many there are.
        count: usize,
        /// Path or name of the file or folder.
        file: String,
    },
    /// A tensor has another shape than the configuration implies.
    #[error("tensor `{name}` has shape {found:?}, expected {expected}")]
    WrongShape {
        /// Name of the tensor.
        name: String,
        /// The shape required, with `*` for free dimensions.
        expected: String,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A tensor has another element type than can be used.
    #[error("tensor `{name}` has dtype {found}, expected {expected}")]
    WrongDType {
        /// Name of the tensor.
        name: String,
        /// The types that would have worked.
        expected: String,
        /// The type found.
        found: String,
    },
    /// A request asks for something impossible.
    #[error("invalid {parameter}: found {found}, expected {expected}")]
    InvalidRequest {
        /// The parameter, named as in the API.
        parameter: String,
        /// The value given.
        found: String,
        /// The values allowed.
        expected: String,
    },
    /// What is given besides text contradicts itself, the clip or the model.
    #[error("invalid {parameter}: found {found}, expected {expected}")]
    InvalidConditioning {
        /// What is wrong, e.g. `overlap`.
        parameter: String,
        /// The value given.
        found: String,
        /// The values allowed.
        expected: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The model has no words to expand a prompt with.
    #[error("the model `{model}` lists no vocabulary to expand prompts with")]
    NoVocabulary {
        /// Name of the model.
        model: String,
    },
    /// A tokenizer file cannot be read or uses a feature that is not supported.
    #[error("invalid tokenizer: {problem}")]
    InvalidTokenizer {
        /// What is wrong with it.
        problem: String,
    },
    /// NaN or infinity appeared.
    #[error("{count} of {total} values are NaN or infinite in {at}")]
    NonFinite {
        /// The tensor or layer, e.g. `transformer.block3` or a weight's name.
        at: String,
        /// How many values are not finite.
        count: usize,
        /// How many values there are.
        total: usize,
    },
    /// Recording or running a plan failed.
    #[error(transparent)]
    Kernels(kinora_kernels::Error),
    /// A stage does not fit the memory that it may take.
    #[error("the {stage} needs {:.2} GB of memory, {:.2} GB are allowed", *needed as f64 / 1e9, *allowed as f64 / 1e9)]
    Memory {
        /// Which.
        stage: &'static str,
        /// Bytes it needs at least.
        needed: u64,
        /// Bytes that everything together may take.
        allowed: u64,
    },
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The operation, e.g. `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl From<kinora_kernels::Error> for Error {
    /// Cancelling is the same wherever it is noticed.
    fn from(error: kinora_kernels::Error) -> Self {
        match error {
            kinora_kernels::Error::Cancelled => Self::Cancelled,
            other => Self::Kernels(other),
        }
    }
}

impl Error {
    /// A stable kebab-case identifier of the kind of error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::CorruptWeights { .. } => "corrupt-weights",
            Self::Pickle { .. } => "pickle",
            Self::InvalidConfig { .. } => "invalid-config",
            Self::UnknownClass { .. } => "unknown-class",
            Self::MissingTensor { .. } => "missing-tensor",
            Self::UnexpectedTensors { .. } => "unexpected-tensors",
            Self::WrongShape { .. } => "wrong-shape",
            Self::WrongDType { .. } => "wrong-dtype",
            Self::InvalidRequest { .. } => "invalid-request",
            Self::InvalidConditioning { .. } => "invalid-conditioning",
            Self::NoVocabulary { .. } => "expand-failed",
            Self::InvalidTokenizer { .. } => "invalid-tokenizer",
            Self::NonFinite { .. } => "non-finite",
            Self::Kernels(error) => error.code(),
            Self::Memory { .. } => "memory",
            Self::Cancelled => "cancelled",
            Self::Io { .. } => "io",
        }
    }

    /// What the caller can do about it, where something can be done.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => {
                Some("give the folder that holds model_index.json, or a component folder with config.json and *.safetensors")
            }
            Self::CorruptWeights { .. } => Some("download the file again and compare its checksum"),
            Self::Pickle { .. } => {
                Some("look for a safetensors version, or convert it: `python tools/convert_checkpoint.py FILE` reads nothing but weights")
            }
            Self::InvalidConfig { .. } | Self::UnknownClass { .. } => {
                Some("check that the folder is a diffusers or transformers model of a supported family")
            }
            Self::MissingTensor { .. } | Self::UnexpectedTensors { .. } | Self::WrongShape { .. } => {
                Some("the weights and config.json must come from the same checkpoint")
            }
            Self::WrongDType { .. } => Some("convert the tensor, or save the checkpoint as f32, f16 or bf16"),
            Self::NoVocabulary { .. } => Some("write the whole prompt"),
            Self::InvalidTokenizer { .. } => Some("WordPiece and Unigram tokenizer.json files with BERT or T5 style steps are supported"),
            Self::NonFinite { .. } => Some("use f32 weights; if they are f32, the checkpoint itself is damaged"),
            Self::Io { .. } => Some("check that the path exists and that you may read or write it"),
            Self::Kernels(error) => error.hint(),
            Self::Memory { .. } => Some("lower the size or the number of frames, or allow more memory"),
            Self::InvalidConditioning { remedy, .. } => Some(remedy),
            Self::InvalidRequest { .. } | Self::Cancelled => None,
        }
    }

    /// An I/O error, with absence told apart from refusal.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        if source.kind() == std::io::ErrorKind::NotFound && action != "write" {
            return Self::NotFound { what: "file or folder".into(), path };
        }
        Self::Io { action, path, source }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_stopped_is_a_cancelled_generation() {
        assert!(matches!(Error::from(kinora_kernels::Error::Cancelled), Error::Cancelled), "one variant for callers to match");
    }

    #[test]
    fn absence_is_told_apart_from_refusal() {
        let missing = Error::io("read", "x", std::io::ErrorKind::NotFound.into());
        assert_eq!(missing.code(), "not-found", "a missing file to read is not an I/O fault");
        let unwritable = Error::io("write", "x", std::io::ErrorKind::NotFound.into());
        assert_eq!(unwritable.code(), "io", "a missing folder to write into is");
        assert!(unwritable.to_string().contains("cannot write x"), "the message names action and path");
    }
}

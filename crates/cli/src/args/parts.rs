//! Arguments for single files of a model: parts that replace those of a folder or make up a model, and adaptations.

use std::path::PathBuf;

use clap::Args;

use super::MODEL;

/// Files beside or instead of a model folder.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PartsArgs {
    /// Weights of the diffusion transformer: safetensors or GGUF, in the names of diffusers, ComfyUI or the authors
    #[arg(help_heading = MODEL, long, value_name = "FILE")]
    pub(crate) transformer: Option<PathBuf>,
    /// Weights of the video autoencoder
    #[arg(help_heading = MODEL, long, value_name = "FILE")]
    pub(crate) vae: Option<PathBuf>,
    /// Decode with another autoencoder of the same latents, previews too: a TAEHV's folder or file, or `tiny` for the one in `taehv`
    /// beside the model's parts
    #[arg(help_heading = MODEL, long, value_name = "DIR|FILE|tiny")]
    pub(crate) decoder: Option<PathBuf>,
    /// Weights of the text encoder
    #[arg(help_heading = MODEL, long, value_name = "FILE")]
    pub(crate) text_encoder: Option<PathBuf>,
    /// The text encoder's tokenizer.json [default: the one beside its weights, or in them]
    #[arg(help_heading = MODEL, long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// States of prompts that --text-states-out wrote: those prompts need no text encoder, which may then be absent
    #[arg(help_heading = MODEL, long, value_name = "FILE")]
    pub(crate) text_states: Option<PathBuf>,
    /// Adapt the model by a LoRA, several times for several; alpha is for files that lack it
    #[arg(help_heading = MODEL, long, value_name = "FILE[:STRENGTH[:ALPHA]]", value_parser = parse_lora)]
    pub(crate) lora: Vec<LoraArg>,
}

/// A file, how much of it, and its alpha.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoraArg {
    pub(crate) file: PathBuf,
    pub(crate) strength: f32,
    pub(crate) alpha: Option<f32>,
}

/// Only numbers at the end count, so that a path may have colons.
fn parse_lora(text: &str) -> Result<LoraArg, String> {
    let number = |text: &str| text.parse::<f32>().ok().filter(|number| number.is_finite());
    let split = |text: &'_ str| text.rsplit_once(':').and_then(|(rest, last)| Some((rest.to_owned(), number(last)?)));
    let (file, strength, alpha) = match split(text) {
        None => (text.to_owned(), 1.0, None),
        Some((rest, last)) => match split(&rest) {
            None => (rest, last, None),
            Some((file, strength)) => (file, strength, Some(last)),
        },
    };
    let usable = !file.is_empty() && alpha.is_none_or(|alpha| alpha > 0.0);
    let wrong = || format!("`{text}` is not a file with a strength and an alpha above 0, like style.safetensors:0.8");
    if usable { Ok(LoraArg { file: file.into(), strength, alpha }) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_at_the_end_are_no_path() {
        let parsed = |text: &str| parse_lora(text).map(|lora| (lora.file.display().to_string(), lora.strength, lora.alpha));
        assert_eq!(parsed("a.safetensors"), Ok(("a.safetensors".into(), 1.0, None)));
        assert_eq!(parsed(r"C:\loras\a.safetensors"), Ok((r"C:\loras\a.safetensors".into(), 1.0, None)));
        assert_eq!(parsed(r"C:\loras\a.safetensors:-0.5"), Ok((r"C:\loras\a.safetensors".into(), -0.5, None)));
        assert_eq!(parsed("b:c.gguf:0.8:8"), Ok(("b:c.gguf".into(), 0.8, Some(8.0))));
        assert_eq!(parsed("1:2:3:4"), Ok(("1:2".into(), 3.0, Some(4.0))), "at most two");
        for wrong in ["", ":1", "a:1:0", "a:1:-2"] {
            assert!(parse_lora(wrong).is_err(), "`{wrong}` was accepted");
        }
        assert_eq!(parsed("a:nan"), Ok(("a:nan".into(), 1.0, None)), "no number");
    }
}

//! Prompt expansion on the command line: the model's vocabulary, a program of the user's, or a language model.

mod endpoint;

use std::{env, path::Path, process::Command, time::Duration};

use kinora_media::child::{self, Limits, Whole};
use kinora_runtime::understanding::{Vocabulary, expansion_task};

use crate::{
    args::GenerateArgs,
    failure::{Exit, Failure},
    models,
};

/// More than any text encoder reads.
const MAX_CHARS: usize = 10_000;
/// A program that writes more than so many characters of any length does not write a prompt.
const MAX_BYTES: u64 = 4 * MAX_CHARS as u64;
/// How long a program may be silent, and the variable that says otherwise.
const DEFAULT_SECONDS: u64 = 5;
const SECONDS: &str = "KINORA_EXPAND_SECONDS";

/// A prompt as others wrote it, without the space around it.
fn tidy(text: &str) -> String {
    text.trim().chars().take(MAX_CHARS).collect()
}

/// The prompt that another writes, if one of the flags asks for that. What the model's vocabulary adds it adds when it is loaded.
pub(crate) fn expand(args: &GenerateArgs, prompt: &str, seed: u64, folder: &Path) -> Result<Option<String>, Failure> {
    if let Some(program) = &args.expand_with {
        return run(program, prompt, seed).map(Some);
    }
    if !args.expand && args.expand_at.is_none() {
        return Ok(None);
    }
    let words = models::vocabulary(folder)?;
    let vocabulary = words.map(|words| Vocabulary::parse(&words.to_string(), "vocabulary")).transpose()?;
    if let (Some(url), Some(model)) = (&args.expand_at, &args.expand_model) {
        return endpoint::ask(url, model, prompt, seed, &expansion_task(vocabulary.as_ref())).map(Some);
    }
    vocabulary.map(|_| None).ok_or_else(|| {
        let message = format!("the model in `{}` lists no vocabulary to expand prompts with", folder.display());
        Failure::new(Exit::Usage, "expand-failed", message).hint("give --expand-with PROGRAM, or write a longer prompt")
    })
}

/// The prompt goes through standard input, so that nothing in it is read as a command.
fn run(program: &Path, prompt: &str, seed: u64) -> Result<String, Failure> {
    let failed = |problem: String| {
        let message = format!("`{}` cannot expand the prompt: {problem}", program.display());
        Failure::new(Exit::Usage, "expand-failed", message).hint(format!(
            "it must read the prompt from standard input and write the new one; {SECONDS} sets how many seconds it may be silent"
        ))
    };
    let seconds = match env::var(SECONDS) {
        Ok(text) => text.parse().map_err(|_| failed(format!("{SECONDS} is `{text}`, expected whole seconds")))?,
        Err(_) => DEFAULT_SECONDS,
    };
    let limits = Limits { silence: Duration::from_secs(seconds), output_bytes: MAX_BYTES };
    let mut talk = Whole { input: Some(prompt.as_bytes().to_vec()), output: Vec::new() };
    let mut command = Command::new(program);
    let ended =
        child::run(command.env("KINORA_SEED", seed.to_string()), limits, &mut talk).map_err(|problem| failed(problem.to_string()))?;
    let text = String::from_utf8(talk.output).map_err(|_| failed("it wrote no UTF-8".into()))?;
    let text = tidy(&text);
    match ended.is_success() && !text.is_empty() {
        true => Ok(text),
        false => {
            let status = ended.status.map(|status| status.to_string()).unwrap_or_default();
            Err(failed(format!("it ended with {status} and {} characters; its last words: {}", text.chars().count(), ended.last_message())))
        }
    }
}

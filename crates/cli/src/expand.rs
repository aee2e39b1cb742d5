//! Prompt expansion on the command line: the model's vocabulary, a program of the user's, or a language model.

mod endpoint;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use kinora_runtime::text::{Vocabulary, expansion_task};

use crate::{
    args::GenerateArgs,
    failure::{Exit, Failure},
    models,
};

/// More than any text encoder reads; a program that writes without end is cut here.
const MAX_CHARS: usize = 10_000;

/// A prompt as others wrote it, without the space around it.
fn tidy(text: &str) -> String {
    text.trim().chars().take(MAX_CHARS).collect()
}

/// The prompt to generate from, if one of the flags asks for another than was given.
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
    let vocabulary = vocabulary.ok_or_else(|| {
        let message = format!("the model in `{}` lists no vocabulary to expand prompts with", folder.display());
        Failure::new(Exit::Usage, "expand-failed", message).hint("give --expand-with PROGRAM, or write a longer prompt")
    })?;
    Ok(Some(vocabulary.expand(prompt, seed)))
}

/// The prompt goes through standard input, so that nothing in it is read as a command.
fn run(program: &Path, prompt: &str, seed: u64) -> Result<String, Failure> {
    let failed = |problem: String| {
        let message = format!("`{}` cannot expand the prompt: {problem}", program.display());
        Failure::new(Exit::Usage, "expand-failed", message).hint("it must read the prompt from standard input and write the new one")
    };
    let mut child = Command::new(program)
        .env("KINORA_SEED", seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may be right all the same.
        let _ = stdin.write_all(prompt.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(output.stdout).map_err(|_| failed("it wrote no UTF-8".into()))?;
    let text = tidy(&text);
    match output.status.success() && !text.is_empty() {
        true => Ok(text),
        false => Err(failed(format!("it ended with {} and {} characters", output.status, text.chars().count()))),
    }
}

//! Why a command ended, and the exit code that says so.

use std::{fmt, io::Write};

use serde_json::{Value, json};

/// The documented exit codes other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Internal = 1,
    Usage = 2,
    NoGpu = 3,
    Model = 4,
    Memory = 5,
    Output = 6,
    Interrupted = 130,
}

/// A failed command: what happened, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable name for scripts, kebab-case.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Text of others, from model files or programs, without what would move the cursor or change the terminal: such characters are
/// shown as their codes.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// Characters of a word that are shown; of longer ones, which come from hostile files and broken programs, the beginning and the end.
const WORD_CHARS: usize = 400;

/// A message without endless words.
fn shortened(message: &str) -> String {
    let word = |word: &str| {
        let count = word.chars().count();
        if count <= WORD_CHARS {
            return word.to_owned();
        }
        let part = |from: usize, to: usize| word.chars().skip(from).take(to - from).collect::<String>();
        format!("{}…{}", part(0, WORD_CHARS / 2), part(count - WORD_CHARS / 4, count))
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &'static str, message: impl fmt::Display) -> Self {
        Self { exit, code, message: shortened(&message.to_string()), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted; nothing unfinished was left behind")
    }

    /// Of a job that was taken back.
    pub(crate) fn cancelled() -> Self {
        Self::new(Exit::Interrupted, "cancelled", "cancelled by a line")
    }

    /// Writes `error[code]: message` and the hint to standard error.
    pub(crate) fn print(&self, colored: bool) {
        let (red, cyan, plain) = if colored { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let mut stderr = std::io::stderr().lock();
        // If standard error is closed there is nobody left to tell.
        let _ = writeln!(stderr, "{red}error[{}]{plain}: {}", self.code, printable(&self.message));
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, "  {cyan}hint{plain}: {}", printable(hint));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint, "exit": self.exit as u8 } })
    }
}

impl From<kinora_media::Error> for Failure {
    fn from(error: kinora_media::Error) -> Self {
        let exit = match error.code() {
            "interrupted" => return Self::interrupted(),
            "unknown-format" | "needs-file" | "unknown-input" | "input-unreadable" | "input-too-large" | "input-failed"
            | "not-an-image" => Exit::Usage,
            "bad-clip" => Exit::Internal,
            _ => Exit::Output,
        };
        let failure = Self::new(exit, error.code(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_words_are_shortened() {
        let failure = Failure::new(Exit::Model, "x", format!("unknown `{}`; expected this", "é".repeat(100_000)));
        assert!(failure.message.chars().count() < WORD_CHARS && failure.message.ends_with("é`; expected this"), "{}", failure.message);
    }

    #[test]
    fn control_characters_are_shown_as_their_codes() {
        assert_eq!(printable("a\u{1b}[2J\u{7}\u{9b}é\n\tb\r"), "a\\u{1b}[2J\\u{7}\\u{9b}é\n\tb\\r");
    }
}

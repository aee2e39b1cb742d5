//! Running other programs: checked, timed, or with their output read along.

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

/// A task that did not succeed, and the code to exit with.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) message: String,
    pub(crate) exit: u8,
}

impl<T: Into<String>> From<T> for Failed {
    fn from(message: T) -> Self {
        Self { message: message.into(), exit: 1 }
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failed>;

/// The workspace's root folder.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// The cargo that runs this task, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| format!("{} does not start: {error}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", line(command)).into()) }
}

/// Runs a command and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{} does not start: {error}", line(command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", line(command), output.status).into());
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", line(command)).into())
}

/// True if a program exists and `arguments` succeed, in silence.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command, passes on what it writes and adds up the test counts in it.
pub(crate) fn count_tests(command: &mut Command) -> Outcome<Counts> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", line(command)))?;
    let stdout = child.stdout.take().map(|stream| thread::spawn(move || pass_on(stream, &mut std::io::stdout())));
    let stderr = child.stderr.take().map(|stream| thread::spawn(move || pass_on(stream, &mut std::io::stderr())));
    let status = child.wait().map_err(|error| error.to_string())?;
    let counts = [stdout, stderr].into_iter().flatten().filter_map(|thread| thread.join().ok());
    let mut counts = counts.fold(Counts::default(), Counts::plus);
    // A runner that broke before it counted must not look like a success.
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

fn pass_on(stream: impl Read, out: &mut dyn Write) -> Counts {
    let mut counts = Counts::default();
    for text in BufReader::new(stream).lines().map_while(Result::ok) {
        counts = counts.plus(Counts::in_line(&text).unwrap_or_default());
        let _ = writeln!(out, "{text}");
    }
    counts
}

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// Prints the totals; a failed test fails the task.
    pub(crate) fn verdict(self) -> Outcome {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { Ok(()) } else { Err("tests failed".into()) }
    }

    /// The counts in a closing line of cargo test, cargo nextest or node's test runner.
    fn in_line(text: &str) -> Option<Self> {
        let number = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.trim().parse().ok());
        if let Some(passed) = number("ℹ pass ") {
            return Some(Self { passed, failed: 0 });
        }
        if let Some(failed) = number("ℹ fail ") {
            return Some(Self { passed: 0, failed });
        }
        if !text.starts_with("test result:") && !text.trim_start().starts_with("Summary [") {
            return None;
        }
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let before = |name: &str| words.windows(2).find(|pair| pair[1] == name).and_then(|pair| pair[0].parse().ok());
        Some(Self { passed: before("passed").unwrap_or(0), failed: before("failed").unwrap_or(0) })
    }
}

/// Prints a heading, runs a step and prints how long it took.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    println!("\n── {title}");
    let begun = Instant::now();
    let result = work();
    println!("── {title}: {:.0} s", begun.elapsed().as_secs_f64());
    result
}

fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    format!("`{}`", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_all_runners() {
        for (text, expected) in [
            ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s", Some((12, 0))),
            ("test result: FAILED. 7 passed; 2 failed; 0 ignored", Some((7, 2))),
            ("     Summary [   3.021s] 30 tests run: 29 passed (2 slow), 1 failed, 4 skipped", Some((29, 1))),
            ("     Summary [   0.010s] 3 tests run: 3 passed, 0 skipped", Some((3, 0))),
            ("ℹ pass 9", Some((9, 0))),
            ("ℹ fail 2", Some((0, 2))),
            ("ℹ tests 11", None),
            ("test a_name_with_5 passed ... ok", None),
        ] {
            assert_eq!(Counts::in_line(text), expected.map(|(passed, failed)| Counts { passed, failed }), "{text}");
        }
    }

    #[test]
    fn a_runner_that_breaks_counts_as_a_failure() {
        let counts = count_tests(&mut cargo(&["no-such-subcommand"])).map_err(|failed| failed.message);
        assert_eq!(counts, Ok(Counts { passed: 0, failed: 1 }));
    }
}

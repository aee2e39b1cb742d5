//! The `kinora` command: reads arguments, runs one subcommand, prints its result and exits with a
//! documented code. Standard output carries only the result; everything else goes to standard error.

mod args;
mod batch;
mod bench;
mod convert;
mod doctor;
mod expand;
mod failure;
mod generate;
mod given;
mod hub;
mod interrupt;
mod lines;
mod maker;
mod manifest;
mod models;
mod names;
mod options;
mod parts;
mod plan;
mod progress;
mod run;
mod saved_kernels;
mod show;
mod storyboard;
mod worker;
mod writers;

use std::{
    ffi::{OsStr, OsString},
    io::{IsTerminal as _, Write as _},
    panic,
    path::Path,
    process::{self, ExitCode},
};

use clap::Parser as _;
use serde_json::{Value, json};

use crate::{
    args::{Cli, ColorChoice, Command, ConsoleArgs, ModelsCommand},
    failure::{Exit, Failure},
};

/// What a subcommand found out, for both kinds of readers.
struct Report {
    text: OsString,
    /// Null where every result was told when it was there.
    json: Value,
    /// What went wrong beside what was done.
    failure: Option<Failure>,
}

impl Report {
    /// All went well.
    fn new(text: impl Into<OsString>, json: Value) -> Self {
        Self { text: text.into(), json, failure: None }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before there is another thread.
    kinora_media::survive_file_limits();
    interrupt::install();
    let console = &cli.console;
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| run_command(&cli.command, console)))
        .unwrap_or_else(|_| Err(Failure::new(Exit::Internal, "internal", "this is a bug; please report it with the text above")));
    let (failure, told) = match outcome {
        Ok(report) => match (print(&report, console), report.failure) {
            (Ok(()), None) => return ExitCode::SUCCESS,
            (Ok(()), Some(failure)) => (failure, true),
            (Err(failure), _) => (failure, false),
        },
        Err(failure) => (failure, false),
    };
    failure.print(colored(console));
    if console.json && !told {
        // The failure that counts is already known; a closed standard output changes nothing.
        let _ = writeln!(std::io::stdout(), "{}", failure.to_json());
    }
    ExitCode::from(failure.exit as u8)
}

fn run_command(command: &Command, console: &ConsoleArgs) -> Result<Report, Failure> {
    match command {
        Command::Generate(args) => generate::generate(args, console),
        Command::Plan(args) => plan::plan(args, console),
        Command::Storyboard(args) => storyboard::storyboard(args, console),
        Command::Eval(args) => {
            let json = run::eval(args)?;
            Ok(Report::new(args.outputs.as_os_str(), json))
        }
        Command::Convert(args) => convert::convert(args),
        Command::Models(ModelsCommand::List) => Ok(list_models()),
        Command::Models(ModelsCommand::Pull(args)) => hub::pull(args, console),
        Command::Models(ModelsCommand::Verify { model }) => match models::place(model) {
            Some(place) => manifest::verify(&place),
            None => hub::verify(model),
        },
        Command::Models(ModelsCommand::Manifest { folder, overwrite }) => manifest::write(folder, *overwrite),
        Command::Models(ModelsCommand::Rm { model }) => hub::remove(model),
        Command::Models(ModelsCommand::Info { model }) => {
            let json = models::describe(&models::find(model)?)?;
            Ok(Report::new(failure::printable(&models::text(&json)), json))
        }
        Command::Doctor => doctor::doctor(),
        Command::Bench(args) => bench::bench(args),
        Command::Serve { words } => serve(words),
    }
}

/// Becomes the server, a program of its own: who makes one clip compiles nothing of it.
fn serve(words: &[OsString]) -> Result<Report, Failure> {
    let name = format!("kinora-serve{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(&name)).filter(|path| path.is_file());
    let program = beside.unwrap_or_else(|| name.into());
    let mut command = process::Command::new(&program);
    command.args(words);
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    #[cfg(not(unix))]
    let error = match command.status() {
        Ok(status) => process::exit(status.code().unwrap_or(Exit::Internal as i32)),
        Err(error) => error,
    };
    let message = format!("`{}` does not start: {error}", program.display());
    Err(Failure::new(Exit::Usage, "no-server", message).hint("cargo build --release -p kinora-serve makes it; put it beside kinora"))
}

fn list_models() -> Report {
    let models = models::list();
    let lines: Vec<_> = models.iter().map(|(name, path)| format!("{name}\t{}", path.display())).collect();
    Report::new(lines.join("\n"), models.iter().map(|(name, path)| named(name, path)).collect())
}

/// A model as JSON; a path that is no Unicode is shown as such.
fn named(name: &str, path: &Path) -> Value {
    json!({ "name": name, "path": path.display().to_string() })
}

fn print(report: &Report, console: &ConsoleArgs) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    let written = match console.json {
        true if report.json.is_null() => Ok(()),
        true => {
            let mut json = report.json.clone();
            // The same key as that of a command that failed altogether.
            if let Some(failure) = &report.failure {
                json["error"] = failure.to_json()["error"].take();
            }
            writeln!(stdout, "{json}")
        }
        false if report.text.is_empty() => Ok(()),
        false => stdout.write_all(&printed(&report.text)).and_then(|()| writeln!(stdout)),
    };
    match written.and_then(|()| stdout.flush()) {
        // `kinora … | head` closed the pipe on purpose.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Output, "output-failed", format!("cannot write the result: {error}"))),
    }
}

/// Names of files as their bytes are, where files have names of bytes.
pub(crate) fn printed(text: &OsStr) -> Vec<u8> {
    if cfg!(unix) { text.as_encoded_bytes().to_vec() } else { text.to_string_lossy().into_owned().into_bytes() }
}

/// Colours on standard error, by --color, then `NO_COLOR`, `CLICOLOR_FORCE` and the terminal.
fn colored(console: &ConsoleArgs) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match console.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            !set("NO_COLOR")
                && (set("CLICOLOR_FORCE") || (std::io::stderr().is_terminal() && std::env::var_os("CLICOLOR").is_none_or(|v| v != "0")))
        }
    }
}

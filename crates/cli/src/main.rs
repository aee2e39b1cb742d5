//! The `kinora` command: reads arguments, runs one subcommand, prints its result and exits with a
//! documented code. Standard output carries only the result; everything else goes to standard error.

mod args;
mod batch;
mod bench;
mod doctor;
mod expand;
mod failure;
mod generate;
mod given;
mod interrupt;
mod models;
mod progress;
mod run;

use std::{
    io::{IsTerminal as _, Write as _},
    panic,
    process::ExitCode,
};

use clap::Parser as _;
use serde_json::{Value, json};

use crate::{
    args::{Cli, ColorChoice, Command, ConsoleArgs, ModelsCommand},
    failure::{Exit, Failure},
};

/// What a subcommand found out, for both kinds of readers.
struct Report {
    text: String,
    json: Value,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::install();
    let console = &cli.console;
    let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| run_command(&cli.command, console)))
        .unwrap_or_else(|_| Err(Failure::new(Exit::Internal, "internal", "this is a bug; please report it with the text above")));
    let failure = match outcome.and_then(|report| print(&report, console)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    failure.print(colored(console));
    if console.json {
        // The failure that counts is already known; a closed standard output changes nothing.
        let _ = writeln!(std::io::stdout(), "{}", failure.to_json());
    }
    ExitCode::from(failure.exit as u8)
}

fn run_command(command: &Command, console: &ConsoleArgs) -> Result<Report, Failure> {
    match command {
        Command::Generate(args) => generate::generate(args, console),
        Command::Eval(args) => {
            let json = run::eval(args)?;
            Ok(Report { text: args.outputs.display().to_string(), json })
        }
        Command::Models(ModelsCommand::List) => Ok(list_models()),
        Command::Models(ModelsCommand::Info { model }) => {
            let json = models::describe(&models::find(model)?)?;
            Ok(Report { text: models::text(&json), json })
        }
        Command::Doctor => doctor::doctor(),
        Command::Bench(args) => bench::bench(args),
    }
}

fn list_models() -> Report {
    let models = models::list();
    let lines: Vec<_> = models.iter().map(|(name, path)| format!("{name}\t{}", path.display())).collect();
    let json = models.iter().map(|(name, path)| json!({ "name": name, "path": path })).collect();
    Report { text: lines.join("\n"), json }
}

fn print(report: &Report, console: &ConsoleArgs) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    let written = match console.json {
        true => writeln!(stdout, "{}", report.json),
        false if report.text.is_empty() => Ok(()),
        false => writeln!(stdout, "{}", report.text),
    };
    match written.and_then(|()| stdout.flush()) {
        // `kinora … | head` closed the pipe on purpose.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::new(Exit::Output, "output-failed", format!("cannot write the result: {error}"))),
    }
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

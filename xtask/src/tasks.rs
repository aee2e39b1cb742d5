//! The tasks that make something: a clip, measurements, fixtures.

use std::{env, path::PathBuf, process::Command};

use crate::{
    setup,
    shell::{Failed, Outcome, cargo, output, root, run},
};

/// Sets up, builds and runs `kinora generate`; its exit code is the task's.
pub(crate) fn generate(arguments: &[String]) -> Outcome {
    // The CPU executor needs no driver.
    let executor = arguments.iter().position(|argument| argument == "--executor").and_then(|at| arguments.get(at + 1));
    if executor.is_none_or(|executor| executor != "cpu") && !arguments.contains(&"--executor=cpu".to_owned()) {
        setup::ensure_adapter()?;
    }
    // What asks for another size or model, or computes on the processor, takes longer anyway: then everything is optimised, and there is
    // AV1.
    let larger = ["--size", "--model", "--batch", "--executor"];
    let is_larger = arguments.iter().any(|argument| larger.contains(&argument.split('=').next().unwrap_or_default()));
    kinora("generate", arguments, if is_larger { Build::Release } else { Build::First })
}

/// How the command is built.
#[derive(Clone, Copy)]
enum Build {
    /// Soon there, for one small clip.
    First,
    /// Fast, and whole.
    Release,
}

impl Build {
    /// Arguments of cargo, and the folder in the target folder.
    fn arguments(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::First => (&["--profile", "first", "--no-default-features"], "first"),
            Self::Release => (&["--release"], "release"),
        }
    }
}

/// Sets up, builds and runs `kinora bench`.
pub(crate) fn bench(arguments: &[String]) -> Outcome {
    setup::ensure_adapter()?;
    kinora("bench", arguments, Build::Release)
}

/// Where cargo builds the workspace.
pub(crate) fn target_folder() -> Outcome<PathBuf> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    Ok(PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target")))
}

/// Builds the command and runs it in the caller's folder.
fn kinora(subcommand: &str, arguments: &[String], build: Build) -> Outcome {
    let (options, folder) = build.arguments();
    run(cargo(&["build", "--quiet", "--package", "kinora"]).args(options))?;
    let program = target_folder()?.join(folder).join(format!("kinora{}", env::consts::EXE_SUFFIX));
    let status = quiet_vulkan(Command::new(&program).arg(subcommand).args(arguments)).status();
    let status = status.map_err(|error| format!("{} does not start: {error}", program.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failed { message: String::new(), exit: u8::try_from(code).unwrap_or(1) }),
        None => Err(format!("{} ended with {status}", program.display()).into()),
    }
}

/// Without a desktop session Mesa's device-select layer complains on standard error; nothing here needs it.
pub(crate) fn quiet_vulkan(command: &mut Command) -> &mut Command {
    command.env("NODEVICE_SELECT", "1")
}

/// Runs the fixture scripts in a Python environment of their own.
pub(crate) fn golden(parts: &[String]) -> Outcome {
    let folder = root().join("tests/golden");
    let python = folder.join(".venv/bin/python");
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv", ".venv"]).current_dir(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r", "requirements.txt"]).current_dir(&folder))?;
    }
    run(Command::new(&python).arg("generate.py").args(parts).current_dir(&folder))?;
    run(Command::new(&python).arg("check.py").current_dir(&folder))
}

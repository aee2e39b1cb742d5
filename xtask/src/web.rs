//! `cargo xtask web`: the npm package `kinora` in web/dist, and its tests in a real browser.

use std::{env, path::Path, process::Command};

use crate::{
    rules,
    setup::{self, SWIFTSHADER},
    shell::{Counts, Outcome, cargo, count_tests, output, root, run, step, works},
};

const TARGET: &str = "wasm32-unknown-unknown";

/// What the tests multiply their bars for time by; 1 on a quiet machine, see CONTRIBUTING.md.
const SLOWNESS: &str = "KINORA_TEST_SLOWNESS";

/// Machines that run tests also do other work: a figure is printed either way, and fails when it is out of all proportion.
const SHARED_MACHINE: &str = "4";

/// Builds the package and prints and caps its sizes.
pub(crate) fn build() -> Outcome {
    ensure_target()?;
    ensure_packages()?;
    wasm("kinora-wasm", "src/wasm")?;
    step("package", || run(&mut node(&["scripts/build.mjs"])))?;
    step("package sizes", || run(&mut node(&["scripts/sizes.mjs"])))
}

/// Builds a crate as WASM with its JavaScript glue into a folder of `web/`.
fn wasm(package: &str, folder: &str) -> Outcome {
    step("WASM", || run(&mut cargo(&["build", "--target", TARGET, "--profile", "wasm", "--package", package, "--locked"])))?;
    let metadata = rules::metadata()?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    let module = format!("{target}/{TARGET}/wasm/{}.wasm", package.replace('-', "_"));
    // No wasm-opt: it makes the module 5 % smaller and what is transferred, compressed, 3 % larger.
    step("JavaScript glue", || {
        run(cargo(&["run", "--quiet", "--package", "kinora-bindgen", "--locked", "--", &module]).arg(web().join(folder)))
    })
}

/// The lints of what only browsers run.
pub(crate) fn clippy() -> Outcome {
    ensure_target()?;
    let crates =
        ["--package", "kinora-kernels", "--package", "kinora-runtime", "--package", "kinora-wasm", "--package", "kinora-browser-tests"];
    let arguments = [&["clippy", "--quiet", "--target", TARGET, "--no-deps", "--locked"], crates.as_slice(), &["--", "-D", "warnings"]];
    run(&mut cargo(&arguments.concat()))
}

/// Builds the package and runs its tests in headless Chromium on SwiftShader.
pub(crate) fn test() -> Outcome<Counts> {
    build()?;
    wasm("kinora-browser-tests", "test/wasm")?;
    // Comes with Chromium, so that this installs both; other systems bring their own browser and adapter.
    let manifest = if cfg!(target_os = "linux") { Some(SWIFTSHADER.manifest()?) } else { None };
    // Frames of the page are compared with those of the command on the same adapter.
    step("the command, to compare with", || run(&mut cargo(&["build", "--quiet", "--package", "kinora", "--locked"])))?;
    let metadata = rules::metadata()?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    step("tests in the browser", || {
        // One file after another: each has a browser, and the timings are bars.
        let mut tests = node(&["--test", "--test-reporter=spec", "--test-concurrency=1"]);
        tests.args(test_files()?);
        tests.env("KINORA_BIN", Path::new(target).join(format!("debug/kinora{}", env::consts::EXE_SUFFIX)));
        if env::var_os(SLOWNESS).is_none() {
            tests.env(SLOWNESS, SHARED_MACHINE);
        }
        if let Some(manifest) = &manifest {
            tests.env("VK_ICD_FILENAMES", manifest).env("VK_DRIVER_FILES", manifest);
        }
        count_tests(&mut tests)
    })
}

fn test_files() -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(web().join("test")).map_err(|error| format!("web/test: {error}"))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".test.mjs")).map(|name| format!("test/{name}")).collect();
    files.sort();
    Ok(files)
}

fn web() -> std::path::PathBuf {
    root().join("web")
}

/// Node with a script of web/.
pub(crate) fn node(arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.args(arguments).current_dir(web());
    command
}

fn ensure_target() -> Outcome {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).current_dir(root()))?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(root()))
}

/// Node, and the packages of the lock file if they are not installed yet.
fn ensure_packages() -> Outcome {
    for program in ["node", "npm"] {
        if !works(program, &["--version"]) {
            setup::install(&["nodejs", "npm"])?;
        }
    }
    let lock = web().join("package-lock.json");
    let installed = web().join("node_modules/.package-lock.json");
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if changed(&installed).is_some_and(|installed| changed(&lock).is_some_and(|lock| lock <= installed)) {
        return Ok(());
    }
    step("npm packages", || run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(web())))
}

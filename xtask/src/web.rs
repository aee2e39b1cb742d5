//! `cargo xtask web`: the npm package `kinora` in web/dist, and its tests in a real browser.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

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
    let modules = step("WASM", || {
        // Linking takes one core, so that what writes the glue is built beside it.
        let program = thread::spawn(build_bindgen);
        // Two builds of one crate, ADR 0020; they share all but the last two steps.
        let modules = [wasm("core", "kinora-wasm", &[])?, wasm("families", "kinora-wasm", &["--features", "families"])?];
        program.join().map_err(|_| "building kinora-bindgen broke")??;
        Ok(modules)
    })?;
    step("glue", || glue("src/wasm", &modules))?;
    step("package", || run(&mut node(&["scripts/build.mjs"])))?;
    step("package sizes", || run(&mut node(&["scripts/sizes.mjs"])))
}

/// A module: what the package calls it, and where it is.
type Module = (&'static str, PathBuf);

/// Builds a crate as WASM.
fn wasm(name: &'static str, package: &str, features: &[&str]) -> Outcome<Module> {
    let build = ["build", "--quiet", "--target", TARGET, "--profile", "wasm", "--package", package, "--locked"];
    // What is published depends neither on where its builder keeps sources nor on how they like to compile.
    let mut build = cargo(&[&build, features].concat());
    build.env("CARGO_INCREMENTAL", "0");
    if let Some(home) = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo"))) {
        build.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    run(&mut build)?;
    // Apart from where cargo puts it: the same crate with other features goes to the same place.
    let built = package.replace('-', "_");
    let folder = rules::target_folder()?.join(TARGET).join("wasm");
    let kept = folder.join(format!("{built}.{name}.wasm"));
    std::fs::copy(folder.join(format!("{built}.wasm")), &kept).map_err(|error| format!("{}: {error}", kept.display()))?;
    Ok((name, kept))
}

/// Writes modules with the JavaScript glue that they share into a folder of `web/`. No wasm-opt: it makes a module 5 % smaller and what
/// is transferred, compressed, 3 % larger.
fn glue(folder: &str, modules: &[Module]) -> Outcome {
    let program = debug_program("kinora-bindgen")?;
    run(Command::new(program).arg(web().join(folder)).args(modules.iter().map(|(name, module)| format!("{name}={}", module.display()))))
}

/// Builds what writes the glue; not by --package, which would change the features of what it uses and compile all of that again.
fn build_bindgen() -> Outcome {
    run(&mut cargo(&["build", "--quiet", "--workspace", "--bin", "kinora-bindgen", "--locked"]))
}

/// A program of this workspace as `cargo build` leaves it.
fn debug_program(name: &str) -> Outcome<PathBuf> {
    Ok(rules::target_folder()?.join(format!("debug/{name}{}", env::consts::EXE_SUFFIX)))
}

/// The lints of what only browsers run.
pub(crate) fn clippy() -> Outcome {
    ensure_target()?;
    let clippy = |crates: &[&str]| {
        run(&mut cargo(&[&["clippy", "--quiet", "--target", TARGET, "--no-deps", "--locked"], crates, &["--", "-D", "warnings"]].concat()))
    };
    clippy(&["--package", "kinora-kernels", "--package", "kinora-runtime", "--package", "kinora-browser-tests"])?;
    // As the core module has it.
    clippy(&["--package", "kinora-runtime", "--package", "kinora-wasm", "--no-default-features"])
}

/// The bodies of native tests, for the browser.
fn test_bodies() -> Outcome {
    step("WASM of the test bodies", || glue("test/wasm", &[wasm("core", "kinora-browser-tests", &[])?]))
}

/// A folder for any web server: a page that compares every kernel with its twin in the browser that opens it.
pub(crate) fn conformance() -> Outcome {
    ensure_target()?;
    step("what writes the glue", build_bindgen)?;
    test_bodies()?;
    let folder = rules::target_folder()?.join("conformance");
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().unwrap_or(&folder))
            .and_then(|()| std::fs::copy(from, to))
            .map_err(|error| format!("{}: {error}", to.display()))
    };
    for file in ["index.html", "page.js"] {
        copy(&web().join("conformance").join(file), &folder.join(file))?;
    }
    for file in ["core.js", "core_bg.wasm"] {
        copy(&web().join("test/wasm").join(file), &folder.join("wasm").join(file))?;
    }
    println!("{}", folder.display());
    Ok(())
}

/// Builds the package and runs its tests in headless Chromium on SwiftShader: all, or the files of these names.
pub(crate) fn test(names: &[String]) -> Outcome<Counts> {
    let files = test_files(names)?;
    build()?;
    test_bodies()?;
    // Comes with Chromium, so that this installs both; other systems bring their own browser and adapter.
    let manifest = if cfg!(target_os = "linux") { Some(SWIFTSHADER.manifest()?) } else { None };
    // Frames of the page are compared with those of the command on the same adapter.
    let programs = ["build", "--quiet", "--workspace", "--bin", "kinora", "--bin", "kinora-serve", "--locked"];
    step("the command, to compare with, and the server", || run(&mut cargo(&programs)))?;
    let command = debug_program("kinora")?;
    // Timings are bars only where nothing else runs; the others share the machine by twos, each with a browser of its own.
    let (timed, others): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| has_bars(file));
    let mut counts = Counts::default();
    for (title, files, side_by_side) in [("tests in the browser", others, 2), ("tests with bars for time", timed, 1)] {
        if files.is_empty() {
            continue;
        }
        let mut tests = node(&["--test", "--test-reporter=spec", &format!("--test-concurrency={side_by_side}")]);
        tests.args(files);
        tests.env("KINORA_BIN", &command);
        if env::var_os(SLOWNESS).is_none() {
            tests.env(SLOWNESS, SHARED_MACHINE);
        }
        if let Some(manifest) = &manifest {
            tests.env("VK_ICD_FILENAMES", manifest).env("VK_DRIVER_FILES", manifest);
        }
        counts = counts.plus(step(title, || count_tests(&mut tests))?);
    }
    Ok(counts)
}

/// Whether a file of tests compares times with bars, which are those of a machine that does nothing else.
fn has_bars(file: &str) -> bool {
    std::fs::read_to_string(web().join(file)).is_ok_and(|text| text.contains("SLOWNESS"))
}

/// Builds sites from the packed package; asks a registry for what they need besides.
pub(crate) fn consumers(names: &[String]) -> Outcome {
    build()?;
    step("sites", || run(node(&["scripts/consumers.mjs"]).args(names)))
}

/// Writes the site of guides and reference.
pub(crate) fn docs() -> Outcome {
    build()?;
    let folder = rules::target_folder()?.join("docs");
    step("site", || run(node(&["scripts/docs.mjs"]).arg(&folder)))?;
    println!("{}", folder.join("index.html").display());
    Ok(())
}

fn test_files(asked: &[String]) -> Outcome<Vec<String>> {
    let entries = std::fs::read_dir(web().join("test")).map_err(|error| format!("web/test: {error}"))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".test.mjs").map(str::to_owned)).collect();
    names.sort();
    if let Some(unknown) = asked.iter().find(|name| !names.contains(name)) {
        return Err(format!("no tests are called {unknown}; there are {}", names.join(", ")).into());
    }
    names.retain(|name| asked.is_empty() || asked.contains(name));
    Ok(names.into_iter().map(|name| format!("test/{name}.test.mjs")).collect())
}

fn web() -> PathBuf {
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

//! `cargo xtask test`: everything CI checks, cheap checks first. A missing part is a failure, never a skip.

use crate::{
    deny, rules,
    setup::{self, LAVAPIPE, SWIFTSHADER, SoftwareAdapter},
    shell::{Counts, Outcome, cargo, count_tests, run, step, works},
    tasks::quiet_vulkan,
    web,
};

/// Tests that another adapter can change, as nextest picks them: all of the kernels, of the runtime those that compute, not those that
/// ask how a plan is cut, counted or given up (chunks, requirements, tasks, faults, endurance), and of the command one file. A filter
/// instead of --package: naming packages would change their features and compile them again.
const GPU_TESTS: &str = "package(kinora-kernels) + binary_id(kinora::generate) + (package(kinora-runtime) \
    - binary_id(kinora-runtime::chunks) - binary_id(kinora-runtime::requirements) - binary_id(kinora-runtime::tasks) \
    - binary_id(kinora-runtime::faults) - binary_id(kinora-runtime::endurance))";

pub(crate) fn test() -> Outcome {
    step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("file sizes", || {
        rules::report_sizes();
        Ok(())
    })?;
    let metadata = step("metadata", rules::metadata)?;
    step("dependency rule", || rules::check_dependencies(&metadata))?;
    step("cargo deny", deny::check)?;
    step("clippy", || run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])))?;
    step("documentation", || run(cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings")))?;
    step("clippy for browsers", web::clippy)?;
    tests()?.plus(web::test(&[])?).verdict()
}

/// All tests on lavapipe, those that use the GPU again on SwiftShader, and the examples in the documentation.
fn tests() -> Outcome<Counts> {
    let nextest = works("cargo", &["nextest", "--version"]);
    let runner: &[&str] =
        if nextest { &["nextest", "run", "--no-fail-fast"] } else { &["test", "--no-fail-fast", "--lib", "--bins", "--tests"] };
    let everything = [runner, &["--workspace", "--locked"]].concat();
    let gpu_only = if nextest { [&everything, ["-E", GPU_TESTS].as_slice()].concat() } else { everything.clone() };
    let examples = ["test", "--doc", "--workspace", "--locked"];
    let runs: &[(&str, Option<&SoftwareAdapter>, &[&str])] = if cfg!(target_os = "linux") {
        &[
            ("tests on lavapipe", Some(&LAVAPIPE), &everything),
            ("GPU tests on SwiftShader", Some(&SWIFTSHADER), &gpu_only),
            ("examples in the documentation", Some(&LAVAPIPE), &examples),
        ]
    } else {
        &[("tests on this machine's adapter", None, &everything), ("examples in the documentation", None, &examples)]
    };
    // The media tests decode with it what they encoded.
    setup::ensure_program("ffmpeg")?;
    // The commands of docs/serving.md are run as they stand there.
    if !works("curl", &["--version"]) {
        setup::ensure_program("curl")?;
    }
    let mut counts = Counts::default();
    for (title, adapter, arguments) in runs {
        counts = counts.plus(step(title, || on(*adapter, arguments))?);
    }
    Ok(counts)
}

/// Runs cargo, with one software adapter as the only Vulkan driver if given.
fn on(adapter: Option<&SoftwareAdapter>, arguments: &[&str]) -> Outcome<Counts> {
    let mut command = cargo(arguments);
    if let Some(adapter) = adapter {
        let manifest = adapter.manifest()?;
        println!("{}: {}", adapter.name, manifest.display());
        // The first name is for loaders before 1.3.207, the second for all since.
        command.env("VK_ICD_FILENAMES", &manifest).env("VK_DRIVER_FILES", &manifest);
    }
    count_tests(quiet_vulkan(&mut command))
}

//! Long runs that look for what goes wrong rarely; CI has a small share of each among its tests.

use crate::{
    mutants, setup,
    shell::{Outcome, cargo, root, run},
    tasks::{quiet_vulkan, target_folder},
};

/// A test of the workspace that one variable makes a long run.
fn long_test(name: &str, variable: &str, value: &str) -> Outcome {
    setup::ensure_adapter()?;
    // All packages, so that nothing is compiled with other features than for the other tests.
    let arguments = ["test", "--workspace", "--locked", "--test", name, "--", "--include-ignored", "--nocapture", "--test-threads=1"];
    run(quiet_vulkan(cargo(&arguments).env(variable, value)))
}

/// Every call to the graphics API fails once, and from there on.
pub(crate) fn faults() -> Outcome {
    long_test("faults", "KINORA_FAULTS", "all")
}

/// Models loaded, clips made and cancelled for so many minutes.
pub(crate) fn soak(arguments: &[String]) -> Outcome {
    long_test("endurance", "KINORA_SOAK_MINUTES", arguments.first().map_or("30", String::as_str))
}

/// Kernels, plans and loaders with one mistake each, which their tests must notice: half of so many in shaders, half in Rust, or all
/// in one of them.
pub(crate) fn mutants(arguments: &[String]) -> Outcome {
    let count: usize = arguments.first().map_or(Ok(240), |text| text.parse()).map_err(|error| format!("NUMBER: {error}"))?;
    let shaders = |count: usize| long_test("mutants", "KINORA_MUTANTS", &count.to_string());
    match arguments.get(1).map(String::as_str) {
        None => shaders(count.div_ceil(2)).and_then(|()| mutants::plans_and_loaders(count / 2)),
        Some("shaders") => shaders(count),
        Some("rust") => mutants::plans_and_loaders(count),
        Some(other) => Err(format!("`{other}`: expected shaders or rust").into()),
    }
}

/// Kernels over so many random cases.
pub(crate) fn cases(arguments: &[String]) -> Outcome {
    long_test("random_cases", "KINORA_CASES", arguments.first().map_or("15000", String::as_str))
}

/// Seeded files of every kind through every parser.
pub(crate) fn fuzz(arguments: &[String]) -> Outcome {
    let manifest = root().join("fuzz/Cargo.toml").display().to_string();
    // Its dependencies are those of the workspace, and compiled there.
    let target = target_folder()?.display().to_string();
    let mut command = cargo(&["run", "--quiet", "--manifest-path", &manifest, "--target-dir", &target, "--bin", "kinora-fuzz", "--"]);
    run(command.args(arguments))
}

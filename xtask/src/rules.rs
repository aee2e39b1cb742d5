//! Rules about the workspace itself: which crate may use which, and how long files get.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::shell::{Outcome, cargo, output, root};

/// What each crate may use of this workspace: the layers are kernels ← runtime ← command.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("kinora-shader-build", &[]),
    ("kinora-kernels", &[]),
    ("kinora-media", &[]),
    ("kinora-runtime", &["kinora-kernels"]),
    ("kinora-bench", &["kinora-kernels", "kinora-runtime"]),
    ("kinora", &["kinora-bench", "kinora-media", "kinora-runtime"]),
    // Drives the command as another process.
    ("kinora-serve", &[]),
    ("kinora-wasm", &["kinora-media", "kinora-runtime"]),
    // Test bodies of both layers as WASM.
    ("kinora-browser-tests", &["kinora-kernels", "kinora-runtime"]),
    ("kinora-bindgen", &[]),
    ("xtask", &[]),
];
/// May be used while building and testing, never at run time.
const BUILD_ONLY: &str = "kinora-shader-build";
/// The only crate that sees the graphics API.
const OWNS_WGPU: &str = "kinora-kernels";

/// Lines a file may have before it is listed, by extension.
const LINES: [(&str, usize); 4] = [("rs", 400), ("ts", 400), ("py", 400), ("wesl", 200)];

pub(crate) fn metadata() -> Outcome<Value> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}").into())
}

/// Where cargo builds.
pub(crate) fn target_folder() -> Outcome<PathBuf> {
    let metadata = metadata()?;
    let folder = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(folder.into())
}

/// Fails with every dependency that breaks the layers.
pub(crate) fn check_dependencies(metadata: &Value) -> Outcome {
    let wrong = wrong_dependencies(metadata);
    if wrong.is_empty() { Ok(()) } else { Err(format!("dependency rule:\n  {}", wrong.join("\n  ")).into()) }
}

fn wrong_dependencies(metadata: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let members = list(&metadata["workspace_members"]);
    let own: Vec<_> = list(&metadata["packages"]).into_iter().filter(|package| members.contains(&package["id"])).collect();
    let name_of = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let own_names: Vec<_> = own.iter().map(name_of).collect();
    let mut wrong = Vec::new();
    for package in &own {
        let user = name_of(package);
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == user) else {
            wrong.push(format!("{user} is new: say in xtask/src/rules.rs what it may use"));
            continue;
        };
        for dependency in list(&package["dependencies"]) {
            let used = name_of(&dependency);
            let at_run_time = dependency["kind"].is_null();
            if used == "wgpu" && user != OWNS_WGPU {
                wrong.push(format!("{user} uses wgpu, only {OWNS_WGPU} may"));
            }
            // Tests may look below the layer they stand on.
            let in_tests = dependency["kind"] == "dev";
            let fine = in_tests || !own_names.contains(&used) || allowed.contains(&used.as_str()) || (used == BUILD_ONLY && !at_run_time);
            if !fine {
                wrong.push(format!("{user} must not use {used}"));
            }
        }
    }
    wrong
}

/// Prints files that are longer than they should be. A report, not a failure: some tables are long.
pub(crate) fn report_sizes() {
    let mut files = Vec::new();
    for folder in ["crates", "shaders", "xtask", "tests", "training", "web"] {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    let mut num_files = 0;
    for path in files {
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, limit)) = LINES.iter().find(|(known, _)| *known == extension) else {
            continue;
        };
        num_files += 1;
        let lines = fs::read_to_string(&path).map(|text| text.lines().count()).unwrap_or(0);
        if lines > *limit {
            println!("{}: {lines} lines, aim at {limit}", path.strip_prefix(root()).unwrap_or(&path).display());
        }
    }
    println!("{num_files} files looked at");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Links point at folders that are looked at anyway.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" => {
                collect(&entry.path(), files);
            }
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn workspace(user: &str, used: &str, kind: &Value) -> Vec<String> {
        let package = |name: &str, dependencies: Value| json!({ "id": name, "name": name, "dependencies": dependencies });
        let known = MAY_USE.iter().map(|(name, _)| *name).filter(|name| *name != user);
        let mut packages: Vec<_> = known.map(|name| package(name, json!([]))).collect();
        packages.push(package(user, json!([{ "name": used, "kind": kind }])));
        let members: Vec<_> = packages.iter().map(|package| package["id"].clone()).collect();
        wrong_dependencies(&json!({ "packages": packages, "workspace_members": members }))
    }

    #[test]
    fn layers_may_only_look_down() {
        let normal = Value::Null;
        for (user, used) in [("kinora-runtime", "kinora-kernels"), ("kinora", "kinora-runtime"), ("kinora-kernels", "wgpu")] {
            assert_eq!(workspace(user, used, &normal), [""; 0], "{user} → {used}");
        }
        for (user, used) in [
            ("kinora-kernels", "kinora-runtime"),
            ("kinora-media", "kinora-kernels"),
            ("kinora", "kinora-kernels"),
            ("kinora-runtime", "wgpu"),
            ("kinora-runtime", "xtask"),
            ("kinora-kernels", "kinora-shader-build"),
            ("kinora-extra", "serde"),
        ] {
            assert_eq!(workspace(user, used, &normal).len(), 1, "{user} → {used}");
        }
        for kind in ["dev", "build"] {
            assert_eq!(workspace("kinora-kernels", "kinora-shader-build", &json!(kind)), [""; 0], "{kind}");
        }
        assert_eq!(workspace("kinora", "kinora-kernels", &json!("dev")), [""; 0], "tests may look deeper");
    }
}

//! A copy of the workspace with every mistake in it, each behind its number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::sites::Site;
use crate::shell::{Outcome, root};

/// A copy of the workspace: what is compiled as files, the rest as links.
pub(super) fn mirror(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for entry in fs::read_dir(from).map_err(|error| error.to_string())?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let link = to.join(&name);
        match name.to_str() {
            Some("crates" | "xtask") => copy_folder(&path, &link)?,
            Some(".git" | "target") => {}
            Some("Cargo.lock") => copy_file(&path, &link)?,
            Some("Cargo.toml") => {
                let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                write(&link, of_another_version(&text).as_bytes())?;
            }
            _ if link.symlink_metadata().is_ok() => {}
            #[cfg(unix)]
            _ => std::os::unix::fs::symlink(&path, &link).map_err(|error| format!("{}: {error}", link.display()))?,
            #[cfg(not(unix))]
            _ => copy_folder(&path, &link)?,
        }
    }
    Ok(())
}

/// The manifest with another patch level. Both workspaces are built in one folder, for what others made; of packages of one name and
/// version cargo takes what the copy left for the workspace's own.
fn of_another_version(manifest: &str) -> String {
    let of_line = |line: &str| match line.strip_prefix("version = ").and_then(|version| version.rsplit_once('.')) {
        Some((minor, _)) => format!("version = {minor}.999\"\n"),
        None => format!("{line}\n"),
    };
    manifest.lines().map(of_line).collect()
}

fn copy_folder(from: &Path, to: &Path) -> Outcome {
    if from.is_file() {
        return copy_file(from, to);
    }
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for entry in fs::read_dir(from).map_err(|error| error.to_string())?.flatten() {
        copy_folder(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Leaves a file that is the same alone, so that it is not compiled again.
fn copy_file(from: &Path, to: &Path) -> Outcome {
    write(to, &fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?)
}

fn write(to: &Path, bytes: &[u8]) -> Outcome {
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(to, bytes).map_err(|error| format!("{}: {error}", to.display()).into())
}

/// Writes the sources with every mistake that compiles, each behind its number. Of those that overlap the inner one is left.
pub(super) fn write_mutants(copy: &Path, sites: &[Site], refused: &mut BTreeSet<usize>) -> Outcome {
    let mut files: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (number, site) in sites.iter().enumerate() {
        let numbers = files.entry(&site.file).or_default();
        if !refused.contains(&number) {
            numbers.push(number);
        }
    }
    for (file, numbers) in files {
        let text = fs::read_to_string(root().join(file)).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        // From right to left, so that places before stay where they are.
        let mut ordered = numbers.clone();
        ordered.sort_by_key(|number| std::cmp::Reverse((sites[*number].line, sites[*number].range[0])));
        for number in ordered {
            let Site { line, range: [start, end], was, is, .. } = &sites[number];
            if lines[*line].get(*start..*end) == Some(was) {
                lines[*line].replace_range(*start..*end, &format!("(if crate::mutant({number}) {{ {is} }} else {{ {was} }})"));
            } else {
                refused.insert(number);
            }
        }
        write(&copy.join(file), lines.join("\n").as_bytes())?;
    }
    for name in ["kernels", "runtime"] {
        let file = Path::new("crates").join(name).join("src/lib.rs");
        let text = fs::read_to_string(root().join(&file)).map_err(|error| error.to_string())?;
        let chosen = "\npub(crate) fn mutant(number: usize) -> bool {\n    \
            static CHOSEN: std::sync::LazyLock<Option<usize>> =\n        \
            std::sync::LazyLock::new(|| std::env::var(\"KINORA_MUTANT\").ok()?.parse().ok());\n    *CHOSEN == Some(number)\n}\n";
        write(&copy.join(file), [&text, chosen].concat().as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_the_copy_have_another_version() {
        let manifest = "[workspace.package]\nversion = \"1.2.3\"\n[workspace.dependencies]\na = { version = \"1.2.3\" }\n";
        assert_eq!(of_another_version(manifest), manifest.replacen("1.2.3", "1.2.999", 1));
    }
}

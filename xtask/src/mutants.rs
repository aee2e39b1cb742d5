//! Plans and loaders with one mistake each: does a test notice? All mistakes are compiled at once into a copy of the workspace, and a
//! variable chooses the one that is made, so that hundreds cost one build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    setup,
    shell::{Outcome, cargo, root},
    tasks::{quiet_vulkan, target_folder},
};

/// Where mistakes are made: what records, fuses, places and cuts plans, and what reads and packs weights and requests.
const PLACES: [&str; 27] = [
    "kernels/src/cost.rs",
    "kernels/src/encoding",
    "kernels/src/encoding.rs",
    "kernels/src/footprint.rs",
    "kernels/src/fuse.rs",
    "kernels/src/lower.rs",
    "kernels/src/memory.rs",
    "kernels/src/ops",
    "kernels/src/pack.rs",
    "kernels/src/plan.rs",
    "kernels/src/raw.rs",
    "kernels/src/segments.rs",
    "kernels/src/shape.rs",
    "kernels/src/tensor.rs",
    "kernels/src/weight.rs",
    "runtime/src/conditioning",
    "runtime/src/layout.rs",
    "runtime/src/sampling/denoise.rs",
    "runtime/src/sampling/guidance.rs",
    "runtime/src/sampling/packing.rs",
    "runtime/src/sampling/schedule.rs",
    "runtime/src/sampling/solvers",
    "runtime/src/sampling/spacing.rs",
    "runtime/src/sampling/tokens.rs",
    "runtime/src/sampling/track.rs",
    "runtime/src/shape.rs",
    "runtime/src/weights",
];

/// Tests that are asked, quick ones first.
const TESTS: [&str; 14] = [
    "plan",
    "schedule",
    "safetensors",
    "gguf",
    "conditioning",
    "solvers",
    "sampler",
    "states",
    "properties",
    "packing",
    "wan_pipeline",
    "small_kernels",
    "streaming",
    "golden",
];

/// What is changed to what.
const CHANGES: [(&str, &str); 12] = [
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " / "),
    (" / ", " * "),
    (" % ", " / "),
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" == ", " != "),
    (" && ", " || "),
    (" || ", " && "),
];

/// Changes that no test can see, each with the reason: the file's end, the line and what is changed in it.
const WITHOUT_EFFECT: [(&str, &str, &str); 0] = [];

/// A test may take so long; what hangs is noticed.
const LONGEST: Duration = Duration::from_secs(180);

/// A change of one expression.
struct Site {
    file: PathBuf,
    line: usize,
    /// Bytes of the expression in its line.
    range: [usize; 2],
    was: String,
    is: String,
}

/// Makes `count` of the mistakes and asks the tests.
pub(crate) fn plans_and_loaders(count: usize) -> Outcome {
    setup::ensure_adapter()?;
    let copy = target_folder()?.join("mutants");
    mirror(&root(), &copy)?;
    let mut sites = Vec::new();
    for place in PLACES {
        for file in rust_files(&root().join("crates").join(place))? {
            let relative = file.strip_prefix(root()).map_err(|error| error.to_string())?.to_owned();
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            sites.extend(sites_of(&relative, &text));
        }
    }
    println!("{} places", sites.len());
    let mut refused = BTreeSet::new();
    loop {
        write_mutants(&copy, &sites, &mut refused)?;
        let wrong = refusals(&copy)?;
        if wrong.is_empty() {
            break;
        }
        let before = refused.len();
        refused.extend((0..sites.len()).filter(|at| wrong.contains(&(sites[*at].file.clone(), sites[*at].line))));
        if refused.len() == before {
            return Err(format!("the copy in {} does not compile", copy.display()).into());
        }
        println!("{} are no programs", refused.len());
    }
    let tests = build(&copy)?;
    let mut open: Vec<usize> = (0..sites.len()).filter(|at| !refused.contains(at)).collect();
    let mut seed = 20_261_128u64;
    let mut survivors = Vec::new();
    let mut tried = 0;
    while tried < count && !open.is_empty() {
        // Knuth's generator; the upper bits are good.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = open.swap_remove((seed >> 33) as usize % open.len());
        let site = &sites[number];
        let text = fs::read_to_string(root().join(&site.file)).unwrap_or_default();
        let line = text.lines().nth(site.line).unwrap_or_default().trim();
        if WITHOUT_EFFECT.iter().any(|(file, known, was)| site.file.ends_with(file) && line == *known && site.was == *was) {
            continue;
        }
        let begun = Instant::now();
        let by = tests.iter().find(|test| !test.passes(Some(number))).map(|test| test.name.as_str());
        tried += 1;
        let shown = format!("{number}, {}:{}: `{}` → `{}` in `{line}`", site.file.display(), site.line + 1, site.was, site.is);
        println!("{tried}: {} ({:.0} s): {shown}", by.unwrap_or("SURVIVES"), begun.elapsed().as_secs_f64());
        if by.is_none() {
            survivors.push(shown);
        }
    }
    println!("{tried} mistakes in plans and loaders, {} not noticed", survivors.len());
    if survivors.is_empty() { Ok(()) } else { Err(format!("no test notices:\n  {}", survivors.join("\n  ")).into()) }
}

/// A copy of the workspace: what is compiled as files, the rest as links.
fn mirror(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    for entry in fs::read_dir(from).map_err(|error| error.to_string())?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let link = to.join(&name);
        match name.to_str() {
            Some("crates" | "xtask") => copy_folder(&path, &link)?,
            Some(".git" | "target") => {}
            Some("Cargo.toml" | "Cargo.lock") => copy_file(&path, &link)?,
            _ if link.symlink_metadata().is_ok() => {}
            #[cfg(unix)]
            _ => std::os::unix::fs::symlink(&path, &link).map_err(|error| format!("{}: {error}", link.display()))?,
            #[cfg(not(unix))]
            _ => copy_folder(&path, &link)?,
        }
    }
    Ok(())
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

fn rust_files(place: &Path) -> Outcome<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(place).map_err(|error| format!("{}: {error}", place.display()))?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries.into_iter().filter(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "rs")) {
        files.extend(rust_files(&entry)?);
    }
    Ok(files)
}

/// The expressions of two simple operands between which no other operator can reach, and the indices that are numbers; before the
/// tests of the file.
fn sites_of(file: &Path, text: &str) -> Vec<Site> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut sites = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let trimmed = line.trim_start();
        let skip = ["//", "#", "const ", "pub const ", "pub(crate) const ", "static ", "use ", "where "];
        if skip.iter().any(|start| trimmed.starts_with(start)) || line.contains("const fn") {
            continue;
        }
        let line = line.split("//").next().unwrap_or(line);
        for (from, to) in CHANGES {
            for (at, _) in line.match_indices(from) {
                let Some(start) = operand_before(line, at) else { continue };
                let Some(end) = operand_after(line, at + from.len()) else { continue };
                let quotes = |part: &str| part.matches('"').count() % 2 == 1;
                if quotes(&line[..start]) {
                    continue;
                }
                let was = line[start..end].to_owned();
                let is = [&line[start..at], to, &line[at + from.len()..end]].concat();
                sites.push(Site { file: file.to_owned(), line: number, range: [start, end], was, is });
            }
        }
        for (index, next) in [("[0]", "1"), ("[1]", "0"), ("[2]", "1")] {
            // Of a list that was named, not the type or the value of one.
            let named = |at: &usize| line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ')');
            for (at, _) in line.match_indices(index).filter(|(at, _)| named(at)) {
                let range = [at + 1, at + 2];
                sites.push(Site { file: file.to_owned(), line: number, range, was: line[at + 1..at + 2].to_owned(), is: next.to_owned() });
            }
        }
    }
    sites
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

/// Where a name, number, field or call before `end` begins, if nothing binds to it from further left.
fn operand_before(line: &str, end: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut start = end;
    for (at, c) in line[..end].char_indices().rev() {
        match c {
            ')' | ']' => depth += 1,
            '(' | '[' if depth > 0 => depth -= 1,
            _ if depth > 0 || is_word(c) => {}
            _ => break,
        }
        start = at;
    }
    // A word at the beginning of a line is one as well.
    let before = format!(" {}", line[..start].trim_end());
    let ends = ["(", "[", "{", ",", ":", " =", "=>", "&&", "||", "|", "+=", "-=", "return", " if", " in", "while"];
    (start < end && !before.ends_with("::") && depth == 0 && ends.iter().any(|end| before.ends_with(end))).then_some(start)
}

/// Where such an operand after `start` ends, if nothing binds to it from further right.
fn operand_after(line: &str, start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut end = start;
    for (at, c) in line[start..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' if depth > 0 => depth -= 1,
            _ if depth > 0 || is_word(c) => {}
            _ => break,
        }
        end = start + at + c.len_utf8();
    }
    let after = line[end..].trim_start();
    let begins = [")", "]", "}", ",", ";", "{", "&&", "||"];
    // A range in an index is no operand.
    let range = line[start..end].contains("..");
    (end > start && depth == 0 && !range && (after.is_empty() || begins.iter().any(|begin| after.starts_with(begin)))).then_some(end)
}

/// Writes the sources with every mistake that compiles, each behind its number. Of those that overlap the inner one is left.
fn write_mutants(copy: &Path, sites: &[Site], refused: &mut BTreeSet<usize>) -> Outcome {
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

/// What cargo says of the copy, as JSON.
fn cargo_in(copy: &Path, arguments: &[&str]) -> Outcome<Vec<Value>> {
    let mut command = cargo(arguments);
    command.current_dir(copy).env("CARGO_TARGET_DIR", target_folder()?).stderr(Stdio::null());
    let told = command.output().map_err(|error| error.to_string())?.stdout;
    Ok(String::from_utf8_lossy(&told).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The lines that do not compile, by file.
fn refusals(copy: &Path) -> Outcome<BTreeSet<(PathBuf, usize)>> {
    let mut wrong = BTreeSet::new();
    for message in cargo_in(copy, &["check", "--workspace", "--locked", "--lib", "--keep-going", "--message-format", "json"])? {
        for span in message["message"]["spans"].as_array().into_iter().flatten().filter(|_| message["message"]["level"] == "error") {
            let line = |name: &str| span[name].as_u64().unwrap_or_default() as usize;
            let file = PathBuf::from(span["file_name"].as_str().unwrap_or_default());
            wrong.extend((line("line_start")..=line("line_end")).map(|line| (file.clone(), line.saturating_sub(1))));
        }
    }
    Ok(wrong)
}

/// Builds the tests: their names, the folders that they run in and their programs.
fn build(copy: &Path) -> Outcome<Vec<Test>> {
    let mut arguments = vec!["test", "--workspace", "--locked", "--lib", "--no-run", "--message-format", "json"];
    TESTS.iter().for_each(|name| arguments.extend(["--test", name]));
    let mut tests: Vec<Test> = Vec::new();
    for message in cargo_in(copy, &arguments)? {
        let (name, program) = (message["target"]["name"].as_str().unwrap_or_default(), message["executable"].as_str());
        let Some(program) = program.filter(|_| message["profile"]["test"] == true) else { continue };
        let folder = Path::new(message["manifest_path"].as_str().unwrap_or_default()).parent().unwrap_or(copy).to_owned();
        if TESTS.contains(&name) || ["kinora_kernels", "kinora_runtime"].contains(&name) {
            tests.push(Test { name: name.to_owned(), folder, program: program.into() });
        }
    }
    // The libraries' own tests come first.
    tests.sort_by_key(|test| TESTS.iter().position(|name| *name == test.name).map_or(0, |at| at + 1));
    if tests.len() != TESTS.len() + 2 {
        return Err(format!("{} of {} tests were built", tests.len(), TESTS.len() + 2).into());
    }
    match tests.iter().find(|test| !test.passes(None)) {
        Some(test) => Err(format!("`{}` fails without a mistake", test.name).into()),
        None => Ok(tests),
    }
}

/// A program of tests.
struct Test {
    name: String,
    folder: PathBuf,
    program: PathBuf,
}

impl Test {
    /// Whether it passes, with a mistake or without.
    fn passes(&self, mistake: Option<usize>) -> bool {
        let mut command = Command::new(&self.program);
        quiet_vulkan(&mut command).current_dir(&self.folder).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(number) = mistake {
            command.env("KINORA_MUTANT", number.to_string());
        }
        let Ok(mut child) = command.spawn() else { return false };
        let begun = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if begun.elapsed() < LONGEST => thread::sleep(Duration::from_millis(20)),
                _ => {
                    let _ = child.kill().and_then(|()| child.wait().map(drop));
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_expressions_are_changed() {
        let found = |line: &str| sites_of(Path::new("a.rs"), line).into_iter().map(|site| site.is).collect::<Vec<_>>();
        assert_eq!(found("if a.len() < n {"), ["a.len() <= n"]);
        assert_eq!(found("let x = a + b * c;"), [""; 0], "each binds to the other");
        assert_eq!(found("f(a * b, c - d(1, 2));"), ["c + d(1, 2)", "a / b"]);
        assert_eq!(found("let y = x[0] + 1;"), ["x[0] - 1", "1"]);
        assert_eq!(found("// a + b"), [""; 0]);
        assert_eq!(found("const A: usize = B + C;"), [""; 0]);
    }
}

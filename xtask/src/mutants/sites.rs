//! Where one expression of a Rust source can be another of the same type.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::shell::{Outcome, root};

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

/// A change of one expression.
pub(super) struct Site {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// Bytes of the expression in its line.
    pub(super) range: [usize; 2],
    pub(super) was: String,
    pub(super) is: String,
}

/// All of them in these files and folders of `crates/`.
pub(super) fn in_places(places: &[&str]) -> Outcome<Vec<Site>> {
    let mut sites = Vec::new();
    for place in places {
        for file in rust_files(&root().join("crates").join(place))? {
            let relative = file.strip_prefix(root()).map_err(|error| error.to_string())?.to_owned();
            let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            sites.extend(sites_of(&relative, &text));
        }
    }
    Ok(sites)
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

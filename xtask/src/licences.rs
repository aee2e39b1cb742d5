//! Licences of all dependencies against the list in deny.toml, so that CI needs no extra tool.
//!
//! `cargo deny check` reads the same file and checks more (advisories, sources, duplicates).

use std::fs;

use serde_json::Value;

use crate::shell::{Outcome, root};

/// Fails with every dependency whose licence expression the list does not satisfy.
pub(crate) fn check(metadata: &Value) -> Outcome {
    let deny = fs::read_to_string(root().join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let allowed = allowed(&deny)?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let refused: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            let (name, licence) = (package["name"].as_str().unwrap_or("?"), package["license"].as_str().unwrap_or("no licence"));
            (!satisfied(licence, &allowed)).then(|| format!("{name}: {licence}"))
        })
        .collect();
    println!("{} packages looked at", packages.len());
    if refused.is_empty() { Ok(()) } else { Err(format!("licences outside deny.toml:\n  {}", refused.join("\n  ")).into()) }
}

/// The strings of `allow = [...]` in the `[licenses]` table.
fn allowed(deny: &str) -> Outcome<Vec<String>> {
    let table = deny.split("[licenses]").nth(1).and_then(|rest| rest.split("\n[").next());
    let array = table.and_then(|table| table.split("\nallow").nth(1)).and_then(|rest| rest.split('[').nth(1)?.split(']').next());
    let array = array.ok_or("deny.toml has no `allow = [...]` under [licenses]")?;
    Ok(array.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Evaluates an SPDX expression: OR binds weaker than AND, `/` is the old way to write OR.
fn satisfied(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let value = any(&words, &mut at, allowed);
    value && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut value = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Evaluated first: it moves `at` past the operand either way.
        value = all(words, at, allowed) || value;
    }
    value
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut value = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value = one(words, at, allowed) && value;
    }
    value
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let value = any(words, at, allowed);
        // Past the closing parenthesis.
        *at += 1;
        return value;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_their_operators() {
        let allowed: Vec<String> = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned).into();
        for expression in ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "GPL-3.0 AND ISC OR MIT"] {
            assert!(satisfied(expression, &allowed), "{expression} was refused");
        }
        for expression in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0 WITH LLVM-exception", "MIT ISC"] {
            assert!(!satisfied(expression, &allowed), "{expression} was accepted");
        }
    }

    #[test]
    fn the_list_is_read_from_its_table() {
        let deny = "[bans]\nallow = [\"x\"]\n[licenses]\n# words\nallow = [\n  \"MIT\", # a\n  \"Zlib\",\n]\n[sources]\n";
        assert_eq!(allowed(deny).map_err(|failed| failed.message), Ok(vec!["MIT".to_owned(), "Zlib".to_owned()]));
        assert!(allowed("[bans]\nallow = []").is_err(), "no [licenses] table");
    }
}

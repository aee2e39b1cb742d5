//! Forms of one word: endings of verbs, plurals, and how far apart two spellings are.

/// The word without its ending as a verb, so that "runs", "running" and "run" are the same.
pub(super) fn stem(word: &str) -> String {
    let ending = ["ing", "es", "ed", "s", "e"].iter().find_map(|ending| word.strip_suffix(ending));
    let mut stem: Vec<char> = ending.filter(|stem| stem.len() > 1).unwrap_or(word).chars().collect();
    if ending.is_some() && stem.len() > 2 && stem[stem.len() - 1] == stem[stem.len() - 2] {
        stem.pop();
    }
    stem.into_iter().collect()
}

/// The word, and what it may be the plural of.
pub(super) fn singulars(word: &str) -> Vec<String> {
    const IRREGULAR: [(&str, &str); 5] = [("mice", "mouse"), ("geese", "goose"), ("feet", "foot"), ("teeth", "tooth"), ("oxen", "ox")];
    let mut forms = vec![word.to_owned()];
    forms.extend(IRREGULAR.iter().filter(|(plural, _)| *plural == word).map(|(_, one)| (*one).to_owned()));
    for (ending, replacements) in [("ies", &["y", "ey"][..]), ("ves", &["f", "fe"]), ("es", &[""]), ("s", &[""])] {
        if let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() > 1 && !(ending == "s" && stem.ends_with('s'))) {
            forms.extend(replacements.iter().map(|end| format!("{stem}{end}")));
        }
    }
    forms
}

/// Smallest number of letters to add, drop, replace or swap with their neighbour (optimal string alignment), at most
/// `most`.
pub(super) fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    Some(rows[1][b.len()]).filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_do_not_matter() {
        for (a, b) in [("running", "runs"), ("dances", "dancing"), ("jump", "jumping"), ("waved", "waving"), ("flies", "flies")] {
            assert_eq!(stem(a), stem(b));
        }
        for (plural, one) in [
            ("cats", "cat"),
            ("wolves", "wolf"),
            ("butterflies", "butterfly"),
            ("monkies", "monkey"),
            ("mice", "mouse"),
            ("foxes", "fox"),
            ("buses", "bus"),
            ("glass", "glass"),
        ] {
            assert!(singulars(plural).iter().any(|form| form == one), "{plural}: {:?}", singulars(plural));
        }
        assert!(!singulars("glass").contains(&"glas".to_owned()));
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, expected) in [
            ("cat", "cat", Some(0)),
            ("zebar", "zebra", Some(1)),
            ("kangeroo", "kangaroo", Some(1)),
            ("elefant", "elephant", Some(2)),
            ("dog", "zebra", None),
            ("abcd", "", None),
        ] {
            assert_eq!(distance(a, b, 2), expected, "{a} {b}");
            assert_eq!(distance(b, a, 2), expected, "{b} {a}");
        }
    }
}

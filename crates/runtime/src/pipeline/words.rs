//! How a prompt is read: as tokens of a text, or as the class that it names.

#[cfg(feature = "images")]
use std::collections::BTreeMap;

#[cfg(feature = "images")]
use crate::error::Error;
use crate::error::Result;
#[cfg(feature = "images")]
use crate::manifest::Index;
use crate::models::family::TextRules;
use crate::text::{Encoding, Tokenizer};

/// What makes ids of a prompt.
pub(super) enum Words {
    /// Those of a vocabulary.
    Tokens(Box<Tokenizer>),
    /// That of a class.
    #[cfg(feature = "images")]
    Classes(ClassNames),
}

impl Words {
    /// The ids of a prompt.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for a class that the model does not have.
    pub(super) fn read(&self, rules: &TextRules, max_tokens: usize, prompt: &str) -> Result<Encoding> {
        match self {
            Self::Tokens(tokenizer) => Ok(tokenizer.encode(&(rules.clean)(prompt), max_tokens)),
            #[cfg(feature = "images")]
            Self::Classes(names) => Ok(Encoding { ids: vec![names.find(prompt)?], truncated: false }),
        }
    }

    /// Whether a vocabulary has this token.
    pub(super) fn knows(&self, token: &str) -> bool {
        match self {
            Self::Tokens(tokenizer) => tokenizer.id(token).is_some(),
            #[cfg(feature = "images")]
            Self::Classes(_) => false,
        }
    }

    /// What is wrong with the prompts of a request, as far as that shows before anything runs.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[cfg(feature = "images")]
    pub(super) fn check(&self, prompts: [&str; 2]) -> Result<()> {
        match self {
            Self::Tokens(_) => Ok(()),
            Self::Classes(names) => prompts.into_iter().try_for_each(|prompt| names.find(prompt).map(drop)),
        }
    }
}

/// The classes of a model by name: `id2label` of its `model_index.json`, where a name can be several with commas between them.
#[cfg(feature = "images")]
#[derive(Debug)]
pub(super) struct ClassNames {
    count: u32,
    /// In lower case.
    names: BTreeMap<String, u32>,
}

/// So many names are told of those that a prompt might mean.
#[cfg(feature = "images")]
const MOST_TOLD: usize = 5;

#[cfg(feature = "images")]
impl ClassNames {
    /// Those of a model with so many classes, which may have no names.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for names of classes that it does not have.
    pub(super) fn of(index: &Index, count: usize) -> Result<Self> {
        let mut names = BTreeMap::new();
        let count = count as u32;
        for (key, label) in index.get("id2label").and_then(serde_json::Value::as_object).into_iter().flatten() {
            let class = key.parse().ok().filter(|class| *class < count);
            let (Some(class), Some(label)) = (class, label.as_str()) else {
                let found = format!("`id2label` has {label} for {key}, expected a name for a class from 0 to {}", count.saturating_sub(1));
                return Err(index.invalid(found));
            };
            for name in label.split(',') {
                // As in the reference, the last class of a name is meant.
                names.insert(name.trim().to_lowercase(), class);
            }
        }
        Ok(Self { count, names })
    }

    /// The class that a prompt names, by number or by name; nothing names none of them, which follows the last.
    fn find(&self, prompt: &str) -> Result<u32> {
        let name = prompt.trim().to_lowercase();
        let by_number = || name.parse().ok().filter(|class| *class < self.count);
        if name.is_empty() {
            return Ok(self.count);
        }
        self.names.get(&name).copied().or_else(by_number).ok_or_else(|| {
            let near: Vec<&str> = self.nearest(&name);
            let numbers = format!("a class of this model, by number from 0 to {}", self.count.saturating_sub(1));
            let expected = match (near.is_empty(), self.names.is_empty()) {
                (_, true) => numbers,
                (true, false) => format!("{numbers} or by name, like `{}`", self.names.keys().next().map_or("", String::as_str)),
                (false, false) => format!("{numbers} or by name, like `{}`", near.join("`, `")),
            };
            Error::InvalidRequest { parameter: "prompt".into(), found: format!("`{}`", prompt.trim()), expected }
        })
    }

    /// The names that share most words with a prompt.
    fn nearest(&self, prompt: &str) -> Vec<&str> {
        let words = |text: &'_ str| text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2).map(str::to_owned).collect();
        let wanted: Vec<String> = words(prompt);
        let shared = |name: &str| -> usize {
            let own: Vec<String> = words(name);
            wanted.iter().filter(|word| own.iter().any(|own| own.starts_with(word.as_str()) || word.starts_with(own.as_str()))).count()
        };
        let mut found: Vec<(usize, &str)> = self.names.keys().map(|name| (shared(name), name.as_str())).filter(|(n, _)| *n > 0).collect();
        found.sort_by_key(|(shared, name)| (std::cmp::Reverse(*shared), name.len(), *name));
        found.into_iter().take(MOST_TOLD).map(|(_, name)| name).collect()
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<ClassNames> {
        ClassNames::of(&Index::parse(json, "model_index.json").expect("JSON"), 1000)
    }

    #[test]
    fn classes_are_named_by_number_and_by_any_of_their_names() {
        let classes = names(
            r#"{"id2label": {"2": "great white shark, white shark, Carcharodon", "207": "golden retriever", "999": "toilet tissue"}}"#,
        )
        .expect("valid");
        let find = |prompt: &str| classes.find(prompt);
        for (prompt, class) in [("207", 207), (" Golden Retriever ", 207), ("white shark", 2), ("carcharodon", 2), ("0", 0), ("", 1000)] {
            assert_eq!(find(prompt).expect(prompt), class, "`{prompt}`");
        }
        for prompt in ["1000", "-1", "2.5", "shark"] {
            let error = find(prompt).expect_err("no class");
            assert_eq!(error.code(), "invalid-request", "`{prompt}`: {error}");
        }
        let error = find("a shark").expect_err("no class").to_string();
        assert!(error.contains("0 to 999 or by name, like `white shark`, `great white shark`"), "{error}");
        let bare = names("{}").expect("no names").find("a shark").expect_err("no names").to_string();
        assert!(bare.contains("by number from 0 to 999"), "{bare}");
    }

    #[test]
    fn names_of_classes_that_are_not_there_are_refused() {
        for json in [r#"{"id2label": {"1000": "a"}}"#, r#"{"id2label": {"x": "a"}}"#, r#"{"id2label": {"1": 2}}"#] {
            let error = names(json).expect_err("no class").to_string();
            assert!(error.contains("expected a name for a class from 0 to 999"), "{error}");
        }
    }
}

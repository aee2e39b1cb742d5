//! How files of others name the tensors of a component, and how the component is recognised by them: never by a file's name.
//!
//! A [`Layout`] is data. Its `names` are tables that a name goes through one after another: each table takes the beginning of what
//! is left and gives its own words for it, or leaves all to the next. What no table takes is kept.

use serde_json::Value;

use super::FAMILIES;
use crate::error::{Error, Result};
use crate::weights::Checkpoint;

/// A way to name the tensors of a class.
pub struct Layout {
    /// What may stand before every name, the longest first; the empty text too.
    pub prefixes: &'static [&'static str],
    /// The name of a tensor that all files in this layout have, and no others.
    pub mark: &'static str,
    /// Tables of lines with a name there and the name in the reference; whole words between dots, `N` is a number. `-` is for what
    /// the reference does not have.
    pub names: &'static [&'static str],
    /// The `config.json` that the tensors, named as in the reference, imply.
    pub config: fn(&Tensors<'_>) -> Result<Value>,
    /// For a denoiser, the `model_index.json` and `scheduler_config.json` that it is published with.
    pub pipeline: fn(&Tensors<'_>) -> Option<[&'static str; 2]>,
}

/// What a family lists of its layouts: none in the core module of a page, whose models are folders in the layout of the reference.
#[must_use]
pub const fn known(layouts: &'static [Layout]) -> &'static [Layout] {
    if cfg!(feature = "families") { layouts } else { &[] }
}

/// A component that was found in a file.
pub struct Found {
    /// Its `config.json`.
    pub config: Value,
    /// Its tensors, named as in the reference.
    pub checkpoint: Checkpoint,
    /// Its pipeline, if it is a denoiser.
    pub pipeline: Option<[&'static str; 2]>,
}

/// The components in a file, and the names of tensors that belong to none.
///
/// # Errors
/// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::InvalidConfig`] for a component that cannot be used.
pub fn recognise(checkpoint: &Checkpoint) -> Result<(Vec<Found>, Vec<String>)> {
    let mut components: Vec<(&Layout, &str)> = Vec::new();
    for layout in layouts() {
        if let Some(prefix) = layout.prefix_in(checkpoint)
            && components.iter().all(|(_, taken)| *taken != prefix)
        {
            components.push((layout, prefix));
        }
    }
    // The longest prefix that is a name's owns it.
    let owner = |name: &str| components.iter().map(|(_, prefix)| *prefix).filter(|prefix| name.starts_with(prefix)).max_by_key(|p| p.len());
    let mut found = Vec::new();
    for (layout, prefix) in &components {
        let own =
            checkpoint.renamed(|name| (owner(name) == Some(prefix)).then(|| rename(&name[prefix.len()..], layout.names)).filter(is_kept));
        let tensors = Tensors(&own);
        found.push(Found { config: (layout.config)(&tensors)?, pipeline: (layout.pipeline)(&tensors), checkpoint: own });
    }
    let strangers = checkpoint.names().filter(|name| owner(name).is_none()).map(String::from).collect();
    Ok((found, strangers))
}

/// The tensors under the names of the reference, whichever layout they have; unchanged if they have none that is known.
#[must_use]
pub fn adapt(checkpoint: &Checkpoint) -> Option<Checkpoint> {
    let (layout, prefix) = layouts().find_map(|layout| Some((layout, layout.prefix_in(checkpoint)?)))?;
    let named = |name: &str| Some(rename(name.strip_prefix(prefix).unwrap_or(name), layout.names)).filter(is_kept);
    (!prefix.is_empty() || !layout.names.is_empty()).then(|| checkpoint.renamed(named))
}

fn layouts() -> impl Iterator<Item = &'static Layout> {
    FAMILIES.iter().flat_map(|family| family.layouts)
}

impl Layout {
    fn prefix_in(&self, checkpoint: &Checkpoint) -> Option<&'static str> {
        self.prefixes.iter().copied().find(|prefix| checkpoint.contains(&format!("{prefix}{}", self.mark)))
    }
}

/// Whether the reference has the tensor: of one that it lacks, tables give the name `-`.
#[expect(clippy::ptr_arg, reason = "for `Option<String>::filter`")]
fn is_kept(name: &String) -> bool {
    !name.starts_with('-')
}

/// A name in the words of the reference.
pub(crate) fn rename(name: &str, tables: &[&str]) -> String {
    walk(name, tables, false)
}

/// Takes a name through the tables, or `back` from the right column to the left.
fn walk(name: &str, tables: &[&str], back: bool) -> String {
    let (mut renamed, mut rest) = (String::new(), name);
    for table in tables {
        let taken = table.lines().find_map(|line| {
            let (from, to) = line.split_once(' ')?;
            if back { replace(rest, to, from) } else { replace(rest, from, to) }
        });
        if let Some((new, left)) = taken {
            renamed += &new;
            rest = left;
        }
    }
    renamed + rest
}

/// A name of the reference in the words of every layout that has others.
pub fn inverse(name: &str) -> Vec<String> {
    layouts().filter(|layout| !layout.names.is_empty()).map(|layout| walk(name, layout.names, true)).filter(|other| other != name).collect()
}

/// If `name` begins with the words of `from`, those of `to` with the same numbers, and what is left of the name.
fn replace<'n>(name: &'n str, from: &str, to: &str) -> Option<(String, &'n str)> {
    let (mut rest, mut numbers) = (name, Vec::new());
    for (i, word) in from.split('.').enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('.')?;
        }
        let end = rest.find('.').unwrap_or(rest.len());
        let (found, left) = rest.split_at(end);
        if word == "N" && !found.is_empty() && found.bytes().all(|byte| byte.is_ascii_digit()) {
            numbers.push(found);
        } else if word != found {
            return None;
        }
        rest = left;
    }
    let mut numbers = numbers.into_iter();
    let words: Vec<&str> = to.split('.').map(|word| if word == "N" { numbers.next().unwrap_or(word) } else { word }).collect();
    Some((words.join("."), rest))
}

/// Shapes of tensors, for what they say of a configuration.
pub struct Tensors<'a>(&'a Checkpoint);

impl Tensors<'_> {
    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// The extents of a tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.0.entry(name)?.shape)
    }

    /// One extent of a tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`] if it has fewer.
    pub fn extent(&self, name: &str, axis: usize) -> Result<usize> {
        let shape = self.shape(name)?;
        let wrong = || Error::WrongShape { name: name.into(), expected: format!("{} extents or more", axis + 1), found: shape.to_vec() };
        shape.get(axis).copied().filter(|extent| *extent > 0).ok_or_else(wrong)
    }

    /// How many numbers follow `scope` and a dot: the number of blocks.
    pub fn count(&self, scope: &str) -> usize {
        let number = |name: &str| name.strip_prefix(scope)?.strip_prefix('.')?.split('.').next()?.parse::<usize>().ok();
        // Names are in alphabetical order, which numbers are not.
        self.0.names().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    /// The file's header has this text.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.0.metadata(key)
    }

    /// An error in what the tensors imply.
    pub fn invalid(&self, problem: impl Into<String>) -> Error {
        Error::InvalidConfig { file: self.0.label().into(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_the_beginning_of_a_name_in_turn() {
        let tables = ["blocks.N layers.N\nhead.0 out", ".norm3 .norm2\n.norm2 .norm3\n.attn .attention", ".q .to_q"];
        let renamed = |name: &str| rename(name, &tables);
        assert_eq!(renamed("blocks.12.norm3.weight"), "layers.12.norm2.weight", "a swap happens once");
        assert_eq!(renamed("blocks.0.norm2.bias"), "layers.0.norm3.bias");
        assert_eq!(renamed("blocks.0.attn.q.weight"), "layers.0.attention.to_q.weight", "three tables");
        assert_eq!(renamed("blocks.0.attention.query"), "layers.0.attention.query", "words are whole");
        assert_eq!(renamed("blocks.x.norm2"), "blocks.x.norm2", "no number");
        assert_eq!(renamed("head.0"), "out");
    }
}

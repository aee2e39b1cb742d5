//! Named kinds of damage: each makes files that are wrong in one way, or right and unusual.

mod gguf;
mod json;
mod media;
mod safetensors;

use crate::random::{Random, damage};
use crate::targets::{self, Target};

/// A kind of file.
pub struct Kind {
    /// The format, as the target is called.
    pub target: &'static str,
    /// What is done to it.
    pub name: String,
    /// Who reads it.
    pub read: Target,
    /// Makes one.
    pub make: Box<dyn Fn(&mut Random) -> Vec<u8>>,
    /// What it must be: accepted, refused, or either.
    pub accepted: Option<bool>,
}

/// Makes a file of a format, spoilt in the way of this name.
type Maker = fn(&str, &mut Random) -> Vec<u8>;

/// All kinds.
#[must_use]
pub fn all() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut add = |target: &'static str, read: Target, make: Maker, names: &[&'static str], accepted| {
        kinds.extend(names.iter().map(|&name| Kind {
            target,
            name: format!("{target}: {name}"),
            read,
            make: Box::new(move |random| make(name, random)),
            accepted: Some(accepted),
        }));
    };
    add("weights", targets::weights, safetensors::file, &safetensors::BAD, false);
    add("weights", targets::weights, safetensors::file, &safetensors::GOOD, true);
    add("weights", targets::weights, gguf::file, &gguf::BAD, false);
    add("weights", targets::weights, gguf::file, &gguf::GOOD, true);
    let objects: [(&str, Target, Maker, &[&'static str]); 4] = [
        ("config", targets::config, json::config, &json::BAD_CONFIG),
        ("index", targets::index, json::index, &json::BAD_INDEX),
        ("tokenizer", targets::tokenizer, json::tokenizer, &json::BAD_TOKENIZER),
        ("options", targets::options, json::options, &json::BAD_OPTIONS),
    ];
    for (target, read, make, bad) in objects {
        add(target, read, make, &json::BAD_TEXT, false);
        add(target, read, make, bad, false);
        add(target, read, make, &["as written"], true);
    }
    add("media", targets::media, media::file, &media::BAD, false);
    add("media", targets::media, media::file, &media::GOOD, true);
    // Good files that something happened to, of which nobody knows what is left.
    let mut damaged = |target: &'static str, read: Target, make: Maker, from: &'static str| {
        kinds.push(Kind {
            target,
            name: format!("{target}: `{from}` damaged"),
            read,
            make: Box::new(move |random| {
                let mut bytes = make(from, random);
                damage(&mut bytes, random);
                bytes
            }),
            accepted: None,
        });
    };
    damaged("weights", targets::weights, safetensors::file, safetensors::GOOD[0]);
    damaged("weights", targets::weights, gguf::file, gguf::GOOD[0]);
    objects.iter().for_each(|(target, read, make, _)| damaged(target, *read, *make, "as written"));
    media::GOOD.iter().for_each(|from| damaged("media", targets::media, media::file, from));
    kinds
}

/// Cuts off something, but not everything.
fn cut(bytes: &mut Vec<u8>, random: &mut Random) {
    bytes.truncate(1 + random.below(bytes.len() - 1));
}

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
    add("config", targets::config, json::config, &json::BAD_CONFIG, false);
    add("config", targets::config, json::config, &["as published"], true);
    add("index", targets::index, json::index, &json::BAD_INDEX, false);
    add("index", targets::index, json::index, &["as published"], true);
    add("tokenizer", targets::tokenizer, json::tokenizer, &json::BAD_TOKENIZER, false);
    add("tokenizer", targets::tokenizer, json::tokenizer, &["as published"], true);
    add("media", targets::media, media::file, &media::BAD, false);
    add("media", targets::media, media::file, &media::GOOD, true);
    add("options", targets::options, json::options, &json::BAD_OPTIONS, false);
    add("options", targets::options, json::options, &["as written"], true);
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
    damaged("config", targets::config, json::config, "as published");
    damaged("index", targets::index, json::index, "as published");
    damaged("tokenizer", targets::tokenizer, json::tokenizer, "as published");
    damaged("options", targets::options, json::options, "as written");
    media::GOOD.iter().for_each(|from| damaged("media", targets::media, media::file, from));
    kinds
}

/// Cuts off something, but not everything.
fn cut(bytes: &mut Vec<u8>, random: &mut Random) {
    bytes.truncate(1 + random.below(bytes.len() - 1));
}

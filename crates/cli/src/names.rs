//! What a clip gets that nobody named: a seed, and a name for its file.

use std::{
    hash::{BuildHasher as _, Hasher as _},
    path::PathBuf,
};

use crate::{args::GenerateArgs, models};

/// Longest part of a prompt that becomes a file name, in characters.
const NAME_CHARS: usize = 40;

/// Small enough to be exact in JSON and short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    // The standard library seeds its hash maps from the operating system.
    std::hash::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// That of an image for one frame, where that is asked for or what the model makes.
fn extension(args: &GenerateArgs) -> &'static str {
    let one = args.frames.map_or_else(|| models::makes_images(&args.model), |frames| frames == 1);
    if one { "png" } else { "mp4" }
}

/// A name from the prompt and the seed that is not taken yet.
pub(crate) fn default_path(prompt: &str, seed: u64, args: &GenerateArgs) -> PathBuf {
    let extension = extension(args);
    let name = file_name(prompt);
    let numbered = |n: u32| match n {
        1 => PathBuf::from(format!("{name}-{seed}.{extension}")),
        n => PathBuf::from(format!("{name}-{seed}-{n}.{extension}")),
    };
    (1..).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(1))
}

fn file_name(prompt: &str) -> String {
    let words = prompt.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    let name: String = name.chars().take(NAME_CHARS).collect();
    match name.trim_end_matches('-') {
        "" => "clip".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_become_harmless_file_names() {
        for (prompt, expected) in [
            ("a rocket flying, on a Blue background!", "a-rocket-flying-on-a-blue-background"),
            ("../../etc/passwd", "etc-passwd"),
            ("", "clip"),
            ("🚀🚀", "clip"),
            ("über 火箭", "über-火箭"),
        ] {
            assert_eq!(file_name(prompt), expected);
        }
        assert_eq!(file_name(&"long ".repeat(50)).chars().count(), NAME_CHARS - 1);
    }

    #[test]
    fn random_seeds_differ_and_fit_json() {
        let seeds: std::collections::HashSet<_> = (0..32).map(|_| random_seed()).collect();
        assert!(seeds.len() > 30, "{seeds:?}");
        assert!(seeds.iter().all(|&seed| seed < 1 << 53), "{seeds:?}");
    }
}

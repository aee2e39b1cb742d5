//! Many generations of one command: the lines of a batch file, or one request with several seeds.
//!
//! A line is a JSON object of the flags of `kinora generate`, so the command line checks both in the same way.

use std::{
    env,
    ffi::OsString,
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::{CommandFactory as _, FromArgMatches as _};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    args::{Cli, Command, GenerateArgs},
    failure::{Exit, Failure},
};

/// What all generations share, because they share one model in memory.
const SHARED: [&str; 13] = [
    "model",
    "transformer",
    "vae",
    "decoder",
    "text-encoder",
    "tokenizer",
    "lora",
    "dtype",
    "device",
    "executor",
    "batch",
    "resume",
    "shard",
];

/// More than a batch of thousands of long lines.
const MAX_BATCH_BYTES: u64 = 64 << 20;

/// Text of at most so many bytes, without the byte order mark that editors on Windows put in front.
pub(crate) fn read_text(from: impl io::Read, most_bytes: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    if from.take(most_bytes + 1).read_to_end(&mut bytes)? as u64 > most_bytes {
        return Err(io::Error::other(format!("it is longer than {most_bytes} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// The arguments of each generation.
pub(crate) fn expand(args: &GenerateArgs) -> Result<Vec<GenerateArgs>, Failure> {
    let mut empty = false;
    let lines = match &args.many.batch {
        None => vec![args.clone()],
        Some(path) => {
            let open = kinora_media::open_input(path).map(kinora_media::Input::patient);
            let text = open.and_then(|file| read_text(file, MAX_BATCH_BYTES)).map_err(|error| {
                let message = format!("cannot read the batch from `{}`: {error}", path.display());
                Failure::new(Exit::Usage, "bad-batch", message).hint("one JSON object per line, in UTF-8")
            })?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            // All are looked at, so that a wrong line is found by whoever does any.
            let mine = |number: usize| args.many.shard.is_none_or(|shard| shard.has(number as u64));
            let own = without_batch(env::args_os().collect());
            let jobs = lines.map(|(i, line)| {
                job(&own, line, args.many.resume).map_err(|problem| {
                    let message = format!("`{}` line {}: {problem}", path.display(), i + 1);
                    Failure::new(Exit::Usage, "bad-batch", message)
                        .hint(r#"a line is like {"prompt": "a fox", "seed": 7, "output": "fox.gif"}"#)
                })
            });
            let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
            empty = jobs.is_empty();
            jobs.into_iter().enumerate().filter(|(number, _)| mine(*number)).map(|(_, job)| job).collect()
        }
    };
    if empty {
        return Err(Failure::new(Exit::Usage, "bad-batch", "the batch holds no generation").hint("one JSON object per line"));
    }
    if let Some(args) = lines.iter().find(|args| args.variations > 1 && args.output.as_deref() == Some("-".as_ref())) {
        let message = format!("standard output cannot carry {} clips", args.variations);
        return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give -o FILE"));
    }
    Ok(lines.into_iter().flat_map(|args| variations(&args)).collect())
}

/// One request with as many seeds as asked for.
fn variations(args: &GenerateArgs) -> Vec<GenerateArgs> {
    let seed = args.seed.unwrap_or_else(crate::names::random_seed);
    let varied = |i: u32| {
        let seed = seed.wrapping_add(i.into());
        let own =
            |path: &Option<PathBuf>| path.as_deref().map(|path| if args.variations == 1 { path.to_owned() } else { with_seed(path, seed) });
        let (output, latents_out) = (own(&args.output), own(&args.latents_out));
        GenerateArgs { seed: Some(seed), output, latents_out, ..args.clone() }
    };
    (0..args.variations).map(varied).collect()
}

/// `clip-7.gif` for `clip.gif`, and `frames-7/` for a folder.
fn with_seed(path: &Path, seed: u64) -> PathBuf {
    let is_folder = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let (stem, extension) = if is_folder { (path.file_name(), None) } else { (path.file_stem(), path.extension()) };
    let mut name = stem.unwrap_or_default().to_owned();
    name.push(format!("-{seed}"));
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    if is_folder {
        name.push("/");
    }
    path.with_file_name(name)
}

/// The words of this process without those that are about the batch as a whole.
pub(crate) fn without_batch(words: Vec<OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--batch" | "--shard") => drop(words.next()),
            Some("--resume") => {}
            Some(text) if text.starts_with("--batch=") || text.starts_with("--shard=") => {}
            _ => kept.push(word),
        }
    }
    kept
}

/// The flags of one line.
pub(crate) fn flags(line: &str) -> Result<Map<String, Value>, String> {
    let Flags(flags) = serde_json::from_str(line).map_err(|error| error.to_string())?;
    Ok(flags)
}

/// The arguments of one line on top of those of the command.
pub(crate) fn job(own: &[OsString], line: &str, resume: bool) -> Result<GenerateArgs, String> {
    let mut flags = flags(line)?;
    // Names the job where lines are answered one by one.
    flags.remove("id");
    job_of(own, &flags, resume)
}

/// The arguments of one line's flags on top of those of the command.
pub(crate) fn job_of(own: &[OsString], flags: &Map<String, Value>, resume: bool) -> Result<GenerateArgs, String> {
    let mut words = own.to_vec();
    for (name, value) in flags {
        let flag = kebab(name);
        if SHARED.contains(&flag.as_str()) {
            return Err(format!("`{name}` is the same for the whole batch; give --{flag} to the command"));
        }
        words.extend(flag_words(&flag, value)?);
    }
    // What a line says comes later, hence replaces what the command says.
    let again = |command: clap::Command| command.args_override_self(true);
    let command = Cli::command().mut_subcommand("generate", again).mut_subcommand("plan", again);
    let parsed = command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    // Without the usage that follows the problem.
    let problem = |error: clap::Error| error.to_string().split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    match parsed.map_err(problem)?.command {
        Command::Generate(mut args) | Command::Plan(mut args) => {
            args.many.line = true;
            args.many.any_seed = args.seed.is_none();
            args.many.resume = resume;
            Ok(*args)
        }
        other => Err(format!("not a generation: {other:?}")),
    }
}

/// The names and values of a line, each name once.
struct Flags(Map<String, Value>);

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Flags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of flags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flags, A::Error> {
                let mut flags = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if flags.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("`{name}` stands there twice")));
                    }
                }
                Ok(Flags(flags))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// `lastImage` as the command line spells it.
pub(crate) fn kebab(name: &str) -> String {
    name.chars().flat_map(|c| c.is_uppercase().then_some('-').into_iter().chain(c.to_lowercase())).collect()
}

fn flag_words(flag: &str, value: &Value) -> Result<Vec<OsString>, String> {
    Ok(match value {
        Value::Bool(true) => vec![format!("--{flag}").into()],
        Value::Bool(false) | Value::Null => Vec::new(),
        Value::String(text) => vec![format!("--{flag}={text}").into()],
        Value::Number(number) => vec![format!("--{flag}={number}").into()],
        // As the npm package has them.
        Value::Array(levels) if flag == "sigmas" => {
            vec![format!("--{flag}={}", levels.iter().map(Value::to_string).collect::<Vec<_>>().join(",")).into()]
        }
        Value::Array(bounds) if flag == "guidance-interval" => {
            let [low, high] = bounds.as_slice() else { return Err(format!("`{flag}` has {} bounds, expected 2", bounds.len())) };
            vec![format!("--{flag}={low}..{high}").into()]
        }
        Value::Array(values) => values.iter().map(|value| flag_words(flag, value)).collect::<Result<Vec<_>, _>>()?.concat(),
        Value::Object(_) => return Err(format!("`{flag}` is an object; expected text, a number, true or a list of these")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<GenerateArgs, String> {
        job(&["kinora", "generate", "--steps", "4", "-s", "1", "--json"].map(OsString::from), line, false)
    }

    #[test]
    fn lines_are_flags_that_replace_those_of_the_command() -> Result<(), String> {
        let args =
            parse(r#"{"prompt": "-a fox", "seed": 18446744073709551615, "lastImage": "b.png", "keyframe": ["3=a.png", "5=c.png"]}"#)?;
        assert_eq!((args.prompt_option.as_deref(), args.seed, args.steps), (Some("-a fox"), Some(u64::MAX), Some(4)));
        assert_eq!((args.given.last_image, args.given.keyframe.len()), (Some("b.png".into()), 2));
        assert!(parse(r#"{"prompt": "a", "loop": true, "video": "v.gif", "mask": null}"#)?.given.repeat);
        Ok(())
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, part) in [
            ("", "EOF"),
            ("[]", "invalid type"),
            (r#"{"prompt": "a", "prompt": "b"}"#, "`prompt` stands there twice"),
            (r#"{"seed": 1}"#, "required"),
            (r#"{"prompt": "a", "colour": "red"}"#, "--colour"),
            (r#"{"prompt": "a", "model": "other"}"#, "same for the whole batch"),
            (r#"{"prompt": "a", "steps": {}}"#, "object"),
            (r#"{"prompt": "a", "guidanceInterval": [0.5]}"#, "1 bounds"),
            (r#"{"prompt": "a", "steps": 0}"#, "0"),
            (r#"{"prompt": "a", "loop": true}"#, "--video"),
        ] {
            let problem = parse(line).expect_err(line);
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }

    #[test]
    fn damaged_lines_are_lines_or_problems() {
        let line = r#"{"prompt": "a fox", "seed": 7, "size": "64x32", "keyframe": ["3=a.png"], "then": ["it runs"], "output": "a.gif"}"#;
        let mut random = 20_261_128_u64;
        let mut below = |limit: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % limit
        };
        let mut accepted = 0;
        for _ in 0..400 {
            let mut damaged: Vec<char> = line.chars().collect();
            for _ in 0..=below(3) {
                let at = below(damaged.len());
                match below(4) {
                    _ if damaged.len() < 9 => damaged.push('x'),
                    0 => damaged.truncate(at + 1),
                    1 => drop(damaged.remove(at)),
                    2 => damaged[at] = ['"', '{', ']', '\\', '\u{1b}', '-', '9', 'ß'][below(8)],
                    _ => damaged.insert(at, [':', ',', '[', '0', 'e', '=', '\u{feff}', '/'][below(8)]),
                }
            }
            let text: String = damaged.into_iter().collect();
            match parse(&text) {
                Ok(args) => accepted += usize::from(args.prompt_option.is_some()),
                Err(problem) => assert!(!problem.is_empty(), "{text}"),
            }
        }
        assert!((1..400).contains(&accepted), "{accepted} of 400, the letters of the prompt may change");
    }

    #[test]
    fn the_batch_itself_is_left_out() {
        let words =
            ["kinora", "generate", "--batch", "a.jsonl", "--batch=b", "--shard", "0/2", "--resume", "-y"].map(OsString::from).to_vec();
        assert_eq!(without_batch(words), ["kinora", "generate", "-y"].map(OsString::from));
    }

    #[test]
    fn variations_count_up_from_the_seed() -> Result<(), String> {
        let args = GenerateArgs { variations: 3, output: Some("dir/a.gif".into()), ..parse(r#"{"prompt": "a", "seed": 7}"#)? };
        let found: Vec<_> = variations(&args).into_iter().map(|a| (a.seed, a.output)).collect();
        let expected = [7, 8, 9].map(|seed: u64| (Some(seed), Some(format!("dir/a-{seed}.gif").into())));
        assert_eq!(found, expected);
        assert_eq!(with_seed("dir/frames/".as_ref(), 7), Path::new("dir/frames-7/"));
        assert!(with_seed("frames/".as_ref(), 7).as_os_str().as_encoded_bytes().ends_with(b"/"), "still a folder");
        Ok(())
    }
}

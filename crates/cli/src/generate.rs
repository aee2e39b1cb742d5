//! `kinora generate`: a prompt becomes a file.

use std::{
    ffi::OsString,
    fs,
    hash::{BuildHasher as _, Hasher as _},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use kinora_media::{Claim, Output, Place};
use kinora_runtime::Options;
use serde_json::{Value, json};

use crate::{
    Report,
    args::{ConsoleArgs, GenerateArgs},
    batch, expand,
    failure::{Exit, Failure},
    given::Given,
    interrupt, models, options, parts,
    progress::Renderer,
    run::{self, Event, Metadata},
    writers::{Clip, Outcome, Writers, head},
};

/// Longest part of a prompt that becomes a file name, in characters.
const NAME_CHARS: usize = 40;
/// Text encoders read some hundred words; a file this long is none of a prompt.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

pub(crate) fn generate(args: &GenerateArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    let begun = Instant::now();
    // Everything that can be wrong about inputs and outputs is found before minutes of work.
    let mut tasks = batch::expand(args)?.into_iter().map(|args| Task::open(args, console)).collect::<Result<Vec<_>, _>>()?;
    check_collisions(&tasks)?;
    let to_stdout = tasks.iter().any(|task| task.path == Path::new("-"));
    let folder = models::find(&args.model)?;

    let mut renderer = Renderer::stderr(console);
    for task in &mut tasks {
        if let Some(expanded) = expand::expand(&task.args, &task.prompt, task.seed, &folder)? {
            renderer.show(&Event::Note { text: format!("prompt: {expanded}") });
            task.original = Some(std::mem::replace(&mut task.prompt, expanded));
        }
    }
    let device = run::open_device(&args.device)?;
    let mut pipeline = parts::load(&device, &folder, &args.parts, args.dtype)?;
    pipeline.set_memory(args.memory);
    for report in pipeline.loras() {
        renderer.show(&Event::Note { text: report.to_string() });
    }
    let load_ms = millis(begun);
    let mut requests = Vec::with_capacity(tasks.len());
    let mut described = Vec::with_capacity(tasks.len());
    let understood = run::understand(&tasks.iter().map(|task| (task.options(), &task.given)).collect::<Vec<_>>(), &pipeline)?;
    for (task, (options, wording)) in tasks.iter().zip(understood) {
        let check = |clip: &Metadata| Ok(task.output.check(&head(clip, Some(clip.frames).filter(|frames| *frames > 0))?)?);
        let note = &mut |text| renderer.show(&Event::Note { text });
        let (request, metadata) = run::request(options, &task.args, &task.given, &pipeline, &check, note)?;
        renderer.show(&Event::Start(Box::new(metadata.clone())));
        wording.iter().for_each(|wording| renderer.show(wording));
        requests.push(request);
        described.push(metadata);
    }

    let lengths = requests.iter().map(|request| Ok(pipeline.finished_frames(request)?)).collect::<Result<Vec<_>, Failure>>()?;
    let clips = tasks.into_iter().zip(described).zip(lengths).map(|((task, metadata), frames)| task.clip(metadata, frames));
    let mut writers = Writers::new(clips.collect(), renderer);
    let generating = Instant::now();
    let finished = interrupt::polite(|| run::generate(&pipeline, &requests, &mut writers));
    let (written, writing, mut renderer) = writers.ended();
    renderer.clear();
    finished?;
    renderer.show(&Event::Done);
    let write_ms = writing.as_millis() as u64;
    let generate_ms = millis(generating).saturating_sub(write_ms);

    let timings = json!({ "load": load_ms, "generate": generate_ms, "write": write_ms, "total": millis(begun) });
    if console.verbose {
        let encoder = written.iter().flatten().next().map_or("", |(_, clip)| clip["encoder"].as_str().unwrap_or_default());
        eprintln!("device   {}\nmodel    {}\nencoder  {encoder}", device.name(), folder.display());
        for (stage, ms) in timings.as_object().into_iter().flatten() {
            eprintln!("{stage:<8} {ms} ms");
        }
    }
    let mut report = reported(written, args.batch.is_none(), to_stdout)?;
    let peak = device.memory().peak;
    merge(&mut report.json, json!({ "device": device.name(), "peakDeviceBytes": peak, "timingsMs": timings }));
    Ok(report)
}

/// Whether two files of this command would be the same, however they are spelled.
fn check_collisions(tasks: &[Task]) -> Result<(), Failure> {
    let claims: Vec<_> = tasks.iter().flat_map(Task::claims).collect();
    for (i, (path, claim)) in claims.iter().enumerate() {
        if let Some((other, _)) = claims[..i].iter().find(|(_, other)| other.collides(claim)) {
            let [a, b] = [other, path].map(|path| path.display());
            let message =
                if other == path { format!("two files would be written to `{a}`") } else { format!("`{a}` and `{b}` are the same file") };
            return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give each its own output"));
        }
    }
    Ok(())
}

/// The clips of a command that ran to its end: what was written, and which of them failed. `alone` is no batch.
fn reported(clips: Vec<Outcome>, alone: bool, to_stdout: bool) -> Result<Report, Failure> {
    let count = clips.len();
    let mut failed: Vec<Failure> = Vec::new();
    let (mut paths, mut json) = (Vec::new(), Vec::new());
    for clip in clips {
        match clip {
            Ok((path, clip)) => {
                paths.push(path);
                json.push(clip);
            }
            // Alone it is all there is to say.
            Err(failure) if count == 1 => return Err(failure),
            Err(failure) => {
                json.push(failure.to_json());
                failed.push(failure);
            }
        }
    }
    let mut messages: Vec<_> = failed.iter().map(|failure| failure.message.clone()).collect();
    messages.dedup();
    let written: Vec<_> = paths.iter().map(|path| shown_path(path)).collect();
    let written = if written.is_empty() { "none".to_owned() } else { written.join(", ") };
    messages.push(format!("{} of {count} clips were written: {written}", paths.len()));
    // The first decides how the command ends.
    let failure = failed.into_iter().next().map(|first| Failure { message: messages.join("\n"), ..first });
    // As it is, not as it is shown: scripts open it.
    let mut text = OsString::new();
    for path in paths.iter().filter(|_| !to_stdout) {
        text.push(if text.is_empty() { "" } else { "\n" });
        text.push(path);
    }
    let json = match json.pop() {
        Some(one) if alone && count == 1 => one,
        last => json!({ "clips": json.into_iter().chain(last).collect::<Vec<_>>() }),
    };
    Ok(Report { text, json, failure })
}

/// One clip to make, with its inputs read and its output checked.
pub(crate) struct Task {
    args: GenerateArgs,
    prompt: String,
    /// The prompt before expansion.
    original: Option<String>,
    seed: u64,
    path: PathBuf,
    output: Output,
    /// Where the final latents go, if they are wanted.
    latents: Option<Place>,
    given: Given,
}

impl Task {
    pub(crate) fn open(args: GenerateArgs, console: &ConsoleArgs) -> Result<Self, Failure> {
        let prompt = read_prompt(&args)?;
        let seed = args.seed.unwrap_or_else(random_seed);
        let path = args.output.clone().unwrap_or_else(|| default_path(&prompt, seed));
        if path == Path::new("-") && console.json {
            let message = "standard output cannot carry both the clip (-o -) and the JSON result (--json)";
            return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give -o FILE"));
        }
        let output = Output::open(&path, args.format, args.overwrite)?;
        let output = if args.output.is_none() { output.numbered() } else { output };
        let latents = args.latents_out.as_deref().map(|path| Place::open(path, args.overwrite)).transpose()?;
        let given = Given::open(&args.given)?;
        Ok(Self { args, prompt, original: None, seed, path, output, latents, given })
    }

    /// What this writes, and where.
    fn claims(&self) -> Vec<(&Path, Claim)> {
        let latents = self.args.latents_out.as_deref().zip(self.latents.as_ref().map(Place::claim));
        [(self.path.as_path(), self.output.claim())].into_iter().chain(latents).collect()
    }

    pub(crate) fn args(&self) -> &GenerateArgs {
        &self.args
    }

    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    pub(crate) fn options(&self) -> Options {
        options::options(&self.args, &self.prompt, self.original.as_deref(), self.seed)
    }

    /// What writes it; `frames` are those of the finished clip, if it has an end.
    fn clip(self, metadata: Metadata, frames: Option<usize>) -> Clip {
        Clip { output: self.output, latents: self.latents, metadata, frames }
    }
}

/// A path as JSON and messages hold it; what is no Unicode is shown as such.
pub(crate) fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

fn read_prompt(args: &GenerateArgs) -> Result<String, Failure> {
    let given = args.prompt.as_deref().or(args.prompt_option.as_deref());
    let unreadable = |source: &str, error: io::Error| {
        Failure::new(Exit::Usage, "prompt-unreadable", format!("cannot read the prompt from {source}: {error}"))
            .hint("the prompt must be UTF-8 text of at most 1 MB")
    };
    let prompt = match (given, &args.prompt_file) {
        (Some("-"), _) => batch::read_text(io::stdin(), MAX_PROMPT_BYTES).map_err(|error| unreadable("standard input", error))?,
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) => fs::File::open(path)
            .and_then(|file| batch::read_text(file, MAX_PROMPT_BYTES))
            .map_err(|error| unreadable(&format!("`{}`", path.display()), error))?,
        (None, None) => String::new(),
    };
    Ok(prompt.trim_end_matches(['\r', '\n']).to_owned())
}

/// Small enough to be exact in JSON and short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    // The standard library seeds its hash maps from the operating system.
    std::hash::RandomState::new().build_hasher().finish() & 0xffff_ffff
}

/// A name from the prompt and the seed that is not taken yet.
fn default_path(prompt: &str, seed: u64) -> PathBuf {
    let name = file_name(prompt);
    let numbered = |n: u32| match n {
        1 => PathBuf::from(format!("{name}-{seed}.mp4")),
        n => PathBuf::from(format!("{name}-{seed}-{n}.mp4")),
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

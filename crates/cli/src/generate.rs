//! `kinora generate`: a prompt becomes a file.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use kinora_media::{Claim, Format, Made, Output, Place};
use kinora_runtime::Options;
use serde_json::{Value, json};

use crate::{
    Report,
    args::{ConsoleArgs, GenerateArgs},
    batch, expand,
    failure::{Exit, Failure},
    given::Given,
    interrupt,
    maker::{Admitted, Jobs, Maker},
    models,
    names::{default_path, random_seed},
    options, parts,
    progress::Renderer,
    run::{self, CancelToken, Event, GenerateRequest, Metadata, VideoPipeline},
    saved_kernels::KeptKernels,
    worker,
    writers::{Clip, Outcome, Written},
};

/// Text encoders read some hundred words; a file this long is none of a prompt.
const MAX_PROMPT_BYTES: u64 = 1 << 20;

pub(crate) fn generate(args: &GenerateArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    if args.many.is_worker() {
        if args.text_states_out.is_some() {
            let message = "--text-states-out writes one file at the end, and a worker has none";
            return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give it with a batch in a file"));
        }
        return worker::work(args, console);
    }
    let made = make_all(args, batch::expand(args)?, console, &|_| Ok(()))?;
    let mut report = reported(made.clips, args.many.batch.is_none(), made.to_stdout)?;
    merge(&mut report.json, made.told);
    Ok(report)
}

/// What came of the clips of one command.
pub(crate) struct Done {
    pub(crate) clips: Vec<Outcome>,
    to_stdout: bool,
    /// Device, memory and times.
    told: Value,
}

/// Makes the clips of `jobs`, which share model and device with `args`; `check` looks at what they will be before anything is computed.
pub(crate) fn make_all(
    args: &GenerateArgs,
    jobs: Vec<GenerateArgs>,
    console: &ConsoleArgs,
    check: &dyn Fn(&[Metadata]) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    let begun = Instant::now();
    // Everything that can be wrong about inputs and outputs is found before minutes of work.
    let mut tasks = jobs.into_iter().map(|args| Task::open(args, console)).collect::<Result<Vec<_>, _>>()?;
    check_collisions(&tasks)?;
    let to_stdout = tasks.iter().any(|task| task.path == Path::new("-"));
    let folder = models::find(&args.model)?;

    let mut renderer = Renderer::stderr(console);
    renderer.pictures = args.show;
    tasks.iter_mut().try_for_each(|task| task.expand(&folder, &mut renderer))?;
    let pipeline = load(args, &folder, &mut renderer)?;
    let kept = KeptKernels::of(&pipeline.device());
    let load_ms = millis(begun);
    let mut maker = Maker::new(&pipeline, renderer);
    check(&tasks.iter().map(|task| maker.check(task)).collect::<Result<Vec<_>, _>>()?)?;

    let states = args.text_states_out.as_deref().map(|path| Place::open(path, args.overwrite)).transpose()?;
    let mut listed = Listed { outcomes: tasks.iter().map(|_| None).collect(), waiting: tasks.into_iter().enumerate().collect() };
    let finished = interrupt::polite(|| maker.run(&mut listed));
    maker.renderer.clear();
    finished?;
    if let Some(place) = states {
        let file = pipeline.text_states_file()?;
        place.write(&mut |out| Ok(out.write_all(&file)?))?;
    }
    maker.renderer.show(&Event::Done);

    let clips: Vec<Outcome> = listed.outcomes.into_iter().flatten().collect();
    let [generate_ms, write_ms] = [maker.generating, maker.writing].map(|time| time.as_millis() as u64);
    let timings = json!({ "load": load_ms, "generate": generate_ms, "write": write_ms, "total": millis(begun) });
    let device = pipeline.device().name();
    if console.verbose {
        let encoder = clips.iter().flatten().next().map_or("", |clip| clip.json["encoder"].as_str().unwrap_or_default());
        eprintln!("device   {device}\nmodel    {}\nencoder  {encoder}", folder.display());
        for (stage, ms) in timings.as_object().into_iter().flatten() {
            eprintln!("{stage:<8} {ms} ms");
        }
    }
    let peak = pipeline.device().memory().peak;
    let told = json!({ "device": device, "peakDeviceBytes": peak, "savedKernels": kept.outcome.name(), "timingsMs": timings });
    Ok(Done { clips, to_stdout, told })
}

/// The model that a command asks for, on its device.
pub(crate) fn load(args: &GenerateArgs, folder: &Path, renderer: &mut Renderer<io::Stderr>) -> Result<VideoPipeline, Failure> {
    let device = run::open_device(&args.device)?;
    let mut pipeline = parts::load(&device, folder, &args.parts, args.dtype)?;
    pipeline.set_memory(args.memory);
    for report in pipeline.loras() {
        renderer.show(&Event::Note { text: report.to_string() });
    }
    Ok(pipeline)
}

/// The tasks of one command, whose outcomes are told together at its end.
struct Listed {
    waiting: VecDeque<(usize, Task)>,
    outcomes: Vec<Option<Outcome>>,
}

impl Jobs for Listed {
    type Tag = usize;

    fn more(&mut self, most: usize, _wait: bool) -> Vec<(usize, Task)> {
        self.waiting.drain(..most.min(self.waiting.len())).collect()
    }

    fn begin(&mut self, pack: Vec<Admitted<usize>>, _stop: &CancelToken) -> Vec<Admitted<usize>> {
        pack
    }

    fn keep(&mut self, _at: &usize) -> bool {
        true
    }

    fn name<'a>(&self, _at: &'a usize) -> Option<&'a Value> {
        None
    }

    fn tell(&mut self, at: usize, outcome: Outcome) {
        self.outcomes[at] = Some(outcome);
    }
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
            Ok(clip) => {
                paths.push(clip.path);
                json.push(clip.json);
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
    /// What is at the output already, where that may be what would be made.
    made: Option<Made>,
}

impl Task {
    pub(crate) fn open(args: GenerateArgs, console: &ConsoleArgs) -> Result<Self, Failure> {
        let prompt = read_prompt(&args)?;
        let seed = args.seed.unwrap_or_else(random_seed);
        let path = args.output.clone().unwrap_or_else(|| default_path(&prompt, seed, &args));
        if path == Path::new("-") && console.json {
            let message = "standard output cannot carry both the clip (-o -) and the JSON result (--json)";
            return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give -o FILE"));
        }
        if args.many.resume && args.output.is_none() {
            let message = "a batch that is resumed must name its outputs: without one a clip is named after what is free";
            return Err(Failure::new(Exit::Usage, "output-unnamed", message).hint("give each line its \"output\""));
        }
        let made = if args.many.resume { Made::find(&path, args.format)? } else { None };
        // What was made from the same request, but not to its end, is made again.
        let output = Output::open(&path, args.format, args.overwrite || made.is_some())?;
        let output = if args.output.is_none() { output.numbered() } else { output };
        let latents = args.latents_out.as_deref().map(|path| Place::open(path, args.overwrite)).transpose()?;
        let given = Given::open(&args.given)?;
        Ok(Self { args, prompt, original: None, seed, path, output, latents, given, made })
    }

    /// What this writes, and where.
    pub(crate) fn claims(&self) -> Vec<(&Path, Claim)> {
        let latents = self.args.latents_out.as_deref().zip(self.latents.as_ref().map(Place::claim));
        [(self.path.as_path(), self.output.claim())].into_iter().chain(latents).collect()
    }

    /// Has the prompt rewritten, if that was asked for.
    pub(crate) fn expand(&mut self, folder: &Path, renderer: &mut Renderer<io::Stderr>) -> Result<(), Failure> {
        if let Some(expanded) = expand::expand(&self.args, &self.prompt, self.seed, folder)? {
            renderer.show(&Event::Note { text: format!("prompt: {expanded}") });
            self.original = Some(std::mem::replace(&mut self.prompt, expanded));
        }
        Ok(())
    }

    /// The clip, if a batch that goes on has made it before; why not, if another is in its place.
    pub(crate) fn found(&self, metadata: &Metadata) -> Option<Outcome> {
        let made = self.made.as_ref()?;
        let known = serde_json::from_str::<Value>(&made.comment).ok();
        if known.as_ref().is_none_or(|known| !self.is_same(known, metadata)) {
            if self.args.overwrite {
                return None;
            }
            let message = format!("`{}` exists and was not made from this request", self.path.display());
            return Some(Err(Failure::new(Exit::Output, "output-exists", message).hint("choose another output, or replace it by -y")));
        }
        let is_sequence = self.output.format() == Format::PngSequence;
        if !made.whole || (is_sequence && made.files != metadata.frames) {
            return None;
        }
        let mut json = known.unwrap_or_default();
        let result = json!({ "path": shown_path(&self.path), "format": self.output.format().name(), "sizeBytes": made.size_bytes });
        merge(&mut json, result);
        Some(Ok(Written { path: self.path.clone(), json, skipped: true }))
    }

    /// Whether what a file says is what it would say if it were made now, by whichever version. A seed that nobody chose may be any.
    fn is_same(&self, known: &Value, metadata: &Metadata) -> bool {
        // Numbers as reading them gives them.
        let new: Value = serde_json::from_str(&json!(metadata).to_string()).unwrap_or_default();
        let ignored: &[&str] = if self.args.many.any_seed { &["kinora", "seed"] } else { &["kinora"] };
        let compared = |value: &Value| {
            let mut value = value.clone();
            value.as_object_mut().into_iter().for_each(|fields| ignored.iter().for_each(|key| drop(fields.remove(*key))));
            value
        };
        compared(known) == compared(&new)
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
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
    pub(crate) fn clip(self, request: &GenerateRequest, metadata: Metadata, frames: Option<usize>) -> Clip {
        let preview_size = [request.width, request.height];
        Clip {
            output: self.output,
            latents: self.latents,
            metadata,
            frames,
            preview_size,
            resume: self.args.many.resume,
            confirm: self.args.confirm,
        }
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
        // A line stands in a file or comes through standard input itself.
        (Some("-"), _) if !args.many.line => {
            batch::read_text(io::stdin(), MAX_PROMPT_BYTES).map_err(|error| unreadable("standard input", error))?
        }
        (Some(text), _) => text.to_owned(),
        (None, Some(path)) => kinora_media::open_input(path)
            .and_then(|file| batch::read_text(file, MAX_PROMPT_BYTES))
            .map_err(|error| unreadable(&format!("`{}`", path.display()), error))?,
        (None, None) => String::new(),
    };
    Ok(prompt.trim_end_matches(['\r', '\n']).to_owned())
}

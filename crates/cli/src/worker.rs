//! `kinora generate --batch -`: jobs come as lines through standard input while others are made, and each is answered by one line.
//!
//! A line is a job, as in a batch file, with an `id` that its answer repeats, or `{"cancel": ID}`. A thread reads them, so that a
//! job can be cancelled while another is computed; what waits is packed as the pipeline packs a batch.

use std::{
    collections::{HashMap, VecDeque},
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use kinora_media::Claim;
use serde_json::{Map, Value, json};

use crate::{
    Report,
    args::{ConsoleArgs, GenerateArgs, Shard},
    batch,
    failure::{Exit, Failure},
    generate::{self, Task, shown_path},
    interrupt,
    lines::Lines,
    maker::{Admitted, Jobs, Maker},
    models,
    progress::Renderer,
    run::CancelToken,
    saved_kernels::KeptKernels,
    writers::Outcome,
};

/// Jobs that wait here; more stay in the pipe, whose writer then waits.
const MAX_WAITING: usize = 4096;
/// How soon a stop is noticed while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);

pub(crate) fn work(args: &GenerateArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    let folder = models::find(&args.model)?;
    let mut renderer = Renderer::stderr(console);
    let pipeline = generate::load(args, &folder, &mut renderer)?;
    let _kept = KeptKernels::of(&pipeline.device());
    let board = Arc::new(Board { state: Mutex::default(), changed: Condvar::new(), json: console.json });
    let (reader, shard) = (board.clone(), args.many.shard);
    // It ends with the input or with the process.
    thread::spawn(move || reader.read(shard));
    let own = batch::without_batch(env::args_os().collect());
    let mut stream =
        Stream { board: &board, own, resume: args.many.resume, folder, console, notes: Renderer::stderr(console), claims: Vec::new() };
    let mut maker = Maker::new(&pipeline, renderer);
    let finished = interrupt::polite(|| maker.run(&mut stream));
    maker.renderer.clear();
    finished?;
    if interrupt::token().is_cancelled() {
        return Err(Failure::interrupted());
    }
    let State { answered, failed, broken, .. } = std::mem::take(&mut *board.lock());
    if let Some(error) = broken {
        return Err(Failure::new(Exit::Output, "output-failed", format!("cannot write an answer: {error}")));
    }
    let count = failed.len();
    let failure = failed
        .into_iter()
        .next()
        .map(|first| Failure { message: format!("{count} of {answered} jobs failed, first: {}", first.message), ..first });
    Ok(Report { text: OsString::new(), json: Value::Null, failure })
}

/// A job as its answers call it.
pub(crate) struct Job {
    id: Value,
    /// Apart from a later job of the same name.
    serial: u64,
    output: String,
}

/// What the thread that reads and the one that computes share.
struct Board {
    state: Mutex<State>,
    changed: Condvar,
    json: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Job, Map<String, Value>)>,
    /// Jobs without an answer, by the text of their name.
    live: HashMap<String, (u64, Stage)>,
    /// Stops what is computed.
    pack: CancelToken,
    ended: bool,
    serial: u64,
    answered: usize,
    failed: Vec<Failure>,
    broken: Option<io::Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    /// Its file is about to appear: too late to cancel.
    Writing,
}

impl State {
    fn has(&self, job: &Job) -> bool {
        self.live.get(&job.id.to_string()).is_some_and(|(serial, _)| *serial == job.serial)
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what comes through standard input on the board.
    fn read(&self, shard: Option<Shard>) {
        for (number, line) in Lines::new(io::stdin().lock()) {
            let mut state = self.lock();
            let flags = match line {
                Ok(flags) => flags,
                Err(problem) => {
                    let mine = shard.is_none_or(|shard| shard.has(number));
                    if mine {
                        self.refuse(&mut state, json!(number + 1), problem);
                    }
                    continue;
                }
            };
            if let (Some(id), 1) = (flags.get("cancel"), flags.len()) {
                self.cancel(&mut state, id);
            } else if shard.is_none_or(|shard| shard.has(number)) {
                state = self.accept(state, number, flags);
            }
            if state.broken.is_some() {
                break;
            }
            drop(state);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn accept<'a>(&'a self, mut state: MutexGuard<'a, State>, number: u64, mut flags: Map<String, Value>) -> MutexGuard<'a, State> {
        let id = match flags.remove("id") {
            None => json!(number + 1),
            Some(id @ (Value::String(_) | Value::Number(_))) => id,
            Some(other) => {
                self.refuse(&mut state, json!(number + 1), format!("`id` is {other}, expected text or a number"));
                return state;
            }
        };
        if state.live.contains_key(&id.to_string()) {
            self.refuse(&mut state, id, "a job of this id has no answer yet; give each its own".to_owned());
            return state;
        }
        while state.waiting.len() >= MAX_WAITING && state.broken.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.serial += 1;
        let output = flags.get("output").and_then(Value::as_str).unwrap_or_default().to_owned();
        let job = Job { id, serial: state.serial, output };
        let serial = state.serial;
        state.live.insert(job.id.to_string(), (serial, Stage::Waiting));
        state.waiting.push_back((job, flags));
        state
    }

    fn refuse(&self, state: &mut State, id: Value, problem: String) {
        let failure =
            Failure::new(Exit::Usage, "bad-batch", problem).hint(r#"a line is like {"id": 1, "prompt": "a fox", "output": "fox.gif"}"#);
        state.serial += 1;
        let job = Job { id, serial: state.serial, output: String::new() };
        self.answer(state, job, Err(failure));
    }

    /// Takes a job back that is waiting or being computed; one that is being written or has its answer stays as it is.
    fn cancel(&self, state: &mut State, id: &Value) {
        let Some((serial, stage)) = state.live.get(&id.to_string()).copied() else { return };
        if stage == Stage::Writing {
            return;
        }
        state.waiting.retain(|(job, _)| job.serial != serial);
        state.live.remove(&id.to_string());
        let job = Job { id: id.clone(), serial, output: String::new() };
        self.answer(state, job, Err(Failure::cancelled()));
        let others = state.live.values().any(|(_, stage)| *stage != Stage::Waiting);
        if stage == Stage::Running && !others {
            state.pack.cancel();
        }
    }

    /// The one line that a job gets.
    fn answer(&self, state: &mut State, job: Job, outcome: Outcome) {
        if state.has(&job) {
            state.live.remove(&job.id.to_string());
        }
        state.answered += 1;
        let mut line = json!({ "id": job.id });
        let mut text = None;
        match outcome {
            Ok(clip) => {
                line["outcome"] = if clip.skipped { "skipped" } else { "done" }.into();
                line["output"] = shown_path(&clip.path).into();
                line["clip"] = clip.json;
                text = Some(clip.path);
            }
            Err(failure) => {
                let cancelled = failure.exit == Exit::Interrupted;
                line["outcome"] = if cancelled { "cancelled" } else { "failed" }.into();
                line["output"] = job.output.into();
                line["error"] = failure.to_json()["error"].take();
                if !cancelled {
                    if !self.json {
                        failure.print(false);
                    }
                    state.failed.push(failure);
                }
            }
        }
        let told = if self.json { Some(line.to_string().into()) } else { text.map(PathBuf::into_os_string) };
        if let (Some(told), None) = (told, &state.broken) {
            let mut out = io::stdout().lock();
            let written = out.write_all(&crate::printed(&told)).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
            if let Err(error) = written {
                // Nobody listens any more.
                state.pack.cancel();
                state.broken = Some(error);
            }
        }
    }
}

/// The jobs of a board as the maker takes them.
struct Stream<'a> {
    board: &'a Board,
    own: Vec<OsString>,
    resume: bool,
    folder: PathBuf,
    console: &'a ConsoleArgs,
    notes: Renderer<io::Stderr>,
    /// What jobs without an answer write to.
    claims: Vec<(u64, Claim)>,
}

impl Stream<'_> {
    fn open(&mut self, serial: u64, flags: &Map<String, Value>) -> Result<Task, Failure> {
        let bad = |problem| Failure::new(Exit::Usage, "bad-batch", problem);
        let mut args = batch::job_of(&self.own, flags, self.resume).map_err(bad)?;
        if args.variations > 1 {
            return Err(bad("a line makes one clip; give each seed its own line".to_owned()));
        }
        if args.output.as_deref() == Some(Path::new("-")) {
            return Err(bad("standard output carries the answers; name a file".to_owned()));
        }
        if args.frames == Some(0) {
            return Err(bad("a clip without an end would keep all others waiting".to_owned()));
        }
        args.seed.get_or_insert_with(crate::names::random_seed);
        let mut task = Task::open(args, self.console)?;
        let claims: Vec<Claim> = task.claims().into_iter().map(|(_, claim)| claim).collect();
        if claims.iter().any(|claim| self.claims.iter().any(|(_, other)| other.collides(claim))) {
            let message = "another job that has no answer yet writes to the same output";
            return Err(Failure::new(Exit::Usage, "output-conflict", message).hint("give each its own output"));
        }
        task.expand(&self.folder, &mut self.notes)?;
        self.claims.extend(claims.into_iter().map(|claim| (serial, claim)));
        Ok(task)
    }
}

impl Jobs for Stream<'_> {
    type Tag = Job;

    fn more(&mut self, most: usize, wait: bool) -> Vec<(Job, Task)> {
        let mut tasks = Vec::new();
        loop {
            let (new, over) = {
                let mut state = self.board.lock();
                while wait && tasks.is_empty() && state.waiting.is_empty() && !state.ended && state.broken.is_none() {
                    if interrupt::token().is_cancelled() {
                        return tasks;
                    }
                    state = self.board.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner).0;
                }
                if interrupt::token().is_cancelled() || state.broken.is_some() {
                    return tasks;
                }
                let count = (most - tasks.len()).min(state.waiting.len());
                let new: Vec<_> = state.waiting.drain(..count).collect();
                (new, state.ended && state.waiting.is_empty())
            };
            self.board.changed.notify_all();
            let none = new.is_empty();
            for (job, flags) in new {
                match self.open(job.serial, &flags) {
                    Ok(task) => tasks.push((job, task)),
                    Err(failure) => self.tell(job, Err(failure)),
                }
            }
            if !tasks.is_empty() || over || (none && !wait) || most == 0 {
                return tasks;
            }
        }
    }

    fn begin(&mut self, pack: Vec<Admitted<Job>>, stop: &CancelToken) -> Vec<Admitted<Job>> {
        let mut state = self.board.lock();
        state.pack = stop.clone();
        let (wanted, others): (Vec<_>, Vec<_>) = pack.into_iter().partition(|one| state.has(&one.tag));
        others.iter().for_each(|one| self.claims.retain(|(serial, _)| *serial != one.tag.serial));
        for one in &wanted {
            state.live.insert(one.tag.id.to_string(), (one.tag.serial, Stage::Running));
        }
        wanted
    }

    fn keep(&mut self, job: &Job) -> bool {
        let mut state = self.board.lock();
        // Nobody would hear of it.
        let wanted = state.has(job) && state.broken.is_none();
        if wanted {
            state.live.insert(job.id.to_string(), (job.serial, Stage::Writing));
        } else {
            self.claims.retain(|(serial, _)| *serial != job.serial);
        }
        wanted
    }

    fn name<'a>(&self, job: &'a Job) -> Option<&'a Value> {
        Some(&job.id)
    }

    fn tell(&mut self, job: Job, outcome: Outcome) {
        self.claims.retain(|(serial, _)| *serial != job.serial);
        let mut state = self.board.lock();
        // One that was cancelled has its answer.
        if state.has(&job) {
            self.board.answer(&mut state, job, outcome);
        }
    }
}

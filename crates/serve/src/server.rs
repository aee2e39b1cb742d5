//! What the server knows: its jobs, who is next, what is being made. Everything that changes changes here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::{
    args::Args,
    job::{Failure, Job, Status},
    metrics::Metrics,
    planner::Planner,
    queue::FairQueue,
    store::Store,
};

/// Events that a slow listener may be behind before it misses some; what it hears then is the newest state.
const EVENTS: usize = 256;
/// How often what has expired is looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Times that a worker may end while it makes a job.
const MAX_CRASHES: u32 = 2;
/// Seconds a job takes, until one has been made.
const FIRST_GUESS: f64 = 10.0;

pub(crate) struct Server {
    pub(crate) args: Args,
    /// Hashes of the tokens that are accepted; none accepts everyone on this machine.
    pub(crate) tokens: Vec<String>,
    pub(crate) planner: Planner,
    pub(crate) metrics: Metrics,
    pub(crate) stopped: watch::Receiver<bool>,
    /// Wakes the worker's driver when there may be something to do.
    pub(crate) work: Notify,
    /// Jobs that are to be taken back from the worker.
    pub(crate) cancels: mpsc::UnboundedSender<String>,
    pub(crate) cancelled: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    /// Names of jobs that changed.
    pub(crate) changes: broadcast::Sender<Arc<str>>,
    store: Store,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Job>,
    numbers: HashMap<String, u64>,
    queue: FairQueue,
    /// Places that are promised to jobs which are being checked, by owner.
    promised: HashMap<String, usize>,
    next: u64,
    bytes: u64,
    /// A moving mean.
    seconds_per_job: f64,
}

/// Why a job is not taken now.
pub(crate) enum Refusal {
    QueueFull { retry_after: u64 },
    DiskFull { retry_after: u64 },
}

/// A promise of a place in the queue.
pub(crate) struct Place<'a> {
    server: &'a Server,
    owner: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.server.state();
        if let Some(promised) = state.promised.get_mut(&self.owner) {
            *promised = promised.saturating_sub(1);
        }
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Server {
    pub(crate) fn open(args: Args, tokens: Vec<String>, stopped: watch::Receiver<bool>) -> Result<Self, String> {
        for folder in [args.data.clone(), args.data.join("clips"), args.data.join("inputs")] {
            fs::create_dir_all(&folder).map_err(|error| format!("cannot make the folder `{}`: {error}", folder.display()))?;
        }
        let args = args.usable_anywhere();
        let (store, stored) = Store::open(&args.data.join("jobs.sqlite"))?;
        let mut state = State { seconds_per_job: FIRST_GUESS, ..State::default() };
        for mut job in stored {
            // It was being made when the server ended.
            if job.status == Status::InProgress {
                job.status = Status::Queued;
            }
            state.next = state.next.max(job.number + 1);
            state.bytes += job.bytes;
            state.numbers.insert(job.id.clone(), job.number);
            state.jobs.insert(job.number, job);
        }
        let waiting: Vec<(String, u64)> =
            state.jobs.values().filter(|job| job.status == Status::Queued).map(|job| (job.owner.clone(), job.number)).collect();
        waiting.iter().for_each(|(owner, number)| state.queue.push(owner, *number));
        let (cancels, cancelled) = mpsc::unbounded_channel();
        let server = Self {
            planner: Planner::new(&args),
            args,
            tokens,
            metrics: Metrics::default(),
            stopped,
            work: Notify::new(),
            cancels,
            cancelled: Mutex::new(Some(cancelled)),
            changes: broadcast::channel(EVENTS).0,
            store,
            state: Mutex::new(state),
        };
        server.remove_strangers();
        Ok(server)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between two changes of it would be a bug that a restart mends: the store is right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clip_path(&self, job: &Job) -> PathBuf {
        self.args.data.join("clips").join(job.clip_name())
    }

    /// Files that belong to no job: what a server left that was killed between two steps.
    fn remove_strangers(&self) {
        let state = self.state();
        let known: HashSet<&str> = state.numbers.keys().map(String::as_str).collect();
        for folder in ["clips", "inputs"] {
            for entry in fs::read_dir(self.args.data.join(folder)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let id = name.split('.').next().unwrap_or_default();
                if name.starts_with("video_") && !known.contains(id) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }

    pub(crate) fn new_id() -> Result<String, String> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(format!("video_{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    }

    /// Whether a job of this owner would be taken, and a promise that it will be.
    pub(crate) fn place(&self, owner: &str) -> Result<Place<'_>, Refusal> {
        let mut state = self.state();
        let waiting = state.queue.count(owner) + state.promised.get(owner).copied().unwrap_or_default();
        if waiting >= self.args.queue as usize {
            // One of them has begun by then.
            let seconds = state.seconds_per_job * state.queue.len() as f64 / f64::from(self.args.queue).max(1.0);
            return Err(Refusal::QueueFull { retry_after: (seconds.ceil() as u64).clamp(1, 600) });
        }
        if state.bytes >= self.args.disk {
            let first = state.jobs.values().filter_map(|job| job.expires_at).min().unwrap_or_default();
            return Err(Refusal::DiskFull { retry_after: first.saturating_sub(now()).clamp(1, 3600) });
        }
        *state.promised.entry(owner.to_owned()).or_default() += 1;
        drop(state);
        Ok(Place { server: self, owner: owner.to_owned() })
    }

    /// Takes a job; returns when it will survive a crash.
    pub(crate) async fn add(&self, mut job: Job, place: Place<'_>) -> Result<Value, String> {
        job.number = {
            let mut state = self.state();
            state.next += 1;
            state.next - 1
        };
        self.store.save(&job).await?;
        let shown = job.to_json();
        let mut state = self.state();
        state.bytes += job.bytes;
        state.numbers.insert(job.id.clone(), job.number);
        state.queue.push(&job.owner, job.number);
        state.jobs.insert(job.number, job);
        drop(state);
        drop(place);
        self.work.notify_one();
        Ok(shown)
    }

    /// A job of this owner.
    pub(crate) fn find(&self, owner: &str, id: &str) -> Option<Job> {
        let state = self.state();
        let job = state.jobs.get(state.numbers.get(id)?)?;
        (job.owner == owner).then(|| job.clone())
    }

    /// Jobs of this owner after one of them, newest first or oldest first, and whether there are more.
    pub(crate) fn list(&self, owner: &str, after: Option<&str>, limit: usize, newest_first: bool) -> Option<(Vec<Job>, bool)> {
        let state = self.state();
        let after = after.map(|id| state.numbers.get(id).copied().ok_or(())).transpose().ok()?;
        let past = |job: &&Job| after.is_none_or(|after| if newest_first { job.number < after } else { job.number > after });
        let own = |job: &&Job| job.owner == owner && past(job);
        let mut found: Vec<Job> = if newest_first {
            state.jobs.values().rev().filter(own).take(limit + 1).cloned().collect()
        } else {
            state.jobs.values().filter(own).take(limit + 1).cloned().collect()
        };
        let more = found.len() > limit;
        found.truncate(limit);
        Some((found, more))
    }

    /// Forgets a job of this owner with its files, and takes it back from the worker.
    pub(crate) async fn remove(&self, owner: &str, id: &str) -> Result<bool, String> {
        let Some(job) = self.find(owner, id) else { return Ok(false) };
        self.store.remove(id).await?;
        self.forget(&job);
        Ok(true)
    }

    fn forget(&self, job: &Job) {
        let mut state = self.state();
        state.queue.remove(&job.owner, job.number);
        state.numbers.remove(&job.id);
        if let Some(job) = state.jobs.remove(&job.number) {
            state.bytes = state.bytes.saturating_sub(job.bytes);
            if job.status == Status::InProgress {
                // The driver lives as long as the server.
                let _ = self.cancels.send(job.id);
            }
        }
        drop(state);
        let _ = fs::remove_file(self.clip_path(job));
        let _ = self.input_path(job).map(fs::remove_file);
        self.changed(&job.id);
    }

    fn input_path(&self, job: &Job) -> Option<PathBuf> {
        let name = job.line.get("image")?.as_str()?;
        // As the worker sees it from the folder of clips.
        Some(self.args.data.join("clips").join(name))
    }

    /// The next job for the worker, which now has it.
    pub(crate) fn begin(&self) -> Option<Job> {
        let mut state = self.state();
        let number = state.queue.pop()?;
        let job = state.jobs.get_mut(&number)?;
        job.status = Status::InProgress;
        let job = job.clone();
        drop(state);
        self.changed(&job.id);
        Some(job)
    }

    /// How far a job is.
    pub(crate) fn progress(&self, id: &str, fraction: f64, preview: Option<String>) {
        let mut state = self.state();
        let Some(number) = state.numbers.get(id).copied() else { return };
        let Some(job) = state.jobs.get_mut(&number) else { return };
        // A pack that is made again after a crash begins anew.
        job.progress = fraction;
        if preview.is_some() {
            job.preview = preview;
        }
        drop(state);
        self.changed(id);
    }

    /// What came of a job. One that was forgotten meanwhile leaves no file.
    pub(crate) fn end(&self, id: &str, outcome: Result<(), Failure>, seconds: Option<f64>) {
        let mut state = self.state();
        if let Some(seconds) = seconds {
            state.seconds_per_job += 0.2 * (seconds - state.seconds_per_job);
        }
        let Some(number) = state.numbers.get(id).copied() else {
            let _ = fs::remove_file(self.args.data.join("clips").join(format!("{id}.mp4")));
            return;
        };
        let Some(job) = state.jobs.get_mut(&number) else { return };
        let clip = fs::metadata(self.args.data.join("clips").join(job.clip_name()));
        let clip_bytes = clip.map(|clip| clip.len()).unwrap_or(0);
        job.bytes += clip_bytes;
        job.completed_at = Some(now());
        job.expires_at = Some(now() + self.args.keep);
        job.preview = None;
        match outcome {
            Ok(()) => job.status = Status::Completed,
            Err(failure) => {
                job.status = Status::Failed;
                job.failure = Some(failure);
            }
        }
        let job = job.clone();
        state.bytes += clip_bytes;
        drop(state);
        self.metrics.ended(job.status, seconds);
        // Lost, it is found again as skipped or made again.
        self.store.save_later(&job);
        self.changed(id);
    }

    /// Jobs that the worker did not get to: they wait again, first in line. `crashed` if it ended by itself.
    pub(crate) fn give_back(&self, ids: &[String], crashed: bool) {
        for id in ids.iter().rev() {
            let mut state = self.state();
            let Some(number) = state.numbers.get(id).copied() else { continue };
            let Some(job) = state.jobs.get_mut(&number) else { continue };
            job.crashes += u32::from(crashed);
            if job.crashes > MAX_CRASHES {
                drop(state);
                let message = format!("the worker ended {} times while it made this clip", MAX_CRASHES + 1);
                self.end(id, Err(Failure { code: "worker-failed".into(), message }), None);
                continue;
            }
            job.status = Status::Queued;
            job.progress = 0.0;
            let owner = job.owner.clone();
            state.queue.push_front(&owner, number);
            drop(state);
            self.changed(id);
        }
    }

    fn changed(&self, id: &str) {
        // Nobody may be listening.
        let _ = self.changes.send(id.into());
    }

    /// Jobs of each status, waiting ones, and bytes on disk.
    pub(crate) fn counts(&self) -> (Vec<(Status, usize)>, usize, u64) {
        let state = self.state();
        let count = |status| state.jobs.values().filter(|job| job.status == status).count();
        (Status::ALL.map(|status| (status, count(status))).to_vec(), state.queue.len(), state.bytes)
    }

    async fn remove_expired(&self) {
        let time = now();
        let expired: Vec<Job> = self.state().jobs.values().filter(|job| job.expires_at.is_some_and(|at| at <= time)).cloned().collect();
        for job in expired {
            match self.store.remove(&job.id).await {
                Ok(()) => self.forget(&job),
                // Told where it happened; the next round tries again.
                Err(_) => return,
            }
        }
    }

    /// Everything that was told is stored.
    pub(crate) fn close(&self) {
        self.store.close();
    }

    /// Writes what came with a request where the worker finds it.
    pub(crate) async fn keep_input(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        tokio::fs::write(self.args.data.join("inputs").join(name), bytes).await
    }

    pub(crate) async fn drop_input(&self, name: &str) {
        // It may never have been written.
        let _ = tokio::fs::remove_file(self.args.data.join("inputs").join(name)).await;
    }
}

/// Removes what has expired, until the server stops.
pub(crate) async fn keep_house(server: Arc<Server>, mut stopped: watch::Receiver<bool>) {
    loop {
        server.remove_expired().await;
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            _ = stopped.changed() => return,
        }
    }
}

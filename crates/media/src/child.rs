//! Programs of others: both pipes served at once, with a limit of time and of output, ended when asked to.
//!
//! A program is ended if no byte goes in or comes out for some time: how long it works is its own business.

mod running;

use std::{
    io::{self, Read, Write as _},
    process::{Command, ExitStatus},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) use running::end_all;
use running::{Running, waited};

/// Bytes that are kept of what a program says about itself: the last ones tell why it ended.
const MESSAGE_BYTES: usize = 64 << 10;
/// Characters that are shown of a line of them.
const LINE_CHARS: usize = 400;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How often to look whether a program has ended or is to be ended.
const TICK: Duration = Duration::from_millis(5);
/// How long to wait for the end of the output of a program that has ended, before and after what it left behind is ended.
const REST: Duration = Duration::from_millis(300);
const LAST_REST: Duration = Duration::from_secs(5);

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time without a byte going in or coming out.
    pub silence: Duration,
    /// Most bytes on its standard output.
    pub output_bytes: u64,
}

/// What there is for the standard input of a program.
#[derive(Debug)]
pub enum Input {
    /// The next bytes.
    Bytes(Vec<u8>),
    /// Nothing now; that it is silent meanwhile says nothing about it.
    Later,
    /// All were given.
    End,
}

/// What is said to a program and heard from it.
pub trait Talk {
    /// What is said next.
    fn input(&mut self) -> Input {
        Input::End
    }

    /// Hears its standard output; `false` if that is enough, which ends the program.
    fn output(&mut self, _bytes: &[u8]) -> bool {
        true
    }

    /// Asked all the time; `false` ends the program.
    fn keep_going(&mut self) -> bool {
        true
    }
}

/// A program that ended.
#[derive(Debug)]
pub struct Ended {
    /// How; `None` if it was ended because its output was enough.
    pub status: Option<ExitStatus>,
    /// The end of what it wrote to its standard error.
    pub messages: String,
}

impl Ended {
    /// Whether it did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.is_none_or(|status| status.success())
    }

    /// The last line of its messages, the beginning of a long one.
    #[must_use]
    pub fn last_message(&self) -> &str {
        let line = self.messages.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no message");
        line.char_indices().nth(LINE_CHARS).map_or(line, |(end, _)| &line[..end])
    }
}

/// Why a program was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be started, or not be waited for.
    #[error("it does not run: {0}")]
    Start(#[from] io::Error),
    /// It did nothing.
    #[error("it did not answer within {} s", limit.as_secs())]
    Silent {
        /// The time it had.
        limit: Duration,
    },
    /// It wrote more than anyone wants.
    #[error("it wrote more than {} kB", limit_bytes / 1000)]
    Output {
        /// The bytes it had.
        limit_bytes: u64,
    },
    /// [`Talk::keep_going`] said so.
    #[error("it was stopped")]
    Stopped,
}

/// Everything a program writes, for which [`Limits::output_bytes`] is the bound; its standard input is `input`.
#[derive(Debug, Default)]
pub struct Whole {
    /// What it is still to be told.
    pub input: Option<Vec<u8>>,
    /// What it said.
    pub output: Vec<u8>,
}

impl Talk for Whole {
    fn input(&mut self) -> Input {
        self.input.take().map_or(Input::End, Input::Bytes)
    }

    fn output(&mut self, bytes: &[u8]) -> bool {
        self.output.extend_from_slice(bytes);
        true
    }
}

/// Runs `command` to its end.
///
/// # Errors
/// See [`Problem`]. After an error the program and what it started are gone.
pub fn run(command: &mut Command, limits: Limits, talk: &mut dyn Talk) -> Result<Ended, Problem> {
    let mut running = Running::start(command)?;
    let messages = Arc::new(Mutex::new(Vec::new()));
    let (to_child, input) = sync_channel::<Vec<u8>>(1);
    let (send_output, from_child) = sync_channel::<Vec<u8>>(2);
    if let Some(mut stdin) = running.0.stdin.take() {
        // A program that does not read to the end may be right all the same.
        thread::spawn(move || input.into_iter().try_for_each(|bytes| stdin.write_all(&bytes)));
    }
    if let Some(stdout) = running.0.stdout.take() {
        thread::spawn(move || chunks(stdout, &mut |bytes| send_output.send(bytes.to_vec()).is_ok()));
    }
    // Nothing is ever sent: it closes when the last message is kept.
    let (open, all_said) = sync_channel::<()>(0);
    if let Some(stderr) = running.0.stderr.take() {
        let messages = Arc::clone(&messages);
        thread::spawn(move || {
            chunks(stderr, &mut |bytes| keep_end(&mut lock(&messages), bytes));
            drop(open);
        });
    }

    let mut to_child = Some(to_child);
    let mut next = None;
    let mut heard = 0u64;
    let mut life = Instant::now();
    let status = loop {
        if !talk.keep_going() {
            return Err(Problem::Stopped);
        }
        let mut waits = false;
        if let Some(sender) = &to_child {
            match next.take().map_or_else(|| talk.input(), Input::Bytes) {
                // Closes its standard input.
                Input::End => to_child = None,
                Input::Later => (waits, life) = (true, Instant::now()),
                Input::Bytes(bytes) => match sender.try_send(bytes) {
                    Ok(()) => life = Instant::now(),
                    Err(TrySendError::Full(bytes)) => next = Some(bytes),
                    Err(TrySendError::Disconnected(_)) => to_child = None,
                },
            }
        }
        match hear(&from_child, waits || next.is_some() || to_child.is_none()) {
            Some(bytes) => {
                life = Instant::now();
                heard += bytes.len() as u64;
                if heard > limits.output_bytes {
                    return Err(Problem::Output { limit_bytes: limits.output_bytes });
                }
                if !talk.output(&bytes) {
                    running.end();
                    break None;
                }
            }
            None => {
                if let Some(status) = running.0.try_wait()? {
                    break Some(status);
                }
            }
        }
        // One that does nothing but wait for its turn gets no more than ten times the time.
        if life.elapsed() > limits.silence && life.elapsed() > limits.silence + waited(running.0.id()).min(limits.silence.saturating_mul(9))
        {
            return Err(Problem::Silent { limit: limits.silence });
        }
    };
    // What is still in the pipe belongs to it. What it started and left behind may keep the pipe open, and is ended too.
    let mut patience = REST;
    while status.is_some() {
        match from_child.recv_timeout(patience) {
            Ok(bytes) => {
                heard += bytes.len() as u64;
                if heard > limits.output_bytes {
                    return Err(Problem::Output { limit_bytes: limits.output_bytes });
                }
                if !talk.output(&bytes) {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) if patience == REST => {
                running.end();
                patience = LAST_REST;
            }
            Err(_) => break,
        }
    }
    // A program may end before the thread that hears its last words has run.
    if all_said.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
        running.end();
        let _ = all_said.recv_timeout(LAST_REST);
    }
    let messages = String::from_utf8_lossy(&lock(&messages)).into_owned();
    Ok(Ended { status, messages })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A chunk of output, waited for a moment if there is nothing else to do.
fn hear(from_child: &Receiver<Vec<u8>>, wait: bool) -> Option<Vec<u8>> {
    if !wait {
        return from_child.try_recv().ok();
    }
    match from_child.recv_timeout(TICK) {
        Ok(bytes) => Some(bytes),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => {
            thread::sleep(TICK);
            None
        }
    }
}

fn chunks(mut from: impl Read, take: &mut dyn FnMut(&[u8]) -> bool) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if !take(&chunk[..read]) {
            break;
        }
    }
}

fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
    kept.extend_from_slice(bytes);
    let over = kept.len().saturating_sub(MESSAGE_BYTES);
    kept.drain(..over);
    true
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// For programs that answer, however busy the machine is.
    const LIMITS: Limits = Limits { silence: Duration::from_secs(60), output_bytes: 1 << 20 };

    fn shell(script: &str, talk: &mut dyn Talk) -> Result<Ended, Problem> {
        run(Command::new("sh").args(["-c", script]), LIMITS, talk)
    }

    fn shell_within(silence_ms: u64, script: &str) -> Result<Ended, Problem> {
        run(Command::new("sh").args(["-c", script]), Limits { silence: Duration::from_millis(silence_ms), ..LIMITS }, &mut Whole::default())
    }

    #[test]
    fn both_pipes_are_served_at_once() {
        // More than a pipe holds goes out before the first byte is read.
        let mut talk = Whole { input: Some(vec![b'x'; 400_000]), output: Vec::new() };
        let ended = shell("head -c 300000 /dev/zero; wc -c; echo why >&2", &mut talk).unwrap_or_else(|e| panic!("{e}"));
        assert!(ended.is_success() && ended.last_message() == "why", "{ended:?}");
        assert_eq!(String::from_utf8_lossy(&talk.output[300_000..]).trim(), "400000");
    }

    #[test]
    fn last_words_are_heard() {
        for _ in 0..200 {
            let ended = shell("echo why >&2; exit 1", &mut Whole::default()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(ended.last_message(), "why");
        }
    }

    #[test]
    fn of_a_long_line_the_beginning_is_shown() {
        let ended = shell("head -c 100000 /dev/zero | tr '\\0' e >&2", &mut Whole::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ended.last_message(), "e".repeat(LINE_CHARS));
    }

    #[test]
    fn what_does_nothing_is_ended_with_all_it_started() {
        let begun = Instant::now();
        for script in ["exec sleep 600", "sleep 600; true", "sleep 600 & wait"] {
            assert!(matches!(shell_within(500, script), Err(Problem::Silent { .. })), "{script}");
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "each after its limit");
        // Alive, though slow as a whole.
        assert!(shell_within(2000, "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done").is_ok_and(|ended| ended.is_success()));
    }

    #[test]
    fn what_it_leaves_behind_does_not_hold_us_up() {
        let begun = Instant::now();
        let mut talk = Whole::default();
        assert!(shell("sleep 600 & echo a bear", &mut talk).is_ok_and(|ended| ended.is_success()));
        assert!(talk.output == b"a bear\n" && begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
    }

    #[test]
    fn endless_output_and_stops_end_it() {
        assert!(matches!(shell("yes", &mut Whole::default()), Err(Problem::Output { .. })));
        struct Stop(u32);
        impl Talk for Stop {
            fn keep_going(&mut self) -> bool {
                self.0 -= 1;
                self.0 > 0
            }
        }
        assert!(matches!(shell("sleep 600", &mut Stop(3)), Err(Problem::Stopped)));
        struct Enough;
        impl Talk for Enough {
            fn output(&mut self, _: &[u8]) -> bool {
                false
            }
        }
        assert!(shell("yes", &mut Enough).is_ok_and(|ended| ended.status.is_none()));
        assert!(matches!(run(&mut Command::new("/no/such/program"), LIMITS, &mut Enough), Err(Problem::Start(_))));
        assert!(shell("exit 3", &mut Enough).is_ok_and(|ended| !ended.is_success()));
    }
}

//! One program of others that runs: in a group of its own, and gone with all it started when we are done with it or are gone ourselves.

use std::{
    io,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use super::lock;

/// Programs that run now, to be ended with this process.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A program that is ended with everything it started when this is dropped.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C on a terminal is for us, who tell it; and what it starts can be ended with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        #[cfg(target_os = "linux")]
        tie(command);
        let child = command.spawn()?;
        lock(&RUNNING).push(child.id());
        Ok(Self(child))
    }

    pub(super) fn end(&mut self) {
        end_group(self.0.id());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        let process = self.0.id();
        lock(&RUNNING).retain(|running| *running != process);
    }
}

/// Ends every program that runs now: for a process that ends without unwinding.
pub(crate) fn end_all() {
    for process in lock(&RUNNING).drain(..) {
        end_group(process);
    }
}

/// Has the system end a program when the thread that starts it is gone, which [`super::run`] keeps for as long as the program runs:
/// whoever is killed (`kill -9`, too little memory) cannot do it. Other systems have nothing like it; there a program ends when it
/// finds its pipes closed.
#[cfg(target_os = "linux")]
fn tie(command: &mut Command) {
    use nix::{sys::prctl, sys::signal::Signal, unistd};
    let us = unistd::getpid();
    let before_it_runs = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // We may have been gone before that was said.
        if unistd::getppid() == us { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls; it neither allocates nor takes a lock.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, before_it_runs) };
}

/// How long a program waited for a processor, where the system tells: on a busy machine that is no silence of its own.
pub(super) fn waited(process: u32) -> Duration {
    let told = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    Duration::from_nanos(told.split_whitespace().nth(1).and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or_default())
}

#[cfg(unix)]
fn end_group(process: u32) {
    if let Ok(group) = i32::try_from(process) {
        // Nothing is left of most groups by now.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(not(unix))]
fn end_group(_process: u32) {}

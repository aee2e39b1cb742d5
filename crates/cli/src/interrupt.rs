//! Ctrl-C and termination: a polite stop where the work can be stopped, an immediate one elsewhere.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::failure::Exit;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static POLLED: AtomicBool = AtomicBool::new(false);

/// Installs the handler. The first signal during [`polite`] work sets a flag; any other ends the
/// process at once, which is safe because files get their names only when they are complete.
pub(crate) fn install() {
    // Without a handler the signal simply ends the process.
    let _ = ctrlc::set_handler(|| {
        if !POLLED.load(Relaxed) || REQUESTED.swap(true, Relaxed) {
            process::exit(Exit::Interrupted as i32);
        }
    });
}

/// True once a stop was asked for.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Relaxed)
}

/// Runs work that asks [`requested`] often enough to stop by itself.
pub(crate) fn polite<T>(work: impl FnOnce() -> T) -> T {
    POLLED.store(true, Relaxed);
    let result = work();
    POLLED.store(false, Relaxed);
    result
}

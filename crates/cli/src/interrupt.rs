//! Ctrl-C and termination: a polite stop where the work can be stopped, an immediate one elsewhere.

use std::{
    process,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{failure::Exit, run::CancelToken};

/// Shared with the runtime, which looks at it between submissions.
static TOKEN: LazyLock<CancelToken> = LazyLock::new(CancelToken::default);
static POLITE: AtomicBool = AtomicBool::new(false);
/// What is being made, and can be stopped by itself.
static CURRENT: Mutex<Option<CancelToken>> = Mutex::new(None);

/// Installs the handler. The first signal during [`polite`] work cancels the token; any other ends the
/// process at once, which is safe because files get their names only when they are complete, and unfinished ones are removed.
pub(crate) fn install() {
    // Without a handler the signal simply ends the process.
    let _ = ctrlc::set_handler(|| {
        if !POLITE.load(Relaxed) || TOKEN.is_cancelled() {
            kinora_media::discard_unfinished();
            process::exit(Exit::Interrupted as i32);
        }
        TOKEN.cancel();
        current(&mut |current| current.iter().for_each(CancelToken::cancel));
    });
}

fn current(change: &mut dyn FnMut(&mut Option<CancelToken>)) {
    // A token is there or not; nothing in between can be seen.
    change(&mut CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Runs work that looks at `stop`, which is also cancelled when [`token`] is.
pub(crate) fn with<T>(stop: &CancelToken, work: impl FnOnce() -> T) -> T {
    current(&mut |current| *current = Some(stop.clone()));
    // A signal before this line has not seen it.
    if TOKEN.is_cancelled() {
        stop.cancel();
    }
    let result = work();
    current(&mut |current| *current = None);
    result
}

/// What stops when a stop is asked for.
pub(crate) fn token() -> &'static CancelToken {
    &TOKEN
}

/// Runs work that looks at [`token`] often enough to stop by itself.
pub(crate) fn polite<T>(work: impl FnOnce() -> T) -> T {
    POLITE.store(true, Relaxed);
    let result = work();
    POLITE.store(false, Relaxed);
    result
}

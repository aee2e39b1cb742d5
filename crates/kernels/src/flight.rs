//! Submissions that are under way: two at most, so that the adapter always has the next one and a cancelled run ends soon.
//! How long they take sets the pace.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::Result;
use crate::gpu::{Gpu, lock};
use crate::pacing::Pace;

/// Submissions under way before another waits.
const MOST: usize = 2;

/// What is known of the submissions of a device.
#[derive(Default)]
pub(crate) struct Flights {
    pace: Pace,
    under_way: VecDeque<Flight>,
    /// When the last one that somebody waited for ended.
    last_end: f64,
    /// Seconds between the end of nothing and the word of it: browsers may look for ends on a timer.
    overhead: Option<f64>,
}

struct Flight {
    index: wgpu::SubmissionIndex,
    done: Signal,
    flops: f64,
    begun: f64,
}

impl Flights {
    fn landed(&mut self, flight: &Flight, now: f64, waited: bool) {
        let seconds = now - flight.begun.max(self.last_end);
        let overhead = self.overhead.unwrap_or(0.0).min(0.5 * seconds);
        self.pace.learn(flight.flops, seconds - overhead, waited);
        self.last_end = now;
    }
}

impl Gpu {
    /// Floating-point operations the next submission holds.
    pub(crate) fn pace(&self) -> f64 {
        lock(&self.flights).pace.limit()
    }

    /// Submits `commands` of `flops` operations; for plans, after [`room`](Self::room).
    pub(crate) fn depart(&self, commands: wgpu::CommandBuffer, flops: f64) {
        let index = self.submit(Some(commands));
        let done = Signal::default();
        let notify = done.clone();
        self.queue.on_submitted_work_done(move || notify.set());
        lock(&self.flights).under_way.push_back(Flight { index, done, flops, begun: now() });
    }

    /// Waits until one more submission may be under way.
    pub(crate) async fn room(&self) -> Result<()> {
        let measured = lock(&self.flights).overhead;
        if measured.is_none() {
            // The first time waits for what loading left to do.
            self.idle().await?;
            let begun = now();
            self.idle().await?;
            lock(&self.flights).overhead = Some(now() - begun);
        }
        while let Some(flight) = self.earliest() {
            self.poll(wgpu::PollType::Poll)?;
            let waited = !flight.done.is_set();
            self.poll(wgpu::PollType::Wait { submission_index: Some(flight.index.clone()), timeout: None })?;
            flight.done.wait().await;
            lock(&self.flights).landed(&flight, now(), waited);
        }
        self.check()
    }

    /// The one to wait for, if there are as many as may be.
    fn earliest(&self) -> Option<Flight> {
        let under_way = &mut lock(&self.flights).under_way;
        if under_way.len() < MOST { None } else { under_way.pop_front() }
    }

    /// Resolves when everything submitted so far has run.
    pub(crate) async fn idle(&self) -> Result<()> {
        let done = Signal::default();
        let notify = done.clone();
        self.queue.on_submitted_work_done(move || notify.set());
        self.wait(&done).await?;
        let mut flights = lock(&self.flights);
        flights.under_way.clear();
        flights.last_end = now();
        Ok(())
    }

    pub(crate) async fn wait(&self, signal: &Signal) -> Result<()> {
        self.poll(wgpu::PollType::wait_indefinitely())?;
        signal.wait().await;
        self.check()
    }
}

/// Seconds since some moment.
#[cfg(not(target_arch = "wasm32"))]
fn now() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64()
}

#[cfg(target_arch = "wasm32")]
fn now() -> f64 {
    #[wasm_bindgen::prelude::wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = performance, js_name = now)]
        fn milliseconds() -> f64;
    }
    milliseconds() / 1000.0
}

/// A flag another thread or the browser sets once, awaitable.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<(AtomicBool, Mutex<Option<std::task::Waker>>)>);

impl Signal {
    pub(crate) fn set(&self) {
        self.0.0.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.0.1).take() {
            waker.wake();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|cx| {
            *lock(&self.0.1) = Some(cx.waker().clone());
            if self.is_set() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

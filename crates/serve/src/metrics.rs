//! Counters in the text format of Prometheus.

use std::{
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{job::Status, server::Server};

#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
    /// Of all clips together.
    seconds: Mutex<f64>,
}

impl Metrics {
    pub(crate) fn ended(&self, status: Status, seconds: Option<f64>) {
        if status == Status::Completed { &self.completed } else { &self.failed }.fetch_add(1, Relaxed);
        *self.seconds.lock().unwrap_or_else(PoisonError::into_inner) += seconds.unwrap_or_default();
    }

    pub(crate) fn worker_ended(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }
}

pub(crate) fn text(server: &Server) -> String {
    let metrics = &server.metrics;
    let (jobs, waiting, bytes) = server.counts();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP kinora_{name} {help}\n# TYPE kinora_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "kinora_{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
    let by_status: Vec<_> = jobs.iter().map(|(status, count)| (format!("{{status=\"{}\"}}", status.name()), *count as f64)).collect();
    family("jobs", "gauge", "Jobs that are known, by status.", &by_status);
    family("queue_length", "gauge", "Jobs that wait for the worker.", &one(waiting as f64));
    family("disk_bytes", "gauge", "Bytes of inputs and clips.", &one(bytes as f64));
    family("disk_limit_bytes", "gauge", "Bytes that they may take.", &one(server.args.disk as f64));
    family("http_requests_total", "counter", "Requests.", &one(count(&metrics.requests)));
    family("refused_total", "counter", "Jobs that found the queue or the disk full.", &one(count(&metrics.refused)));
    let ended = [("completed", &metrics.completed), ("failed", &metrics.failed)];
    let ended: Vec<_> = ended.iter().map(|(status, counter)| (format!("{{status=\"{status}\"}}"), count(counter))).collect();
    family("ended_total", "counter", "Jobs that ended since the start.", &ended);
    family("worker_restarts_total", "counter", "Workers that ended by themselves.", &one(count(&metrics.restarts)));
    let seconds = *metrics.seconds.lock().unwrap_or_else(PoisonError::into_inner);
    family("generation_seconds_total", "counter", "Seconds that clips took.", &one(seconds));
    text
}

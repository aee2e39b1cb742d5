//! How often this process did what preparing a plan takes: what is used again leaves the counts as they are.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preparations {
    /// Plans that were recorded and fused.
    pub plans: u64,
    /// Executables that were put on a device.
    pub executables: u64,
    /// Kernels that were compiled.
    pub kernels: u64,
    /// Buffers that were allocated: for values, for weights and to read back through.
    pub buffers: u64,
}

static PLANS: AtomicU64 = AtomicU64::new(0);
static EXECUTABLES: AtomicU64 = AtomicU64::new(0);
static KERNELS: AtomicU64 = AtomicU64::new(0);
static BUFFERS: AtomicU64 = AtomicU64::new(0);

impl Preparations {
    /// The counts now.
    pub fn so_far() -> Self {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self { plans: count(&PLANS), executables: count(&EXECUTABLES), kernels: count(&KERNELS), buffers: count(&BUFFERS) }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn plan() {
    add(&PLANS);
}

pub(crate) fn executable() {
    add(&EXECUTABLES);
}

pub(crate) fn kernel() {
    add(&KERNELS);
}

pub(crate) fn buffer() {
    add(&BUFFERS);
}

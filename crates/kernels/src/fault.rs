//! Faults on demand: makes the n-th call to the graphics API fail as it may fail anywhere, or a kernel compute something else. Only
//! with the feature `faults`, which tests have.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::calls::Call;
use crate::error::Error;
use crate::gpu::{Gpu, lock};
use crate::kernel::Kernel;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails in the way of its kind: a buffer is not allocated, a pipeline or bind group is invalid, commands or uploads are
    /// refused, a buffer is not mapped, waiting fails.
    Refused,
    /// The device is lost before it.
    Lost,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
pub struct FaultPlan {
    /// The first, counted from 0 when the plan is made the device's.
    pub call: u64,
    /// What happens to it.
    pub fault: Fault,
    /// Whether it happens to all after it as well, on devices that are opened in place of this one too.
    pub sticky: bool,
}

/// The calls of a device, and of those that are opened in its place.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    calls: AtomicU64,
    plan: Mutex<Option<FaultPlan>>,
    fired: AtomicU64,
    mutant: Mutex<Option<Mutant>>,
}

/// A kernel with a part of its text replaced.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its name.
    pub kernel: &'static str,
    /// Where the part begins, and how long it is, in bytes.
    pub place: usize,
    /// Bytes that are replaced.
    pub length: usize,
    /// By what.
    pub text: String,
}

/// Objects of the graphics API that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveObjects {
    /// Buffers.
    pub buffers: usize,
    /// Bind groups.
    pub bind_groups: usize,
    /// Pipelines.
    pub pipelines: usize,
}

impl Gpu {
    /// Makes calls fail from now on as the plan says, or no longer; counts from 0 again.
    pub fn plan_fault(&self, plan: Option<FaultPlan>) {
        *lock(&self.faults.plan) = plan;
        self.faults.calls.store(0, Ordering::Relaxed);
        self.faults.fired.store(0, Ordering::Relaxed);
    }

    /// Calls since the last plan, and how many of them failed.
    pub fn calls(&self) -> (u64, u64) {
        (self.faults.calls.load(Ordering::Relaxed), self.faults.fired.load(Ordering::Relaxed))
    }

    /// Compiles a kernel with other text from now on, or none.
    pub fn mutate(&self, mutant: Option<Mutant>) {
        *lock(&self.faults.mutant) = mutant;
        self.forget();
    }

    /// The module of a kernel whose text is another. What it does is not known, so it is checked as browsers do.
    pub(crate) fn mutant(&self, kernel: &Kernel) -> Option<wgpu::ShaderModule> {
        let Mutant { place, length, text, .. } = lock(&self.faults.mutant).clone().filter(|mutant| mutant.kernel == kernel.name)?;
        let source = kernel.source();
        let text = [&source[..place], &text, &source[place + length..]].concat();
        let source = wgpu::ShaderSource::Wgsl(text.into());
        Some(self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source }))
    }

    /// Drops whatever is kept for later, so that the next run makes every call.
    pub fn forget_all(&self) {
        self.forget();
    }

    /// What exists on it now.
    ///
    /// # Panics
    /// In a browser, which does not tell.
    pub fn live_objects(&self) -> LiveObjects {
        // Frees what was dropped since.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let report = self.instance.generate_report().expect("native devices tell");
        let hub = report.hub_report();
        LiveObjects {
            buffers: hub.buffers.num_allocated,
            bind_groups: hub.bind_groups.num_allocated,
            pipelines: hub.compute_pipelines.num_allocated,
        }
    }

    /// Whether this call fails.
    pub(crate) fn fails(&self, call: Call) -> bool {
        let number = self.faults.calls.fetch_add(1, Ordering::Relaxed);
        let Some(plan) = *lock(&self.faults.plan) else { return false };
        if number != plan.call && (number < plan.call || !plan.sticky) {
            return false;
        }
        self.faults.fired.fetch_add(1, Ordering::Relaxed);
        if plan.fault == Fault::Lost {
            self.device.destroy();
            return false;
        }
        let detail = format!("{call:?} number {number} fails for a test");
        let error = if call == Call::Buffer { Error::OutOfMemory { detail } } else { Error::Device { detail } };
        // What an invalid object is reported with comes after it and is not the first.
        lock(&self.failure).get_or_insert(error);
        true
    }
}

//! What a plan takes, counted from its dispatches.

use std::collections::BTreeMap;

use crate::kernel::Kernel;
use crate::lower::Binding;
use crate::memory::MemoryPlan;
use crate::ops::lower;
use crate::plan::{Cadence, Graph};
use crate::preset::Preset;
use crate::weight::WeightFormat;

/// What running a plan takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point operations of the part that runs once.
    pub once_flops: f64,
    /// Floating-point operations of each step.
    pub step_flops: f64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// Bytes of the weights, but for padding.
    pub weight_bytes: u64,
}

impl Graph {
    /// What running this plan takes; about the same on every adapter.
    pub fn cost(&self) -> Cost {
        let (mut flops, mut weights) = ([0.0; 2], BTreeMap::new());
        for step in &self.steps {
            for dispatch in lower(self, step, Preset::Gpu) {
                flops[usize::from(self.cadence(step) == Cadence::EveryStep)] += dispatch.flops;
                weights.extend(dispatch.bindings.iter().filter_map(|binding| match binding {
                    Binding::Weight(weight) => {
                        Some((weight.id(), weight.shape().elements() * if weight.format() == WeightFormat::F16 { 2 } else { 4 }))
                    }
                    _ => None,
                }));
            }
        }
        let [once_flops, step_flops] = flops;
        let weight_bytes = weights.values().map(|bytes| *bytes as u64).sum();
        Cost { once_flops, step_flops, value_bytes: MemoryPlan::new(self).total_bytes(), weight_bytes }
    }

    /// The kernels this plan needs on adapters of `preset`: what a device compiles before the first run.
    pub fn kernels(&self, preset: Preset) -> Vec<&'static Kernel> {
        let mut kernels: Vec<&'static Kernel> = Vec::new();
        for dispatch in self.steps.iter().flat_map(|step| lower(self, step, preset)) {
            if !kernels.iter().any(|k| k.name == dispatch.kernel.name) {
                kernels.push(dispatch.kernel);
            }
        }
        kernels
    }
}

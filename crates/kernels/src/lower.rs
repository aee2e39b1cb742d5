//! From one step of a plan to dispatches of kernels: the context that the operations in `ops/` lower in.

use std::collections::BTreeMap;

use crate::kernel::Kernel;
use crate::memory::MemoryPlan;
use crate::plan::{Cadence, Graph, Step, ValueId};
use crate::preset::Preset;
use crate::shape::Shape;
use crate::weight::{Weight, WeightFormat};

/// A storage buffer of a dispatch.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// A value of the plan.
    Value(ValueId),
    /// A parameter of the model.
    Weight(Weight),
    /// `len` times the same value.
    Fill { value: f32, len: usize },
    /// Data of this dispatch alone.
    Data(Vec<u32>),
}

/// One dispatch of a kernel, all items of its work. A replay may run it in parts, by other bounds in its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) kernel: &'static Kernel,
    pub(crate) params: Vec<u8>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) items: u32,
    pub(crate) flops: f64,
}

impl Dispatch {
    /// The weights it reads.
    pub(crate) fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.bindings.iter().filter_map(|binding| if let Binding::Weight(weight) = binding { Some(weight) } else { None })
    }
}

/// Where one step is lowered.
pub(crate) struct Lowering<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) step: &'a Step,
    pub(crate) preset: Preset,
    pub(crate) dispatches: Vec<Dispatch>,
}

impl Lowering<'_> {
    /// The logical shape of input `i`.
    pub(crate) fn shape(&self, i: usize) -> Shape {
        self.step.inputs[i].shape
    }

    /// The shape of the result.
    pub(crate) fn output_shape(&self) -> Shape {
        self.graph.values[self.step.output].shape
    }

    /// Vectors of four from one stored row of input `i` to the next.
    pub(crate) fn stride4(&self, i: usize) -> u32 {
        self.graph.values[self.step.inputs[i].value].shape.channels4() as u32
    }

    /// First vector of four of input `i` in its stored row.
    pub(crate) fn base4(&self, i: usize) -> u32 {
        (self.step.inputs[i].column / 4) as u32
    }

    pub(crate) fn input(&self, i: usize) -> Binding {
        Binding::Value(self.step.inputs[i].value)
    }

    pub(crate) fn output(&self) -> Binding {
        Binding::Value(self.step.output)
    }

    /// `weight`, or `len` times `fill`.
    pub(crate) fn vector(weight: Option<&Weight>, fill: f32, len: usize) -> Binding {
        weight.map_or(Binding::Fill { value: fill, len }, |w| Binding::Weight(w.clone()))
    }

    /// Adds a dispatch of `items` and `flops` operations. Which items it runs is written into `params` here.
    pub(crate) fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static Kernel,
        items: usize,
        flops: f64,
        bindings: Vec<Binding>,
        params: P,
    ) {
        let items = items as u32;
        let mut params = bytemuck::bytes_of(&params).to_vec();
        kernel.set_items(&mut params, 0, items);
        self.dispatches.push(Dispatch { kernel, params, bindings, items, flops });
    }
}

/// The dispatches of one step.
pub(crate) fn lower(graph: &Graph, step: &Step, preset: Preset) -> Vec<Dispatch> {
    let mut lowering = Lowering { graph, step, preset, dispatches: Vec::new() };
    crate::ops::lower(&mut lowering);
    lowering.dispatches
}

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

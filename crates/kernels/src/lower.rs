//! Dispatches of kernels, and the context in which the operations in `ops/` lower a step of a plan to them.

use crate::kernel::Kernel;
use crate::plan::{Graph, Step, ValueId};
use crate::preset::Preset;
use crate::shape::Shape;
use crate::weight::Weight;

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

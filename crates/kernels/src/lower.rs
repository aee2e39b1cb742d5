//! From one step of a plan to dispatches of kernels: the context that the operations in `ops/` lower in.

use crate::gpu::Family;
use crate::kernel::Kernel;
use crate::plan::{Graph, Step, ValueId};
use crate::shape::Shape;
use crate::weight::Weight;

/// Floating-point operations one dispatch and one submission may hold, so that neither runs longer than 200 ms: on a GPU
/// of 1 TFLOP/s at a quarter of its peak, or on a software adapter of 5 GFLOP/s.
pub(crate) fn work_limit(family: Family) -> f64 {
    match family {
        Family::Soft | Family::Quads | Family::Lanes => 1e9,
        Family::Gpu => 5e10,
    }
}

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

/// One dispatch of a kernel: the items `first..end` of its work.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) kernel: &'static Kernel,
    pub(crate) params: Vec<u8>,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) items: u32,
    pub(crate) flops: f64,
}

/// Where one step is lowered.
pub(crate) struct Lowering<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) step: &'a Step,
    pub(crate) family: Family,
    /// Floating-point operations a dispatch may hold.
    pub(crate) limit: f64,
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

    /// Adds the items `0..items` of a kernel, split so that no dispatch holds more than its share of `flops`.
    /// `params` gets the bounds of each part; the parts compute the same bits as the whole.
    #[expect(clippy::needless_pass_by_value, reason = "callers build the list for this call")]
    pub(crate) fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static Kernel,
        items: usize,
        flops: f64,
        bindings: Vec<Binding>,
        params: impl Fn(u32, u32) -> P,
    ) {
        let parts = (flops / self.limit).ceil().max(1.0) as usize;
        let size = items.div_ceil(parts).max(1);
        for first in (0..items).step_by(size) {
            let end = (first + size).min(items);
            self.dispatches.push(Dispatch {
                kernel,
                params: bytemuck::bytes_of(&params(first as u32, end as u32)).to_vec(),
                bindings: bindings.clone(),
                items: (end - first) as u32,
                flops: flops * (end - first) as f64 / items as f64,
            });
        }
    }
}

/// The dispatches of one step, none with more than `limit` floating-point operations unless one item has.
pub(crate) fn lower(graph: &Graph, step: &Step, family: Family, limit: f64) -> Vec<Dispatch> {
    let mut lowering = Lowering { graph, step, family, limit, dispatches: Vec::new() };
    crate::ops::lower(&mut lowering);
    lowering.dispatches
}

impl Graph {
    /// The kernels this plan needs on adapters of `family`: what a device compiles before the first run.
    pub fn kernels(&self, family: Family) -> Vec<&'static Kernel> {
        let mut kernels: Vec<&'static Kernel> = Vec::new();
        for dispatch in self.steps.iter().flat_map(|step| lower(self, step, family, f64::INFINITY)) {
            if !kernels.iter().any(|k| k.name == dispatch.kernel.name) {
                kernels.push(dispatch.kernel);
            }
        }
        kernels
    }
}

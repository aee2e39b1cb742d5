//! A recorded computation: values in single-assignment form and the steps that make them. Knows no device.
//!
//! Values that depend on nothing that changes between denoising steps form the *prelude*, which an executor runs once;
//! the rest is replayed. The split follows from [`Cadence`] of the inputs, so model code never mentions it.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::weight::Weight;

/// Index of a value in a plan.
pub type ValueId = usize;

/// When a value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cadence {
    /// Never within one generation: computed in the prelude.
    Once,
    /// Before every denoising step.
    EveryStep,
}

/// The interpretation of the 32-bit values of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    /// Floats.
    F32,
    /// Row indices or packed pixels.
    U32,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Written by the host under this name.
    Input(String),
    /// Written once by the host, updated in place by steps.
    State(String),
    /// Stored data, padded rows of 32-bit values.
    Constant(Arc<Vec<u32>>),
    /// Output of the step with this index.
    Step(usize),
}

/// One tensor of a plan.
#[derive(Clone, Debug)]
pub struct Value {
    /// Logical extents.
    pub shape: Shape,
    /// Meaning of the stored values.
    pub elem: Elem,
    /// Prelude or step.
    pub cadence: Cadence,
    /// Where it comes from.
    pub source: Source,
}

/// A tensor as an operand: possibly some columns of a wider value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The value read.
    pub value: ValueId,
    /// Logical shape of what is read.
    pub shape: Shape,
    /// First column, a multiple of four.
    pub column: usize,
}

/// One recorded operation.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// On what, in the order the operation documents.
    pub inputs: Vec<Operand>,
    /// The value made.
    pub output: ValueId,
    /// Scope and operation, e.g. `transformer_blocks.0.attn1.gemm`.
    pub label: String,
}

#[derive(Default)]
struct Recording {
    values: Vec<Value>,
    steps: Vec<Step>,
    outputs: Vec<(String, Operand)>,
    scope: Vec<String>,
    error: Option<Error>,
}

impl Recording {
    /// `op` within the current scope.
    fn label(&self, op: &str) -> String {
        self.scope.iter().map(String::as_str).chain([op]).collect::<Vec<_>>().join(".")
    }
}

/// A computation being recorded through [`Tensor`] handles.
#[derive(Default)]
pub struct Plan(RefCell<Recording>);

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&self, shape: Shape, elem: Elem, cadence: Cadence, source: Source) -> Tensor<'_> {
        let mut rec = self.0.borrow_mut();
        rec.values.push(Value { shape, elem, cadence, source });
        Tensor::new(self, Operand { value: rec.values.len() - 1, shape, column: 0 })
    }

    /// A float tensor the host writes under `name`, which nothing else has.
    #[track_caller]
    pub fn input(&self, name: &str, dims: &[usize], cadence: Cadence) -> Tensor<'_> {
        self.add_input(name, Shape::new(dims), Elem::F32, cadence)
    }

    /// A vector of row indices `[R]` the host writes under `name`, which nothing else has.
    #[track_caller]
    pub fn index_input(&self, name: &str, rows: usize, cadence: Cadence) -> Tensor<'_> {
        self.add_input(name, Shape::new(&[rows]), Elem::U32, cadence)
    }

    #[track_caller]
    fn add_input(&self, name: &str, shape: Shape, elem: Elem, cadence: Cadence) -> Tensor<'_> {
        self.check_name(name);
        self.add(shape, elem, cadence, Source::Input(name.into()))
    }

    /// Of two inputs with one name the second would never be written.
    #[track_caller]
    fn check_name(&self, name: &str) {
        let taken = |value: &Value| matches!(&value.source, Source::Input(known) | Source::State(known) if known == name);
        if self.0.borrow().values.iter().any(taken) {
            self.fail("input", "a name that no other input has", format!("`{name}` twice"));
        }
    }

    /// A float tensor the host writes once under `name` and in-place steps update; the same one for the same name.
    #[track_caller]
    pub fn state(&self, name: &str, dims: &[usize]) -> Tensor<'_> {
        let known = self.0.borrow().values.iter().position(|v| matches!(&v.source, Source::State(known) if known == name));
        if let Some(value) = known {
            let shape = self.value_shape(value);
            if shape.dims() != dims {
                self.fail("state", format!("`{name}` {shape}"), format!("{dims:?}"));
            }
            return Tensor::new(self, Operand { value, shape, column: 0 });
        }
        self.check_name(name);
        self.add(Shape::new(dims), Elem::F32, Cadence::EveryStep, Source::State(name.into()))
    }

    /// A float tensor known while recording. `values` are dense, in row-major order.
    #[track_caller]
    pub fn constant(&self, dims: &[usize], values: &[f32]) -> Tensor<'_> {
        let shape = Shape::new(dims);
        if values.len() != shape.elements() {
            self.fail("constant", format!("{} values for {shape}", shape.elements()), values.len().to_string());
            return self.add(shape, Elem::F32, Cadence::Once, Source::Constant(Arc::new(Vec::new())));
        }
        let stored = crate::shape::pad_rows(values, shape).iter().map(|v| v.to_bits()).collect();
        self.add(shape, Elem::F32, Cadence::Once, Source::Constant(Arc::new(stored)))
    }

    /// Row indices `[R]` known while recording.
    pub fn index_constant(&self, values: &[u32]) -> Tensor<'_> {
        let shape = Shape::new(&[values.len().max(1)]);
        let mut stored = values.to_vec();
        stored.resize(shape.channels4() * 4, 0);
        self.add(shape, Elem::U32, Cadence::Once, Source::Constant(Arc::new(stored)))
    }

    /// Declares `tensor` as a result the host can read under `name`.
    #[track_caller]
    pub fn output(&self, name: &str, tensor: Tensor<'_>) {
        if !tensor.is_contiguous() {
            self.fail("output", "a tensor with all its columns (call `contiguous`)", format!("a view of {} columns", tensor.channels()));
        }
        self.0.borrow_mut().outputs.push((name.into(), tensor.operand()));
    }

    /// Runs `record` with `name` appended to the labels of the steps it records.
    pub fn scope<T>(&self, name: impl Into<String>, record: impl FnOnce() -> T) -> T {
        self.0.borrow_mut().scope.push(name.into());
        let result = record();
        self.0.borrow_mut().scope.pop();
        result
    }

    /// The names of the scopes being recorded, as labels have them.
    pub fn scope_label(&self) -> String {
        self.0.borrow().scope.join(".")
    }

    /// Keeps the first error of the recording; later operators run on made-up shapes.
    #[track_caller]
    pub fn fail(&self, op: &'static str, expected: impl Into<String>, found: impl Into<String>) {
        let at = Location::caller();
        let mut rec = self.0.borrow_mut();
        let op = rec.label(op);
        rec.error.get_or_insert(Error::Shape { op, expected: expected.into(), found: found.into(), at });
    }

    pub(crate) fn record(&self, op: Op, inputs: Vec<Operand>, shape: Shape, elem: Elem) -> Tensor<'_> {
        let mut rec = self.0.borrow_mut();
        let cadence = inputs.iter().map(|i| rec.values[i.value].cadence).max().unwrap_or(Cadence::Once);
        let label = rec.label(op.name());
        let output = rec.values.len();
        let source = Source::Step(rec.steps.len());
        rec.values.push(Value { shape, elem, cadence, source });
        rec.steps.push(Step { op, inputs, output, label });
        Tensor::new(self, Operand { value: output, shape, column: 0 })
    }

    pub(crate) fn value_shape(&self, id: ValueId) -> Shape {
        self.0.borrow().values[id].shape
    }

    pub(crate) fn value_elem(&self, id: ValueId) -> Elem {
        self.0.borrow().values[id].elem
    }

    pub(crate) fn is_state(&self, id: ValueId) -> bool {
        matches!(self.0.borrow().values[id].source, Source::State(_))
    }

    /// Ends the recording and fuses (see [`crate::fuse`]).
    pub fn finish(self) -> Result<Graph> {
        let mut graph = self.finish_without_fusion()?;
        crate::fuse::fuse(&mut graph);
        Ok(graph)
    }

    /// Ends the recording and keeps every step as recorded, to bisect with.
    pub fn finish_without_fusion(self) -> Result<Graph> {
        let rec = self.0.into_inner();
        crate::counters::plan();
        match rec.error {
            Some(error) => Err(error),
            None => Ok(Graph { values: rec.values, steps: rec.steps, outputs: rec.outputs }),
        }
    }
}

/// A finished plan.
#[derive(Clone, Debug)]
pub struct Graph {
    /// All values; some may be unused after fusion.
    pub values: Vec<Value>,
    /// Steps in execution order.
    pub steps: Vec<Step>,
    /// Named results.
    pub outputs: Vec<(String, Operand)>,
}

impl Graph {
    /// The cadence of a step is that of its output.
    pub fn cadence(&self, step: &Step) -> Cadence {
        self.values[step.output].cadence
    }

    /// The value named `name` that the host may write.
    pub fn writable(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| matches!(&v.source, Source::Input(n) | Source::State(n) if n == name))
    }

    /// The operand named `name` that the host may read.
    pub fn readable(&self, name: &str) -> Option<Operand> {
        self.outputs.iter().find(|(n, _)| n == name).map(|(_, operand)| *operand)
    }

    /// The weights of all steps, as often as they are read.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        self.steps.iter().flat_map(|step| step.op.weights())
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cadence in [Cadence::Once, Cadence::EveryStep] {
            writeln!(f, "{}:", if cadence == Cadence::Once { "prelude" } else { "step" })?;
            for step in self.steps.iter().filter(|s| self.cadence(s) == cadence) {
                let inputs = step.inputs.iter().map(|i| self.operand_text(i)).collect::<Vec<_>>().join(", ");
                writeln!(f, "  %{} {} = {}({inputs})", step.output, self.values[step.output].shape, step.label)?;
            }
        }
        Ok(())
    }
}

impl Graph {
    fn operand_text(&self, operand: &Operand) -> String {
        let value = &self.values[operand.value];
        let name = match &value.source {
            Source::Input(n) | Source::State(n) => n.clone(),
            Source::Constant(_) => format!("const{}", operand.value),
            Source::Step(_) => format!("%{}", operand.value),
        };
        let columns = operand.shape.channels();
        if columns == value.shape.channels() { name } else { format!("{name}[{}..{}]", operand.column, operand.column + columns) }
    }
}

//! A plan ready to run on a device: write inputs, run the prelude once and the steps many times, read outputs.

use crate::error::{Error, Result};
use crate::memory::execution_order;
use crate::plan::{Cadence, Elem, Graph, Operand, Source, ValueId};
use crate::reference::{Data, run_step};
use crate::shape::{pad_rows, unpad_rows};

/// Where plans run. Cloning is cheap and shares the device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU twins.
    Cpu,
}

impl Device {
    /// The CPU twins: slow, exact, always there.
    pub fn cpu() -> Self {
        Self::Cpu
    }
}

/// A plan with its memory on a device.
#[derive(Debug)]
pub struct Executable {
    graph: Graph,
    order: Vec<usize>,
    values: Vec<Option<Data>>,
}

impl Executable {
    /// Prepares a finished plan for a device.
    pub fn new(_device: &Device, graph: Graph) -> Result<Self> {
        let values = graph
            .values
            .iter()
            .map(|v| match (&v.source, v.elem) {
                (Source::Constant(bits), Elem::F32) => Some(Data::F32(bits.iter().map(|b| f32::from_bits(*b)).collect())),
                (Source::Constant(bits), Elem::U32) => Some(Data::U32(bits.to_vec())),
                (Source::Input(_) | Source::State(_), elem) => Some(Data::zeros(v.shape, elem)),
                (Source::Step(_), _) => None,
            })
            .collect();
        Ok(Self { order: execution_order(&graph), graph, values })
    }

    /// The plan.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn slot(&self, name: &str, elem: Elem, len: usize) -> Result<ValueId> {
        let error = |expected: String, found: String| Error::Data { name: name.into(), expected, found };
        let id = self.graph.writable(name).ok_or_else(|| error("an input of the plan".into(), "no such input".into()))?;
        let value = &self.graph.values[id];
        if value.elem != elem || value.shape.elements() != len {
            return Err(error(format!("{:?} {}", value.elem, value.shape), format!("{len} values of {elem:?}")));
        }
        Ok(id)
    }

    /// Writes a float input or state, dense and row-major.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let id = self.slot(name, Elem::F32, values.len())?;
        self.values[id] = Some(Data::F32(pad_rows(values, self.graph.values[id].shape)));
        Ok(())
    }

    /// Writes an index input.
    pub fn write_indices(&mut self, name: &str, values: &[u32]) -> Result<()> {
        let id = self.slot(name, Elem::U32, values.len())?;
        self.values[id] = Some(Data::U32(pad_rows(values, self.graph.values[id].shape)));
        Ok(())
    }

    /// Runs what does not change between steps.
    pub fn run_prelude(&mut self) -> Result<()> {
        self.run_cadence(Cadence::Once)
    }

    /// Runs what changes between steps.
    pub fn run_step(&mut self) -> Result<()> {
        self.run_cadence(Cadence::EveryStep)
    }

    /// Runs the whole plan once.
    pub fn run(&mut self) -> Result<()> {
        self.run_prelude()?;
        self.run_step()
    }

    fn run_cadence(&mut self, cadence: Cadence) -> Result<()> {
        for &index in &self.order {
            let step = &self.graph.steps[index];
            if self.graph.cadence(step) != cadence {
                continue;
            }
            let result = run_step(&self.graph, step, &self.values);
            let target = if step.op.in_place() { step.inputs[0].value } else { step.output };
            self.values[step.output] = Some(result.clone());
            self.values[target] = Some(result);
        }
        Ok(())
    }

    /// A float output, dense and row-major.
    pub async fn read(&self, name: &str) -> Result<Vec<f32>> {
        let operand = self.output(name, Elem::F32)?;
        let stored = self.values[operand.value].as_ref().map(Data::f32).unwrap_or_default();
        Ok(unpad_rows(stored, self.graph.values[operand.value].shape))
    }

    /// A `u32` output, dense and row-major.
    pub async fn read_u32(&self, name: &str) -> Result<Vec<u32>> {
        let operand = self.output(name, Elem::U32)?;
        let stored = self.values[operand.value].as_ref().map(Data::u32).unwrap_or_default();
        Ok(unpad_rows(stored, self.graph.values[operand.value].shape))
    }

    fn output(&self, name: &str, elem: Elem) -> Result<Operand> {
        let error = |expected: String, found: String| Error::Data { name: name.into(), expected, found };
        let operand = self.graph.readable(name).ok_or_else(|| error("an output of the plan".into(), "no such output".into()))?;
        let found = self.graph.values[operand.value].elem;
        if found != elem {
            return Err(error(format!("{elem:?}"), format!("{found:?}")));
        }
        Ok(operand)
    }
}

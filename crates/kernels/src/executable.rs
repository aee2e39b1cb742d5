//! A plan ready to run on a device: write inputs, run the prelude once and the steps many times, read outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::{Device, Turn};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::memory::{execution_order, last_uses};
use crate::plan::{Cadence, Elem, Graph, Operand, Source, ValueId};
use crate::reference::{Data, HEAVY, run_step};
use crate::replay::Replay;
use crate::shape::{pad_rows, unpad_rows};
use crate::state::{HostStates, check_states};
use crate::weight::Weight;

/// A switch that ends a run between two submissions, or within a step of the processor. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks every run with this token to end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Backend {
    /// By the twins, or where there is a host by its own loops.
    Cpu {
        values: Vec<Option<Data>>,
        states: HostStates,
        host: Option<Host>,
        turn: Option<Turn>,
    },
    Gpu(Box<Replay>),
}

/// A plan with its memory on a device.
#[derive(Debug)]
pub struct Executable {
    graph: Graph,
    order: Vec<usize>,
    /// For each value the position in `order` after which nothing reads it.
    last_use: Vec<Option<usize>>,
    cancel: CancelToken,
    backend: Backend,
}

impl Executable {
    /// Allocates memory, uploads weights and compiles kernels for a finished plan.
    pub fn new(device: &Device, graph: Graph) -> Result<Self> {
        Ok(Self::build(device, vec![graph], None, None)?.remove(0))
    }

    /// [`new`](Self::new) with at most `weight_bytes` for the weights: what does not fit is streamed, segment by segment, each
    /// time the plan runs, with the same bits as a result. The CPU twins read weights where they are.
    ///
    /// # Errors
    /// [`Error::Limit`] if no two segments fit.
    pub fn with_weight_bytes(device: &Device, graph: Graph, weight_bytes: u64) -> Result<Self> {
        Ok(Self::build(device, vec![graph], None, Some(weight_bytes))?.remove(0))
    }

    /// [`new`](Self::new) with at most `limit` floating-point operations in a dispatch and in a submission instead of what
    /// the device turned out to do in a tenth of a second. It changes how often other work gets a turn, not one bit of the
    /// results.
    pub fn with_work_limit(device: &Device, graph: Graph, limit: f64) -> Result<Self> {
        Ok(Self::build(device, vec![graph], Some(limit), None)?.remove(0))
    }

    /// Executables that run one after another, each to its end and read before the next: states of equal names are one tensor,
    /// which outlives the runs, and all other memory is shared.
    ///
    /// # Errors
    /// As [`with_weight_bytes`](Self::with_weight_bytes), for the weights of each if there is a limit, and [`Error::Data`] for
    /// states of equal names and different shapes.
    pub fn group(device: &Device, graphs: Vec<Graph>, weight_bytes: Option<u64>) -> Result<Vec<Self>> {
        Self::build(device, graphs, None, weight_bytes)
    }

    fn build(device: &Device, graphs: Vec<Graph>, limit: Option<f64>, weight_bytes: Option<u64>) -> Result<Vec<Self>> {
        check_states(&graphs)?;
        graphs.iter().for_each(|_| crate::counters::executable());
        let backends: Vec<Backend> = match device {
            Device::Cpu | Device::Host(_) => {
                graphs.iter().flat_map(|graph| &graph.steps).flat_map(|step| step.op.weights()).try_for_each(Weight::check)?;
                let states = HostStates::default();
                let (fast, turn) = if let Device::Host(turn) = device { (true, *turn) } else { (!HEAVY, None) };
                let put = |graph| {
                    let host = fast.then(Host::default);
                    Backend::Cpu { values: host_values(graph), states: states.clone(), host, turn }
                };
                graphs.iter().map(put).collect()
            }
            Device::Gpu(gpu) => {
                Replay::group(gpu, &graphs, limit, weight_bytes)?.into_iter().map(|replay| Backend::Gpu(Box::new(replay))).collect()
            }
        };
        let made = graphs.into_iter().zip(backends);
        let put = |(graph, backend): (Graph, Backend)| {
            let order = execution_order(&graph);
            Self { last_use: last_uses(&graph, &order), order, graph, cancel: CancelToken::default(), backend }
        };
        Ok(made.map(put).collect())
    }

    /// Makes runs end with [`Error::Cancelled`] once `token` is cancelled.
    #[must_use]
    pub fn with_cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// The plan.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Dispatches the prelude and each step submit; 0 on the CPU.
    pub fn dispatches(&self, cadence: Cadence) -> usize {
        match &self.backend {
            Backend::Cpu { .. } => 0,
            Backend::Gpu(replay) => replay.dispatches(cadence),
        }
    }

    /// Writes a float input or state, dense and row-major.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let id = self.writable(name, Elem::F32, values.len())?;
        let stored = pad_rows(values, self.graph.values[id].shape);
        match &mut self.backend {
            Backend::Cpu { values, states, .. } => {
                let data = Data::F32(stored);
                states.write(&self.graph.values[id].source, &data);
                values[id] = Some(data);
            }
            Backend::Gpu(replay) => replay.write(id, bytemuck::cast_slice(&stored)),
        }
        Ok(())
    }

    /// Writes an index input.
    pub fn write_indices(&mut self, name: &str, values: &[u32]) -> Result<()> {
        let id = self.writable(name, Elem::U32, values.len())?;
        let stored = pad_rows(values, self.graph.values[id].shape);
        match &mut self.backend {
            Backend::Cpu { values, .. } => values[id] = Some(Data::U32(stored)),
            Backend::Gpu(replay) => replay.write(id, &stored),
        }
        Ok(())
    }

    fn writable(&self, name: &str, elem: Elem, len: usize) -> Result<ValueId> {
        let error = |expected: String, found: String| Error::Data { name: name.into(), expected, found };
        let id = self.graph.writable(name).ok_or_else(|| error("an input of the plan".into(), "no such input".into()))?;
        let value = &self.graph.values[id];
        if value.elem != elem || value.shape.elements() != len {
            return Err(error(format!("{:?} {}", value.elem, value.shape), format!("{len} values of {elem:?}")));
        }
        Ok(id)
    }

    /// Runs what does not change between steps.
    pub async fn run_prelude(&mut self) -> Result<()> {
        self.run_cadence(Cadence::Once).await
    }

    /// Runs what changes between steps.
    pub async fn run_step(&mut self) -> Result<()> {
        self.run_cadence(Cadence::EveryStep).await
    }

    /// Runs the whole plan once.
    pub async fn run(&mut self) -> Result<()> {
        self.run_prelude().await?;
        self.run_step().await
    }

    async fn run_cadence(&mut self, cadence: Cadence) -> Result<()> {
        match &mut self.backend {
            Backend::Gpu(replay) => replay.run(cadence, &|| !self.cancel.is_cancelled()).await,
            Backend::Cpu { values, states, host, turn } => {
                states.take(&self.graph, values);
                let own = |(_, i): &(usize, &usize)| self.graph.cadence(&self.graph.steps[**i]) == cadence;
                for (at, &index) in self.order.iter().enumerate().filter(own) {
                    run_on_host(&self.graph, index, values, host.as_mut(), &self.cancel);
                    if self.cancel.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    forget(&self.graph, &self.last_use, at, values);
                    if let (Some(turn), Some(true)) = (*turn, host.as_mut().map(Host::is_due)) {
                        turn().await;
                    }
                }
                states.leave(&self.graph, values);
                Ok(())
            }
        }
    }

    /// Runs only the steps of one cadence whose label starts with `scope`, over whatever the buffers hold, `times` times and
    /// waits: for measurements. Returns dispatches and floating-point operations of one time; nothing runs on the CPU.
    pub async fn run_scope(&self, cadence: Cadence, scope: &str, times: usize) -> Result<(usize, f64)> {
        match &self.backend {
            Backend::Cpu { .. } => Ok((0, 0.0)),
            Backend::Gpu(replay) => replay.run_picked(cadence, &|step| self.graph.steps[step].label.starts_with(scope), times).await,
        }
    }

    /// Waits until everything submitted has run.
    pub async fn idle(&self) -> Result<()> {
        match &self.backend {
            Backend::Cpu { .. } => Ok(()),
            Backend::Gpu(replay) => replay.idle().await,
        }
    }

    /// A float output, dense and row-major.
    pub async fn read(&self, name: &str) -> Result<Vec<f32>> {
        let operand = self.readable(name, Elem::F32)?;
        self.read_floats(operand).await
    }

    /// A `u32` output, dense and row-major.
    pub async fn read_u32(&self, name: &str) -> Result<Vec<u32>> {
        let operand = self.readable(name, Elem::U32)?;
        let shape = self.graph.values[operand.value].shape;
        match &self.backend {
            Backend::Cpu { values, .. } => Ok(unpad_rows(values[operand.value].as_ref().map(Data::u32).unwrap_or_default(), shape)),
            Backend::Gpu(replay) => Ok(unpad_rows(&replay.read(operand, shape.bytes()).await?, shape)),
        }
    }

    async fn read_floats(&self, operand: Operand) -> Result<Vec<f32>> {
        let shape = self.graph.values[operand.value].shape;
        match &self.backend {
            Backend::Cpu { values, .. } => Ok(unpad_rows(values[operand.value].as_ref().map(Data::f32).unwrap_or_default(), shape)),
            Backend::Gpu(replay) => {
                let bits = replay.read(operand, shape.bytes()).await?;
                Ok(unpad_rows(bytemuck::cast_slice(&bits), shape))
            }
        }
    }

    fn readable(&self, name: &str, elem: Elem) -> Result<Operand> {
        let error = |expected: String, found: String| Error::Data { name: name.into(), expected, found };
        let operand = self.graph.readable(name).ok_or_else(|| error("an output of the plan".into(), "no such output".into()))?;
        let found = self.graph.values[operand.value].elem;
        if found != elem {
            return Err(error(format!("{elem:?}"), format!("{found:?}")));
        }
        Ok(operand)
    }

    /// Fails if a kernel wrote outside its buffers; needs a device opened [`with_guards`](crate::Gpu::with_guards).
    pub async fn check_guards(&self) -> Result<()> {
        match &self.backend {
            Backend::Cpu { .. } => Ok(()),
            Backend::Gpu(replay) => replay.check_guards().await,
        }
    }

    /// Runs the plan again, one step at a time, and returns the first whose result is not finite as
    /// [`Error::NonFinite`]. For use after an output turned out to hold NaN or an infinity; the inputs must still be set.
    pub async fn find_non_finite(&mut self) -> Result<()> {
        for index in self.order.clone() {
            let step = &self.graph.steps[index];
            let cadence = self.graph.cadence(step);
            match &mut self.backend {
                Backend::Gpu(replay) => replay.run_single(cadence, index).await?,
                Backend::Cpu { values, host, .. } => run_on_host(&self.graph, index, values, host.as_mut(), &self.cancel),
            }
            let value = step.output;
            if self.graph.values[value].elem == Elem::F32 {
                let shape = self.graph.values[value].shape;
                let values = self.read_floats(Operand { value, shape, column: 0 }).await?;
                let count = values.iter().filter(|v| !v.is_finite()).count();
                if count > 0 {
                    return Err(Error::NonFinite { layer: self.graph.steps[index].label.clone(), count, of: values.len() });
                }
            }
        }
        Ok(())
    }
}

fn host_values(graph: &Graph) -> Vec<Option<Data>> {
    let value = |v: &crate::plan::Value| match (&v.source, v.elem) {
        (Source::Constant(bits), Elem::F32) => Some(Data::F32(bits.iter().map(|b| f32::from_bits(*b)).collect())),
        (Source::Constant(bits), Elem::U32) => Some(Data::U32(bits.to_vec())),
        (Source::Input(_) | Source::State(_), elem) => Some(Data::zeros(v.shape, elem)),
        (Source::Step(_), _) => None,
    };
    graph.values.iter().map(value).collect()
}

/// Gives back the memory of values that nothing reads any more.
fn forget(graph: &Graph, last_use: &[Option<usize>], at: usize, values: &mut [Option<Data>]) {
    for (id, value) in graph.values.iter().enumerate() {
        if last_use[id] == Some(at) && matches!(value.source, Source::Step(_)) {
            values[id] = None;
        }
    }
}

fn run_on_host(graph: &Graph, index: usize, values: &mut [Option<Data>], host: Option<&mut Host>, stop: &CancelToken) {
    let step = &graph.steps[index];
    let result = match host {
        Some(host) => host.run_step(graph, step, values, stop),
        None => run_step(graph, step, values, stop),
    };
    if step.op.in_place() {
        values[step.inputs[0].value] = Some(result.clone());
    }
    values[step.output] = Some(result);
}

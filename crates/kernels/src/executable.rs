//! A plan ready to run on a device: write inputs, run the prelude once and the steps many times, read outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::adapter::AdapterSelect;
use crate::allocation::DeviceMemory;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, lock};
use crate::memory::{MemoryPlan, execution_order, last_uses};
use crate::plan::{Cadence, Elem, Graph, Operand, Source, ValueId};
use crate::preset::Preset;
use crate::reference::{Data, run_step};
use crate::replay::Replay;
use crate::shape::{pad_rows, unpad_rows};
use crate::state::{HostStates, check_states};
use crate::weight::Weight;

/// The largest value that the CPU twins are asked for, as large as that of an ordinary GPU: they would need hours for it.
const HOST_BYTES: u64 = 1 << 30;

/// Where plans run. Cloning is cheap and shares the device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU twins.
    Cpu,
    /// A GPU.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// The CPU twins: slow, exact, always there.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// Opens a GPU; `preset` overrides the kernels chosen for the adapter.
    #[cfg_attr(target_arch = "wasm32", expect(clippy::arc_with_non_send_sync, reason = "browsers' handles stay on one thread"))]
    pub async fn gpu(select: &AdapterSelect, preset: Option<Preset>) -> Result<Self> {
        Ok(Self::Gpu(Arc::new(Gpu::open(select, preset).await?)))
    }

    /// The same adapter, opened again: for when the device was lost. Weights are uploaded when they are needed.
    #[cfg_attr(target_arch = "wasm32", expect(clippy::arc_with_non_send_sync, reason = "browsers' handles stay on one thread"))]
    pub async fn reopened(&self) -> Result<Self> {
        match self {
            Self::Cpu => Ok(Self::Cpu),
            Self::Gpu(gpu) => Ok(Self::Gpu(Arc::new(gpu.reopened().await?))),
        }
    }

    /// Whether both are one and the same.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu, Self::Cpu) => true,
            (Self::Gpu(own), Self::Gpu(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// Fails with [`Error::Limit`] if a buffer of `graph` is larger than this device allows: to know it before the work that
    /// leads there.
    pub fn check_limits(&self, graph: &Graph) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Gpu(gpu) => MemoryPlan::new(graph).buffers.iter().try_for_each(|bytes| gpu.check_limit("activations", *bytes)),
        }
    }

    /// Fails with [`Error::Limit`] if this device cannot hold so many bytes of `what` in one piece.
    pub fn check_bytes(&self, what: &str, bytes: u64) -> Result<()> {
        match self {
            Self::Cpu if bytes > HOST_BYTES => {
                let remedy = "lower the size or the number of frames";
                Err(Error::Limit { what: what.into(), needed: bytes, limit: HOST_BYTES, remedy })
            }
            Self::Cpu => Ok(()),
            Self::Gpu(gpu) => gpu.check_limit(what, bytes),
        }
    }

    /// What the buffers of the device take; nothing on the CPU.
    pub fn memory(&self) -> DeviceMemory {
        match self {
            Self::Cpu => DeviceMemory::default(),
            Self::Gpu(gpu) => gpu.memory(),
        }
    }

    /// Gives back the memory of weights, but for those that `keep` wants and those that executables read.
    pub fn evict(&self, keep: impl Fn(u64) -> bool) {
        if let Self::Gpu(gpu) = self {
            lock(&gpu.weights).retain(|id, _| keep(*id));
        }
    }

    /// Whether what it holds is in the memory of the machine.
    pub fn uses_host_memory(&self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Gpu(gpu) => ["Cpu", "IntegratedGpu"].contains(&gpu.info().device_type.as_str()),
        }
    }

    /// The kernels in use; none on the CPU.
    pub fn preset(&self) -> Option<Preset> {
        match self {
            Self::Cpu => None,
            Self::Gpu(gpu) => Some(gpu.preset()),
        }
    }

    /// The browser's `GPUDevice`: wgpu cannot compile asynchronously, JavaScript can, and the browser finds a pipeline that
    /// exists already by its contents.
    #[cfg(target_arch = "wasm32")]
    pub fn web_handle(&self) -> Option<wasm_bindgen::JsValue> {
        match self {
            Self::Cpu => None,
            Self::Gpu(gpu) => gpu.device.as_webgpu().map(|device| device.clone().into()),
        }
    }

    /// Adapter and kernels, for logs and test messages.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "CPU twins".into(),
            Self::Gpu(gpu) => format!("{} ({:?} kernels)", gpu.info().name, gpu.preset()),
        }
    }
}

/// A switch that ends a run between two submissions. Clones share it.
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
    Cpu { values: Vec<Option<Data>>, states: HostStates },
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
            Device::Cpu => {
                graphs.iter().flat_map(|graph| &graph.steps).flat_map(|step| step.op.weights()).try_for_each(Weight::check)?;
                let states = HostStates::default();
                graphs.iter().map(|graph| Backend::Cpu { values: host_values(graph), states: states.clone() }).collect()
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
            Backend::Cpu { values, states } => {
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
            Backend::Cpu { values, states } => {
                states.take(&self.graph, values);
                let own = |(_, i): &(usize, &usize)| self.graph.cadence(&self.graph.steps[**i]) == cadence;
                for (at, &index) in self.order.iter().enumerate().filter(own) {
                    if self.cancel.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    run_on_host(&self.graph, index, values);
                    forget(&self.graph, &self.last_use, at, values);
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

    /// Fails if a kernel wrote outside its buffers; needs a device opened [`with_guards`](Gpu::with_guards).
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
                Backend::Cpu { values, .. } => run_on_host(&self.graph, index, values),
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

fn run_on_host(graph: &Graph, index: usize, values: &mut [Option<Data>]) {
    let step = &graph.steps[index];
    let result = run_step(graph, step, values);
    if step.op.in_place() {
        values[step.inputs[0].value] = Some(result.clone());
    }
    values[step.output] = Some(result);
}

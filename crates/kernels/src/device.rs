//! Where plans run: a GPU, the processor, or the CPU twins.

use std::pin::Pin;
use std::sync::Arc;

use crate::adapter::AdapterSelect;
use crate::allocation::DeviceMemory;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, lock};
use crate::memory::MemoryPlan;
use crate::plan::Graph;
use crate::preset::Preset;

/// The largest value that the CPU twins are asked for, as large as that of an ordinary GPU: they would need hours for it.
const HOST_BYTES: u64 = 1 << 30;

/// Waits after a fault, each of which may bring more of it.
const SETTLING: usize = 3;

/// Lets others on this thread have a turn, where a thread has nobody else to do it.
pub type Turn = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// Where plans run. Cloning is cheap and shares the device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU twins.
    Cpu,
    /// The processor without a graphics API, in single precision; it lets others have a turn now and then.
    Host(Option<Turn>),
    /// A GPU.
    Gpu(Arc<Gpu>),
}

impl Device {
    /// The CPU twins: slow, exact, always there.
    pub fn cpu() -> Self {
        Self::Cpu
    }

    /// The processor as fast as it goes without a graphics API: one that is always there, for models that are small.
    pub fn host(turn: Option<Turn>) -> Self {
        Self::Host(turn)
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
            Self::Cpu | Self::Host(_) => Ok(self.clone()),
            Self::Gpu(gpu) => Ok(Self::Gpu(Arc::new(gpu.reopened().await?))),
        }
    }

    /// Whether both are one and the same.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu, Self::Cpu) | (Self::Host(_), Self::Host(_)) => true,
            (Self::Gpu(own), Self::Gpu(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }

    /// Fails with [`Error::Limit`] if a buffer of `graph` is larger than this device allows: to know it before the work that
    /// leads there.
    pub fn check_limits(&self, graph: &Graph) -> Result<()> {
        match self {
            Self::Cpu | Self::Host(_) => Ok(()),
            Self::Gpu(gpu) => MemoryPlan::new(graph).buffers.iter().try_for_each(|bytes| gpu.check_limit("activations", *bytes)),
        }
    }

    /// Fails with [`Error::Limit`] if this device cannot hold a weight of a plan in one buffer; reads none of them.
    pub fn check_weights(&self, graph: &Graph) -> Result<()> {
        let Self::Gpu(gpu) = self else { return Ok(()) };
        graph.steps.iter().flat_map(|step| step.op.weights()).try_for_each(|weight| gpu.check_weight(weight))
    }

    /// Fails with [`Error::Limit`] if this device cannot hold so many bytes of one frame, which only another size makes fewer.
    pub fn check_frame(&self, bytes: u64) -> Result<()> {
        let (what, remedy) = ("a frame", "lower the size");
        match self {
            Self::Cpu | Self::Host(_) if bytes > HOST_BYTES => {
                Err(Error::Limit { what: what.into(), needed: bytes, limit: HOST_BYTES, remedy })
            }
            Self::Cpu | Self::Host(_) => Ok(()),
            Self::Gpu(gpu) => gpu.check_limit_of(what, bytes, remedy),
        }
    }

    /// Waits for what is still to be said of a fault, so that it is not taken for one of what comes next: browsers report
    /// everything that was asked after it one by one, and later. Natively it was said at once.
    pub async fn settle(&self) {
        if let Self::Gpu(gpu) = self
            && cfg!(target_arch = "wasm32")
        {
            for _ in 0..SETTLING {
                if gpu.idle().await.is_ok() {
                    break;
                }
            }
        }
    }

    /// What the buffers of the device take; nothing on the CPU.
    pub fn memory(&self) -> DeviceMemory {
        match self {
            Self::Cpu | Self::Host(_) => DeviceMemory::default(),
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
            Self::Cpu | Self::Host(_) => true,
            Self::Gpu(gpu) => ["Cpu", "IntegratedGpu"].contains(&gpu.info().device_type.as_str()),
        }
    }

    /// The kernels in use; none on the CPU.
    pub fn preset(&self) -> Option<Preset> {
        match self {
            Self::Cpu | Self::Host(_) => None,
            Self::Gpu(gpu) => Some(gpu.preset()),
        }
    }

    /// The browser's `GPUDevice`: wgpu cannot compile asynchronously, JavaScript can, and the browser finds a pipeline that
    /// exists already by its contents.
    #[cfg(target_arch = "wasm32")]
    pub fn web_handle(&self) -> Option<wasm_bindgen::JsValue> {
        match self {
            Self::Cpu | Self::Host(_) => None,
            Self::Gpu(gpu) => gpu.device.as_webgpu().map(|device| device.clone().into()),
        }
    }

    /// Adapter and kernels, for logs and test messages.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "CPU twins".into(),
            Self::Host(_) => "CPU".into(),
            Self::Gpu(gpu) => format!("{} ({:?} kernels)", gpu.info().name, gpu.preset()),
        }
    }
}

//! The GPU: one adapter, its device and queue, compiled pipelines and uploaded weights. Owns all `wgpu` handles that
//! outlive a plan.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::flight::Flights;
use crate::kernel::{Access, Kernel};
use crate::weight::{WeakWeight, Weight};

/// Which implementation of the heavy kernels runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Barrier-free register blocks, for software adapters.
    Soft,
    /// [`Soft`](Self::Soft) with loads shared in quads, for software adapters with subgroups of 4 (SwiftShader).
    Quads,
    /// Register blocks that a subgroup shares, for software adapters with subgroups of 8 and 64-bit integers (lavapipe on AVX2).
    Lanes,
    /// Tiles in workgroup memory, for GPUs.
    Gpu,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Soft, Self::Quads, Self::Lanes, Self::Gpu];

    /// Invocations of a subgroup the kernels need, if they need subgroups.
    pub const fn subgroup_size(self) -> Option<u32> {
        match self {
            Self::Soft | Self::Gpu => None,
            Self::Quads => Some(4),
            Self::Lanes => Some(8),
        }
    }

    /// What the kernels need of an adapter, in words.
    pub(crate) const fn needs(self) -> &'static str {
        match self {
            Self::Soft | Self::Gpu => "nothing optional",
            Self::Quads => "subgroups of 4 invocations",
            Self::Lanes => "subgroups of 8 invocations and 64-bit integers in shaders",
        }
    }

    /// What the kernels need of a device.
    const fn features(self) -> wgpu::Features {
        match self {
            Self::Soft | Self::Gpu => wgpu::Features::empty(),
            Self::Quads => wgpu::Features::SUBGROUP,
            Self::Lanes => wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64),
        }
    }
}

/// Which adapter to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterSelect {
    /// The fastest kind: discrete, integrated, virtual, then software.
    #[default]
    Auto,
    /// Position in [`adapters`].
    Index(usize),
    /// Part of the name, in any case.
    Name(String),
}

/// What an adapter reports about itself.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Product name.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub device_type: String,
    /// Driver and its version.
    pub driver: String,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Invocations of a subgroup, if the adapter has subgroups and all of one size.
    pub subgroup_size: Option<u32>,
    /// Whether shaders may use 64-bit integers.
    pub integers64: bool,
    /// Kernel family chosen for it.
    pub family: Family,
}

impl AdapterInfo {
    /// Every kernel family the adapter can run.
    pub fn families(&self) -> Vec<Family> {
        let runs = |f: &Family| {
            f.subgroup_size().is_none_or(|size| self.subgroup_size == Some(size))
                && (self.integers64 || !f.features().contains(wgpu::Features::SHADER_INT64))
        };
        Family::ALL.into_iter().filter(runs).collect()
    }
}

/// The adapters of this machine, in the order [`AdapterSelect::Index`] counts them.
pub async fn adapters() -> Vec<AdapterInfo> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    instance.enumerate_adapters(wgpu::Backends::all()).await.iter().map(describe).collect()
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let fixed = adapter.features().contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size == info.subgroup_max_size;
    let mut described = AdapterInfo {
        backend: format!("{:?}", info.backend),
        device_type: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup_size: fixed.then_some(info.subgroup_min_size),
        integers64: adapter.features().contains(wgpu::Features::SHADER_INT64),
        family: Family::Gpu,
        // Browsers keep it to themselves.
        name: if info.name.is_empty() { "WebGPU adapter".into() } else { info.name },
    };
    if info.device_type == wgpu::DeviceType::Cpu {
        let families = described.families();
        let best = [Family::Lanes, Family::Quads].into_iter().find(|f| families.contains(f));
        described.family = best.unwrap_or(Family::Soft);
    }
    described
}

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// An opened adapter.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    info: AdapterInfo,
    guarded: bool,
    failure: Arc<Mutex<Option<Error>>>,
    pipelines: Mutex<HashMap<&'static str, Arc<Pipeline>>>,
    weights: Mutex<HashMap<u64, (WeakWeight, wgpu::Buffer)>>,
    fills: Mutex<HashMap<(u32, usize), wgpu::Buffer>>,
    pub(crate) flights: Mutex<Flights>,
}

impl Gpu {
    /// Opens an adapter with all its limits; `family` overrides the choice of kernels.
    pub async fn open(select: &AdapterSelect, family: Option<Family>) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pick(&instance, select).await?;
        let mut info = describe(&adapter);
        info.family = family.unwrap_or(info.family);
        if !info.families().contains(&info.family) {
            return Err(Error::Family { adapter: info.name, family: info.family, subgroup_size: info.subgroup_size });
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("kinora"),
            required_features: info.family.features(),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| Error::Device { detail: e.to_string() })?;
        let failure = Arc::new(Mutex::new(None));
        let on_error = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let error = match error {
                wgpu::Error::OutOfMemory { source } => Error::OutOfMemory { detail: source.to_string() },
                other => Error::Device { detail: other.to_string() },
            };
            lock(&on_error).get_or_insert(error);
        }));
        let on_loss = failure.clone();
        device.set_device_lost_callback(move |_, message| {
            // Replaces whatever error the loss caused before it was announced. Nobody asks after `Gpu` itself is dropped.
            *lock(&on_loss) = Some(Error::DeviceLost { detail: message });
        });
        Ok(Self {
            device,
            queue,
            info,
            guarded: false,
            failure,
            pipelines: Mutex::default(),
            weights: Mutex::default(),
            fills: Mutex::default(),
            flights: Mutex::default(),
        })
    }

    /// Surrounds every buffer of a plan with guard words and fills it with NaN, for
    /// [`Executable::check_guards`](crate::Executable::check_guards).
    #[must_use]
    pub fn with_guards(mut self) -> Self {
        self.guarded = true;
        self
    }

    pub(crate) fn guarded(&self) -> bool {
        self.guarded
    }

    /// The adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The kernels in use.
    pub fn family(&self) -> Family {
        self.info.family
    }

    /// The first error the device reported outside a call.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// Fails if one buffer cannot hold `bytes`.
    pub(crate) fn check_limit(&self, what: &str, bytes: u64) -> Result<()> {
        let limit = self.info.max_binding_bytes.min(self.info.max_buffer_bytes);
        if bytes > limit {
            let remedy = "lower the size or the number of frames, or use f16 weights";
            return Err(Error::Limit { what: what.into(), needed: bytes, limit, remedy });
        }
        Ok(())
    }

    /// A storage buffer of at least `bytes`, checked against the limits.
    pub(crate) fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer> {
        self.check_limit(what, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = bytes.next_multiple_of(16).max(16);
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false }))
    }

    /// A storage buffer with contents.
    pub(crate) fn upload(&self, what: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.storage(what, bytes.len() as u64)?;
        self.queue.write_buffer(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// The device copy of a weight: panels for matrices and convolutions, padded f32 for vectors. Uploaded once, freed
    /// when the last [`Weight`] handle is gone.
    pub(crate) fn weight(&self, weight: &Weight) -> Result<wgpu::Buffer> {
        if let Some((_, buffer)) = lock(&self.weights).get(&weight.id()) {
            return Ok(buffer.clone());
        }
        weight.check()?;
        let bytes = if weight.shape().rank() == 1 { weight.vector_bytes() } else { weight.panel_bytes() };
        let buffer = self.upload(weight.name(), &bytes)?;
        let mut weights = lock(&self.weights);
        weights.retain(|_, (handle, _)| handle.alive());
        weights.insert(weight.id(), (weight.downgrade(), buffer.clone()));
        Ok(buffer)
    }

    /// A vector of `len` equal values.
    pub(crate) fn fill(&self, value: f32, len: usize) -> Result<wgpu::Buffer> {
        let key = (value.to_bits(), len);
        if let Some(buffer) = lock(&self.fills).get(&key) {
            return Ok(buffer.clone());
        }
        let mut values = vec![value; len];
        values.resize(len.next_multiple_of(4), 0.0);
        let buffer = self.upload("fill", bytemuck::cast_slice(&values))?;
        lock(&self.fills).insert(key, buffer.clone());
        Ok(buffer)
    }

    /// The pipeline of a kernel, compiled on first use.
    pub(crate) fn pipeline(&self, kernel: &'static Kernel) -> Arc<Pipeline> {
        if let Some(pipeline) = lock(&self.pipelines).get(kernel.name) {
            return pipeline.clone();
        }
        let pipeline = Arc::new(self.compile(kernel));
        lock(&self.pipelines).insert(kernel.name, pipeline.clone());
        pipeline
    }

    fn compile(&self, kernel: &'static Kernel) -> Pipeline {
        let source = wgpu::ShaderSource::Wgsl(kernel.source.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source };
        // SAFETY: the build validates every kernel, their loops are bounded by Params, and the tests run each one between
        // canaries; the checks would only slow down inner loops.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let entry = |(binding, access): (usize, &Access)| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                },
                // The parameters of a part of a dispatch are elsewhere than those of the whole.
                has_dynamic_offset: *access == Access::Uniform,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = kernel.bindings.iter().enumerate().map(entry).collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name), entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    /// Reads `bytes` of a buffer from `offset`.
    pub(crate) async fn download(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: Some("read"), size: bytes, usage, mapped_at_creation: false });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        let done = Signal::default();
        let notify = done.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |_| notify.set());
        self.wait(&done).await?;
        let view = staging.get_mapped_range(..).map_err(|e| Error::Device { detail: format!("reading back: {e}") })?;
        let contents = view.to_vec();
        drop(view);
        // In a browser, dropping it would wait for the garbage collector.
        staging.destroy();
        Ok(contents)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.info).finish()
    }
}

async fn pick(instance: &wgpu::Instance, select: &AdapterSelect) -> Result<wgpu::Adapter> {
    let mut all = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let names = all.iter().map(|a| a.get_info().name).collect::<Vec<_>>();
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 3,
        wgpu::DeviceType::Other => 4,
    };
    let (position, wanted) = match select {
        AdapterSelect::Auto => ((0..all.len()).min_by_key(|&i| rank(&all[i])), "of any kind".to_owned()),
        AdapterSelect::Index(i) => (Some(*i).filter(|i| *i < all.len()), format!("with index {i}")),
        AdapterSelect::Name(part) => {
            let part = part.to_lowercase();
            (names.iter().position(|n| n.to_lowercase().contains(&part)), format!("named `{part}`"))
        }
    };
    match position {
        Some(i) => Ok(all.swap_remove(i)),
        None => Err(Error::NoAdapter { wanted, found }),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A flag another thread or the browser sets once, awaitable.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<(AtomicBool, Mutex<Option<std::task::Waker>>)>);

impl Signal {
    pub(crate) fn set(&self) {
        self.0.0.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.0.1).take() {
            waker.wake();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.0.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|cx| {
            *lock(&self.0.1) = Some(cx.waker().clone());
            if self.is_set() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

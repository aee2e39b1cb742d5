//! The GPU: one opened adapter, its device, queue and failures, and compiled pipelines. Owns all `wgpu` handles that outlive
//! a plan; `buffers.rs` fills them, `flight.rs` waits.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::adapter::{AdapterInfo, AdapterSelect, describe, instance, pick};
use crate::allocation::{Buffer, Tally};
use crate::calls::Call;
use crate::error::{Error, Result};
use crate::flight::Flights;
use crate::kernel::{Access, Kernel};
use crate::preset::Preset;
use crate::weight::WeakWeight;

/// How long the news may take that a device is lost.
const NEWS_OF_LOSS: std::time::Duration = std::time::Duration::from_secs(2);

/// Drivers optimise deep expressions by recursion: as much as the main thread has on most systems.
#[cfg(not(target_arch = "wasm32"))]
const COMPILER_STACK: usize = 8 << 20;

/// A compiled kernel.
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// An opened adapter.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// What it was opened with.
    select: AdapterSelect,
    info: AdapterInfo,
    guarded: bool,
    pub(crate) failure: Arc<Mutex<Option<Error>>>,
    pipelines: Mutex<HashMap<&'static str, Arc<Pipeline>>>,
    /// Where the driver keeps what it compiled.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) cache: std::sync::OnceLock<wgpu::PipelineCache>,
    pub(crate) weights: Mutex<HashMap<u64, (WeakWeight, Buffer)>>,
    pub(crate) fills: Mutex<HashMap<(u32, usize), Buffer>>,
    pub(crate) flights: Mutex<Flights>,
    /// Bytes uploaded since the last submission.
    pub(crate) staged: AtomicU64,
    pub(crate) tally: Arc<Tally>,
    /// What was last read back through.
    pub(crate) readback: Mutex<Option<Buffer>>,
    #[cfg(feature = "faults")]
    pub(crate) instance: wgpu::Instance,
    #[cfg(feature = "faults")]
    pub(crate) faults: Arc<crate::fault::Faults>,
}

impl Gpu {
    /// Opens an adapter with all its limits; `preset` overrides the choice of kernels.
    pub async fn open(select: &AdapterSelect, preset: Option<Preset>) -> Result<Self> {
        let instance = instance();
        let adapter = pick(&instance, select).await?;
        let mut info = describe(&adapter);
        info.preset = preset.unwrap_or(info.preset);
        if !info.presets().contains(&info.preset) {
            return Err(Error::Preset { adapter: info.name, preset: info.preset, subgroup_size: info.subgroup_size });
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("kinora"),
            // Kernels can be kept where there is such a cache.
            required_features: info.preset.features() | (adapter.features() & wgpu::Features::PIPELINE_CACHE),
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(refused)?;
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
            select: select.clone(),
            info,
            guarded: false,
            failure,
            pipelines: Mutex::default(),
            #[cfg(not(target_arch = "wasm32"))]
            cache: std::sync::OnceLock::new(),
            weights: Mutex::default(),
            fills: Mutex::default(),
            flights: Mutex::default(),
            staged: AtomicU64::new(0),
            tally: Arc::default(),
            readback: Mutex::default(),
            #[cfg(feature = "faults")]
            instance,
            #[cfg(feature = "faults")]
            faults: Arc::default(),
        })
    }

    /// Opens its adapter again, for when the device was lost.
    pub(crate) async fn reopened(&self) -> Result<Self> {
        let new = Self::open(&self.select, Some(self.preset())).await?;
        #[cfg(feature = "faults")]
        let new = Self { faults: self.faults.clone(), ..new };
        Ok(Self { guarded: self.guarded, ..new })
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
    pub fn preset(&self) -> Preset {
        self.info.preset
    }

    /// The first error the device reported outside a call since this was asked last. Only a lost device stays so; after
    /// anything else, running out of memory above all, what is cached may be invalid and is made anew.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(mut error) = lock(&self.failure).clone() else { return Ok(()) };
        if cfg!(not(target_arch = "wasm32")) {
            // A lost device shows first as one refused command or another, and says so when what was under way has ended.
            let _ = self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(NEWS_OF_LOSS) });
            error = lock(&self.failure).clone().unwrap_or(error);
        }
        if !matches!(error, Error::DeviceLost { .. }) {
            *lock(&self.failure) = None;
        }
        self.forget();
        Err(error)
    }

    /// What is behind a call that failed.
    pub(crate) fn failed(&self, detail: impl Into<String>) -> Error {
        let error = Error::Device { detail: detail.into() };
        lock(&self.failure).get_or_insert_with(|| error.clone());
        self.check().err().unwrap_or(error)
    }

    /// Drops what is kept for later.
    pub(crate) fn forget(&self) {
        lock(&self.pipelines).clear();
        lock(&self.weights).clear();
        lock(&self.fills).clear();
        lock(&self.readback).take();
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

    /// Compiles what of these is not yet, on as many threads as the machine has.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn compile_all(&self, kernels: impl IntoIterator<Item = &'static Kernel>) {
        let mut missing: Vec<&'static Kernel> = Vec::new();
        for kernel in kernels {
            let is_known = lock(&self.pipelines).contains_key(kernel.name) || missing.iter().any(|other| other.name == kernel.name);
            if !is_known {
                missing.push(kernel);
            }
        }
        let next = AtomicUsize::new(0);
        let compile = || {
            while let Some(kernel) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.pipeline(kernel);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, the others do its work.
                let _ = std::thread::Builder::new().stack_size(COMPILER_STACK).spawn_scoped(scope, compile);
            }
            compile();
        });
    }

    /// A page has compiled them already.
    #[cfg(target_arch = "wasm32")]
    #[expect(clippy::unused_self, reason = "the same on all targets")]
    pub(crate) fn compile_all(&self, _: impl IntoIterator<Item = &'static Kernel>) {}

    fn compile(&self, kernel: &'static Kernel) -> Pipeline {
        crate::counters::kernel();
        let source = wgpu::ShaderSource::Wgsl(kernel.source().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source };
        // SAFETY: the build validates every kernel, their loops are bounded by Params, and the tests run each one between
        // canaries; the checks would only slow down inner loops.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        #[cfg(feature = "faults")]
        let module = self.mutant(kernel).unwrap_or(module);
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
            // Another is an error.
            entry_point: Some(if self.fails(Call::Pipeline) { "none" } else { "main" }),
            compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
            #[cfg(target_arch = "wasm32")]
            cache: None,
            #[cfg(not(target_arch = "wasm32"))]
            cache: self.cache.get(),
        });
        Pipeline { pipeline, layout }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.info).finish()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an adapter gives no device, of which wgpu tells the kind in words only.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: wgpu::RequestDeviceError) -> Error {
    let detail = error.to_string();
    if detail.contains("memory") { Error::OutOfMemory { detail } } else { Error::Device { detail } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cadence, Device, Executable, Graph, Plan, Shape, Weight, WeightFormat, adapters};

    fn graph() -> Graph {
        let plan = Plan::new();
        let weight = Weight::from_f32("w", Shape::new(&[8, 8]), &[0.5; 64], WeightFormat::F32);
        plan.output("y", plan.input("x", &[4, 8], Cadence::Once).linear(&weight, None).silu());
        plan.finish().expect("valid")
    }

    fn evaluate(device: &Device, graph: &Graph) -> Result<Vec<f32>> {
        let mut exec = Executable::new(device, graph.clone())?;
        exec.write("x", &[0.25; 32])?;
        pollster::block_on(async {
            exec.run().await?;
            exec.read("y").await
        })
    }

    #[test]
    fn a_device_that_ran_out_of_memory_or_refused_something_works_again() {
        for index in 0..pollster::block_on(adapters()).len() {
            let gpu = Arc::new(pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed opens"));
            let (device, graph) = (Device::Gpu(gpu.clone()), graph());
            let expected = evaluate(&device, &graph).expect("runs");
            // As the driver reports it.
            *lock(&gpu.failure) = Some(Error::OutOfMemory { detail: "made up".into() });
            assert_eq!(evaluate(&device, &graph).expect_err("reported").code(), "out-of-memory");
            assert_eq!(evaluate(&device, &graph).expect("memory is there again"), expected);
            // A buffer that really is refused.
            let size = gpu.info().max_buffer_bytes + 16;
            let usage = wgpu::BufferUsages::STORAGE;
            drop(gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false }));
            assert_eq!(evaluate(&device, &graph).expect_err("reported").code(), "device");
            assert_eq!(evaluate(&device, &graph).expect("nothing invalid is kept"), expected);
            *lock(&gpu.failure) = Some(Error::DeviceLost { detail: "made up".into() });
            for _ in 0..2 {
                assert_eq!(evaluate(&device, &graph).expect_err("gone").code(), "device-lost");
            }
        }
    }
}

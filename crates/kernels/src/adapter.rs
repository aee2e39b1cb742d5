//! Adapters: what there are, what each reports about itself, and which one is opened.

use crate::error::{Error, Result};
use crate::preset::Preset;

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
    /// Most invocations of a workgroup.
    pub max_invocations: u32,
    /// Most memory of a workgroup in bytes.
    pub max_workgroup_bytes: u32,
    /// Invocations of a subgroup, if the adapter has subgroups and all of one size.
    pub subgroup_size: Option<u32>,
    /// Whether shaders may use 64-bit integers.
    pub integers64: bool,
    /// Kernels chosen for it.
    pub preset: Preset,
}

impl AdapterInfo {
    /// Every preset the adapter can run.
    pub fn presets(&self) -> Vec<Preset> {
        Preset::ALL.into_iter().filter(|preset| preset.runs_on(self)).collect()
    }
}

/// The adapters of this machine, in the order [`AdapterSelect::Index`] counts them.
pub async fn adapters() -> Vec<AdapterInfo> {
    available(&instance()).await.iter().map(describe).collect()
}

pub(crate) fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
}

/// Natively all; a browser chooses one and, unless it is asked for speed, may choose the slower of two.
async fn available(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    if cfg!(target_arch = "wasm32") {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.into_iter().collect();
    }
    instance.enumerate_adapters(wgpu::Backends::all()).await
}

pub(crate) fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let fixed = adapter.features().contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size == info.subgroup_max_size;
    let mut described = AdapterInfo {
        backend: format!("{:?}", info.backend),
        device_type: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        subgroup_size: fixed.then_some(info.subgroup_min_size),
        integers64: adapter.features().contains(wgpu::Features::SHADER_INT64),
        preset: Preset::Soft,
        // Browsers keep it to themselves.
        name: if info.name.is_empty() { "WebGPU adapter".into() } else { info.name },
    };
    described.preset = Preset::best_for(&described);
    described
}

pub(crate) async fn pick(instance: &wgpu::Instance, select: &AdapterSelect) -> Result<wgpu::Adapter> {
    let mut all = available(instance).await;
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

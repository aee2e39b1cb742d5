//! Devices and comparison for the kernel tests.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod body;

use std::sync::{Arc, OnceLock};

use kinora_kernels::{AdapterSelect, Device, Executable, Gpu, Graph, Preset, adapters};

/// Every adapter of this machine with every kernels it runs. Panics without an adapter: these tests never skip.
pub(crate) fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let adapters = pollster::block_on(adapters());
        assert!(!adapters.is_empty(), "the kernel tests need a Vulkan adapter; `cargo xtask test` installs one");
        let open = |i: usize, preset| {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(i), Some(preset))).expect("an adapter that is listed opens");
            Device::Gpu(Arc::new(gpu.with_guards()))
        };
        // KINORA_KERNELS=soft, quads, lanes or gpu narrows a run while working on one preset.
        let named = std::env::var("KINORA_KERNELS").ok().filter(|name| !name.is_empty());
        let only = named.map(|name| name.parse::<Preset>().expect("KINORA_KERNELS"));
        let presets = |i: usize| only.map_or_else(|| adapters[i].presets(), |preset| vec![preset]);
        (0..adapters.len()).flat_map(|i| presets(i).into_iter().map(move |preset| open(i, preset))).collect()
    })
}

/// Writes noise to every float input and state, `indices` to every index input, runs, checks the guards, reads `y`.
pub(crate) fn run(device: &Device, graph: &Graph, indices: &[u32]) -> Vec<f32> {
    run_built(device, graph, indices, Executable::new)
}

/// [`run`] of what `build` makes of device and graph.
pub(crate) fn run_built(
    device: &Device,
    graph: &Graph,
    indices: &[u32],
    build: impl Fn(&Device, Graph) -> kinora_kernels::Result<Executable>,
) -> Vec<f32> {
    pollster::block_on(body::evaluate(device, graph, indices, build)).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Compares every device, and the processor, with the CPU twin.
pub(crate) fn assert_matches_twin(graph: &Graph, terms: usize, indices: &[u32]) {
    let expected = run(&Device::cpu(), graph, indices);
    for device in devices().iter().chain([&Device::host(None)]) {
        let compared = pollster::block_on(body::compare(device, graph, terms, indices, &expected));
        compared.unwrap_or_else(|problem| panic!("{problem}"));
    }
}

//! Devices and comparison for the kernel tests.

use std::sync::{Arc, OnceLock};

use kinora_kernels::{AdapterSelect, Device, Executable, Family, Gpu, Graph, adapters};

/// Every adapter of this machine with every kernel family it runs. Panics without an adapter: these tests never skip.
pub(crate) fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let adapters = pollster::block_on(adapters());
        assert!(!adapters.is_empty(), "the kernel tests need a Vulkan adapter; `cargo xtask test` installs one");
        let open = |i: usize, family| {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(i), Some(family))).expect("an adapter that is listed opens");
            Device::Gpu(Arc::new(gpu.with_guards()))
        };
        // KINORA_KERNELS=soft, quads, lanes or gpu narrows a run while working on one family.
        let only = match std::env::var("KINORA_KERNELS").as_deref() {
            Ok("soft") => Some(Family::Soft),
            Ok("quads") => Some(Family::Quads),
            Ok("lanes") => Some(Family::Lanes),
            Ok("gpu") => Some(Family::Gpu),
            _ => None,
        };
        let families = |i: usize| only.map_or_else(|| adapters[i].families(), |family| vec![family]);
        (0..adapters.len()).flat_map(|i| families(i).into_iter().map(move |family| open(i, family))).collect()
    })
}

/// Seeded values in −1..1 that are no multiples of a power of two.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
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
    let context = format!("{} on {}", graph.steps.last().map_or("", |s| &s.label), device.name());
    let mut exec = build(device, graph.clone()).unwrap_or_else(|e| panic!("{context}: {e}"));
    for (i, value) in graph.values.iter().enumerate() {
        let (kinora_kernels::Source::Input(name) | kinora_kernels::Source::State(name)) = &value.source else { continue };
        let written = match value.elem {
            kinora_kernels::Elem::F32 => exec.write(name, &noise(value.shape.elements(), i as u32 + 1)),
            kinora_kernels::Elem::U32 => exec.write_indices(name, indices),
        };
        written.unwrap_or_else(|e| panic!("{context}: {e}"));
    }
    pollster::block_on(async {
        exec.run().await.unwrap_or_else(|e| panic!("{context}: {e}"));
        exec.check_guards().await.unwrap_or_else(|e| panic!("{context}: {e}"));
        exec.read("y").await.unwrap_or_else(|e| panic!("{context}: {e}"))
    })
}

/// Compares every device with the CPU twin: `|a − b| ≤ 4 · ε · √K · max|b| + 1e-6`, where K is the number of terms of a
/// sum. See docs/adr/0008.
pub(crate) fn assert_matches_twin(graph: &Graph, terms: usize, indices: &[u32]) {
    let expected = run(&Device::cpu(), graph, indices);
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let tolerance = 4.0 * f32::EPSILON * (terms as f32).sqrt() * largest.max(1.0) + 1e-6;
    for device in devices() {
        let found = run(device, graph, indices);
        assert_eq!(found.len(), expected.len(), "{}", device.name());
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            let close = (a - b).abs() <= tolerance;
            assert!(
                close,
                "{} on {}: value {i} is {a}, the twin says {b} (tolerance {tolerance:e})\n{graph}",
                graph.steps[0].label,
                device.name()
            );
        }
    }
}

//! What the kernel tests do on one device, natively and in a browser: nothing here looks for adapters or blocks a thread.

use kinora_kernels::{Device, Elem, Executable, Graph, Source};

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

/// Runs what `build` makes of device and graph on noise in every float input and state and `indices` in every index input,
/// checks the guards and reads `y`.
pub(crate) async fn evaluate(
    device: &Device,
    graph: &Graph,
    indices: &[u32],
    build: impl Fn(&Device, Graph) -> kinora_kernels::Result<Executable>,
) -> Result<Vec<f32>, String> {
    let failed = |error: kinora_kernels::Error| {
        let label = graph.steps.last().map_or("", |step| &step.label);
        format!("{label} on {}: {error}", device.name())
    };
    let mut exec = build(device, graph.clone()).map_err(failed)?;
    for (i, value) in graph.values.iter().enumerate() {
        let (Source::Input(name) | Source::State(name)) = &value.source else { continue };
        let written = match value.elem {
            Elem::F32 => exec.write(name, &noise(value.shape.elements(), i as u32 + 1)),
            Elem::U32 => exec.write_indices(name, indices),
        };
        written.map_err(failed)?;
    }
    exec.run().await.map_err(failed)?;
    exec.check_guards().await.map_err(failed)?;
    exec.read("y").await.map_err(failed)
}

/// Compares a device with `expected` of the CPU twin: `|a − b| ≤ 4 · ε · √K · max|b| + 1e-6`, where K is the number of terms
/// of a sum. See docs/adr/0008.
pub(crate) async fn compare(device: &Device, graph: &Graph, terms: usize, indices: &[u32], expected: &[f32]) -> Result<(), String> {
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let tolerance = 4.0 * f32::EPSILON * (terms as f32).sqrt() * largest.max(1.0) + 1e-6;
    let found = evaluate(device, graph, indices, Executable::new).await?;
    let context = || format!("{} on {}", graph.steps[0].label, device.name());
    if found.len() != expected.len() {
        return Err(format!("{}: {} values, the twin has {}", context(), found.len(), expected.len()));
    }
    let far = |a: f32, b: f32| (a - b).is_nan() || (a - b).abs() > tolerance;
    match found.iter().zip(expected).enumerate().find(|(_, (a, b))| far(**a, **b)) {
        None => Ok(()),
        Some((i, (a, b))) => Err(format!("{}: value {i} is {a}, the twin says {b} (tolerance {tolerance:e})\n{graph}", context())),
    }
}

//! What must be the same on every target, as hashes: starting noise, and the plans of every kernel case and of a model.

use kinora_kernels::memory::MemoryPlan;
use kinora_kernels::{Graph, Preset};
use kinora_runtime::VideoPipeline;
use kinora_runtime::request::GenerateRequest;
use kinora_runtime::sampling::noise::normal;

/// Fowler, Noll and Vo, 64 bits, 1a.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a plan comes to: steps, buffers, kernels, and what it takes on a device.
fn plan(graph: &Graph) -> Result<String, String> {
    let mut text = format!("{graph}{:?}", MemoryPlan::new(graph));
    // Those that browsers have.
    for preset in [Preset::Soft, Preset::Gpu] {
        let names: Vec<&str> = graph.kernels(preset).iter().map(|kernel| kernel.name).collect();
        let footprint = graph.footprint(preset, None).map_err(|error| error.to_string())?;
        text += &format!("{names:?} {} {} {}", footprint.values, footprint.params, footprint.weight_bytes());
    }
    Ok(text)
}

/// One line for each, a name and the hash of its bits. The model is that of `tests/tiny-model`.
pub(crate) fn lines(plans: &[&Graph], model: &VideoPipeline) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for (seed, stream, len) in [(0, 0, 4), (1, 0, 1001), (42, 7, 65_536), (u64::MAX, u64::MAX, 4096), (1 << 32, 1 << 40, 4096)] {
        let bits = normal(seed, stream, len).into_iter().flat_map(|value| value.to_bits().to_le_bytes());
        lines.push(format!("noise {seed} {stream} {len}\t{:016x}", hash(bits)));
    }
    for (at, graph) in plans.iter().enumerate() {
        lines.push(format!("plan {at} {}\t{:016x}", graph.steps[0].label, hash(plan(graph)?.bytes())));
    }
    for [width, height, frames] in [[32, 32, 5], [64, 32, 9], [96, 96, 17]] {
        let request = GenerateRequest { width, height, frames, ..model.request("water") };
        let found = model.requirements(&request).map_err(|error| error.to_string())?;
        lines.push(format!("model {width}x{height}x{frames}\t{:016x}", hash(format!("{found:?}").into_bytes())));
    }
    Ok(lines)
}

//! Every variant of every kernel against its twin, on every adapter, whole and in the smallest dispatches.
//! A variant that no plan here reaches fails the test: it is either untested or unused.

#[path = "support/cases.rs"]
mod cases;
mod support;

use std::collections::BTreeSet;

use cases::{Case, cases, large_product};
use kinora_kernels::{Cadence, Executable, Graph, Kernel, Plan, Preset, generated};
use support::{assert_matches_twin, body, devices, run, run_built};

/// Not reached by plans: `Peak` runs one alone, weights are packed by the others.
const OUTSIDE_PLANS: [&str; 2] = ["peak_fma", "pack["];

/// Compares every device with itself when each dispatch holds a single item of work.
fn assert_splits_change_nothing(graph: &Graph, indices: &[u32]) {
    for device in devices() {
        let whole = run(device, graph, indices);
        let split = run_built(device, graph, indices, |device, graph| Executable::with_work_limit(device, graph, 1.0));
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(bits(&whole) == bits(&split), "{} split on {}: other bits\n{graph}", graph.steps[0].label, device.name());
    }
}

#[test]
fn work_is_counted_beyond_32_bits() {
    assert_eq!(large_product().cost().step_flops, 2f64.powi(35));
}

#[test]
fn every_variant_matches_its_twin_and_splits_without_a_trace() {
    let cases = cases();
    for Case { graph, terms, indices } in &cases {
        assert_matches_twin(graph, *terms, indices);
        assert_splits_change_nothing(graph, indices);
    }
    let rgba = {
        let plan = Plan::new();
        plan.output("y", plan.input("x", &[1, 4, 4, 3], Cadence::Once).rgba());
        // Compared in `small_kernels.rs`: its result is not made of floats.
        plan.finish().expect("valid")
    };
    let graphs = cases.iter().map(|case| &case.graph).chain([&rgba]);
    let reached: BTreeSet<&str> =
        graphs.flat_map(|graph| Preset::ALL.map(|preset| graph.kernels(preset))).flatten().map(|kernel| kernel.name).collect();
    let all = generated::ALL.iter().flat_map(|kernels| kernels.iter()).map(|kernel: &Kernel| kernel.name);
    let missed: Vec<&str> =
        all.filter(|name| !reached.contains(name) && !OUTSIDE_PLANS.iter().any(|outside| name.starts_with(outside))).collect();
    assert!(missed.is_empty(), "no plan reaches {missed:?}");
}

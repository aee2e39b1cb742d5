//! Plans: hoisting, fusion and memory, without a GPU.

use kinora_kernels::memory::MemoryPlan;
use kinora_kernels::op::{LinearStep, ModulationColumns};
use kinora_kernels::{
    AttentionOptions, Cadence, Device, Executable, Graph, LinearStepInputs, Plan, Result, Shape, Tensor, Weight, WeightFormat,
    dense_sequences,
};

fn weight(name: &str, dims: &[usize], seed: u32) -> Weight {
    let shape = Shape::new(dims);
    let values: Vec<f32> = (0..shape.elements() as u32).map(|i| ((i * 37 + seed * 101) % 23) as f32 / 23.0 - 0.5).collect();
    Weight::from_f32(name, shape, &values, WeightFormat::F32)
}

/// A small block: modulated norm, attention with stacked q, k, v, gated output, MLP; `table` does not change per step.
fn block(fused: bool) -> Result<Graph> {
    let plan = Plan::new();
    let d = 16;
    let x = plan.input("x", &[6, d], Cadence::EveryStep);
    let index = plan.index_input("index", 6, Cadence::EveryStep);
    let text = plan.input("text", &[3, d], Cadence::Once);
    let table = text.linear(&weight("table", &[3 * d, d], 1), None);
    plan.scope("block", || {
        let h = x.rms_norm(None, 1e-6).modulate(table, index, ModulationColumns { shift: 0, scale: d });
        let [q, k, v] = h.linear(&weight("qkv", &[3 * d, d], 2), Some(&weight("b", &[3 * d], 3))).split();
        let options = AttentionOptions { heads: 2, scale: 0.35, sequences: dense_sequences(2, 3, 3), mask: None, bias: None };
        let a = q.flash_attention(k, v, &options);
        let x = a.linear(&weight("o", &[d, d], 4), None).gated_add(x, table, index, 2 * d);
        let h = x.linear(&weight("up", &[32, d], 5), None).gelu_tanh();
        plan.output("y", x + h.linear(&weight("down", &[d, 32], 6), None));
    });
    if fused { plan.finish() } else { plan.finish_without_fusion() }
}

fn run(graph: Graph) -> Vec<f32> {
    let mut run = Executable::new(&Device::cpu(), graph).expect("the CPU runs every plan");
    let ramp = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
    run.write("x", &ramp(96)).expect("declared");
    run.write("text", &ramp(48)).expect("declared");
    run.write_indices("index", &[0, 1, 2, 2, 1, 0]).expect("declared");
    pollster::block_on(run.run()).expect("finite sizes");
    pollster::block_on(run.read("y")).expect("declared")
}

#[test]
fn fusion_keeps_the_result_with_fewer_steps() {
    let (fused, plain) = (block(true).expect("valid"), block(false).expect("valid"));
    assert_eq!(plain.steps.len(), 11, "{plain}");
    assert_eq!(fused.steps.len(), 7, "{fused}");
    for (a, b) in run(fused).iter().zip(run(plain)) {
        assert!((a - b).abs() < 1e-5, "{a} and {b}");
    }
}

#[test]
fn what_does_not_change_between_steps_is_hoisted() {
    let graph = block(true).expect("valid");
    let prelude: Vec<_> = graph.steps.iter().filter(|s| graph.cadence(s) == Cadence::Once).map(|s| s.label.as_str()).collect();
    assert_eq!(prelude, ["gemm"], "the table depends on the text alone");
}

#[test]
fn live_values_never_share_a_buffer() {
    let graph = block(true).expect("valid");
    let memory = MemoryPlan::new(&graph);
    for (i, step) in graph.steps.iter().enumerate() {
        let output = memory.slot[step.output].expect("every step has a buffer");
        for other in &graph.steps[..i] {
            let read_later = graph.steps[i..].iter().flat_map(|s| &s.inputs).any(|o| o.value == other.output);
            assert!(!read_later || memory.slot[other.output] != Some(output), "{} overwrites {}", step.label, other.label);
        }
    }
    let separate: u64 = graph.values.iter().map(|v| v.shape.bytes()).sum();
    assert!(memory.total_bytes() < separate, "buffers are reused");
}

#[test]
fn what_the_host_writes_has_one_name() {
    type Record = for<'p> fn(&'p Plan) -> Tensor<'p>;
    let float: Record = |plan| plan.input("x", &[2, 3], Cadence::Once);
    let index: Record = |plan| plan.index_input("x", 2, Cadence::Once);
    let state: Record = |plan| plan.state("x", &[2, 3]);
    for (first, second) in [(float, float), (index, index), (float, index), (index, float), (state, float), (float, state)] {
        let plan = Plan::new();
        let (_, _) = (first(&plan), second(&plan));
        let message = plan.finish().expect_err("one of them would never be written").to_string();
        assert!(message.contains("expected a name that no other input has, found `x` twice"), "{message}");
    }
    let plan = Plan::new();
    let (_, y) = (state(&plan), state(&plan));
    plan.output("y", y);
    plan.finish().expect("a state that is used twice");
}

#[test]
fn what_is_expected_is_said_in_numbers() {
    type Record = for<'p> fn(&'p Plan) -> Tensor<'p>;
    let step: Record = |plan| {
        let inputs = LinearStepInputs {
            level: plan.index_input("level", 2, Cadence::EveryStep),
            table: plan.input("table", &[1, LinearStep::COEFFICIENTS], Cadence::EveryStep),
            noise: None,
        };
        plan.state("x", &[7, 4]).linear_step(plan.input("v", &[2, 4], Cadence::EveryStep), &inputs, 2)
    };
    let write: Record = |plan| {
        let state = plan.state("kept", &[1, 2, 3, 4, 5]);
        state.write_frames(plan.input("x", &[1, 2, 3, 4, 5], Cadence::EveryStep), 1);
        state
    };
    for (record, expected) in
        [(step, "a state of the plan of 3 times as many rows as the sample"), (write, "a state and frames [1, 3 or more, 3, 4, 5]")]
    {
        let plan = Plan::new();
        record(&plan);
        let message = plan.finish().expect_err("shapes that do not fit").to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_shape_error_names_the_layer_and_the_line() {
    let plan = Plan::new();
    let x = plan.input("x", &[2, 3], Cadence::Once);
    let line = line!() + 1;
    let y = plan.scope("proj_in", || x.linear(&weight("w", &[4, 5], 0), None));
    plan.output("y", y);
    let message = plan.finish().expect_err("K differs").to_string();
    assert!(message.starts_with("proj_in.gemm: expected weight `w` [N, 3], found [4, 5]"), "{message}");
    assert!(message.contains(&format!("plan.rs:{line}")), "{message}");
}

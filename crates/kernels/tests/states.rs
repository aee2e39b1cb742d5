//! States that outlive a run: several plans read and write them, on the CPU twins and on every adapter.

use kinora_kernels::memory::{GroupPlan, MemoryPlan};
use kinora_kernels::{AdapterSelect, Cadence, Device, Executable, Graph, Plan, Tensor, adapters};

/// The CPU and every adapter with every kernel preset it runs.
fn devices() -> Vec<Device> {
    let adapters = pollster::block_on(adapters());
    assert!(!adapters.is_empty(), "these tests need a Vulkan adapter");
    let on_adapter = |i: usize| {
        let open = move |preset| pollster::block_on(Device::gpu(&AdapterSelect::Index(i), Some(preset))).expect("a listed adapter opens");
        adapters[i].presets().into_iter().map(open).collect::<Vec<_>>()
    };
    [Device::cpu()].into_iter().chain((0..adapters.len()).flat_map(on_adapter)).collect()
}

/// Frames of 2 × 3 pixels of three channels, numbered from `start`.
fn frames(count: usize, start: usize) -> Vec<f32> {
    (0..count * 18).map(|i| (start * 18 + i) as f32 * 0.125).collect()
}

/// `record` over the input `x` of so many frames and the state of two frames.
fn plan(count: usize, record: impl for<'p> FnOnce(Tensor<'p>, Tensor<'p>) -> Tensor<'p>) -> Graph {
    let plan = Plan::new();
    let x = plan.input("x", &[1, count, 2, 3, 3], Cadence::EveryStep);
    plan.output("y", record(x, plan.state("past", &[1, 2, 2, 3, 3])));
    plan.finish().expect("shapes fit")
}

/// The frames before and these, of which the last two become those before.
fn extended<'p>(x: Tensor<'p>, past: Tensor<'p>) -> Tensor<'p> {
    let all = past.concat_frames(x);
    past.write_frames(all, all.shape().dims()[1] - 2);
    all
}

fn run(exec: &mut Executable, x: &[f32]) -> Vec<f32> {
    exec.write("x", x).expect("declared");
    pollster::block_on(exec.run()).expect("runs");
    pollster::block_on(exec.read("y")).expect("declared")
}

#[test]
fn what_one_plan_writes_the_next_one_reads() {
    for device in devices() {
        let graphs = vec![plan(3, |x, past| (past.write_frames(x, 1), x.silu()).1), plan(1, extended), plan(2, extended)];
        let mut group = Executable::group(&device, graphs, None).expect("one group");
        for start in [0, 50] {
            run(&mut group[0], &frames(3, start));
            let expected = |first: usize, count: usize| frames(count, start + first);
            assert_eq!(run(&mut group[1], &frames(1, start + 3)), expected(1, 3), "{}: two frames of the first plan", device.name());
            assert_eq!(run(&mut group[2], &frames(2, start + 4)), expected(2, 4), "{}: one of either plan", device.name());
            assert_eq!(run(&mut group[1], &frames(1, start + 6)), expected(4, 3), "{}: its own plan again", device.name());
        }
    }
}

#[test]
fn frames_of_several_clips_are_written_to_their_own() {
    for device in devices() {
        let plan = Plan::new();
        let x = plan.input("x", &[2, 2, 1, 1, 1], Cadence::EveryStep);
        let past = plan.state("past", &[2, 1, 1, 1, 1]);
        past.write_frames(x, 1);
        plan.output("y", past.silu());
        let mut exec = Executable::new(&device, plan.finish().expect("shapes fit")).expect("runs");
        let found = run(&mut exec, &[1.0, 2.0, 3.0, 4.0]);
        let expected = [2.0_f32, 4.0].map(|v| v / (1.0 + (-v).exp()));
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{}: {found:?}", device.name());
    }
}

#[test]
fn what_reads_a_state_before_it_is_written_sees_the_past() {
    // Joined with its only reader, the norm would run after the frames are written.
    let graph = plan(2, |x, past| {
        let before = past.rms_norm(None, 0.0);
        past.write_frames(x, 0);
        before.silu() + past
    });
    for device in devices() {
        let mut exec = Executable::new(&device, graph.clone()).expect("runs");
        exec.write("past", &[1.0; 36]).expect("a state");
        let x = vec![2.0; 36];
        let found = run(&mut exec, &x);
        let expected = 1.0 / (1.0 + (-1.0_f32).exp()) + 2.0;
        assert!(found.iter().all(|v| (v - expected).abs() < 1e-6), "{}: {found:?}", device.name());
    }
}

#[test]
fn a_group_takes_the_memory_of_its_largest_plan() {
    let graphs = [plan(1, extended), plan(4, extended)];
    let plans: Vec<MemoryPlan> = graphs.iter().map(MemoryPlan::new).collect();
    let group = GroupPlan::new(&graphs, &plans);
    assert_eq!(group.total_bytes(), plans[1].total_bytes(), "{group:?}");
    assert_eq!(group.num_states, 1, "{group:?}");
    let states: Vec<usize> = plans.iter().zip(&group.slots).map(|(plan, slots)| slots[plan.slot[1].expect("the state is used")]).collect();
    assert_eq!(states, [0, 0], "the one state of both");
}

#[test]
fn states_of_one_name_and_two_shapes_are_refused() {
    let other = {
        let plan = Plan::new();
        let x = plan.input("x", &[1, 3, 2, 3, 3], Cadence::EveryStep);
        plan.state("past", &[1, 3, 2, 3, 3]).write_frames(x, 0);
        plan.output("y", x.silu());
        plan.finish().expect("shapes fit")
    };
    let error = Executable::group(&Device::cpu(), vec![plan(1, extended), other], None).expect_err("two shapes");
    assert!(error.to_string().contains("past"), "{error}");
}

#[test]
fn frames_that_are_not_there_are_an_error_of_the_plan() {
    let plan = Plan::new();
    let x = plan.input("x", &[1, 3, 2, 3, 3], Cadence::EveryStep);
    plan.state("past", &[1, 2, 2, 3, 3]).write_frames(x, 2);
    plan.output("y", x);
    let error = plan.finish().expect_err("frames 2 and 3 of three").to_string();
    assert!(error.contains("write_frames") && error.contains("frames [1, 4 or more, 2, 3, 3]"), "{error}");
}

//! Norms, pointwise, copying and sampling kernels against their twins, on every adapter and with every preset.

mod support;

use kinora_kernels::op::{Amplitude, LinearStep, ModulationColumns};
use kinora_kernels::{Cadence, Device, LinearStepInputs, PatchOrder, Plan, Rescale, Shape, Tensor, Weight, WeightFormat};
use support::body::noise;
use support::{assert_matches_twin, devices, run};

fn vector(name: &str, len: usize) -> Weight {
    Weight::from_f32(name, Shape::new(&[len]), &noise(len, 77), WeightFormat::F32)
}

/// Records `y = build(x)` for `x` of the given extents and compares devices with the twin.
fn check(dims: &[usize], terms: usize, build: impl for<'p> Fn(Tensor<'p>) -> Tensor<'p>) {
    let plan = Plan::new();
    let x = plan.input("x", dims, Cadence::Once);
    plan.output("y", build(x));
    assert_matches_twin(&plan.finish().expect("valid"), terms, &[]);
}

#[test]
fn norms_match_their_twins_for_ragged_rows() {
    for [rows, c] in [[1, 4], [3, 3], [7, 5], [65, 30], [130, 260], [2, 1536]] {
        check(&[rows, c], c, |x| x.rms_norm(None, 1e-6));
        check(&[rows, c], c, |x| x.layer_norm(None, None, 1e-5));
        check(&[rows, c], c, |x| x.rms_norm(Some(&vector("g", c)), 1e-6).silu());
        check(&[rows, c], c, |x| x.layer_norm(Some(&vector("g", c)), Some(&vector("b", c)), 1e-12));
    }
}

#[test]
fn group_norms_match_their_twins_over_slices_and_batches() {
    // Groups of one channel, of some that are no multiple of four, of all; one slice of few rows, several, and a ragged last one.
    for (batch, rows, c, groups) in [(1, 1, 4, 2), (2, 3, 5, 5), (1, 130, 12, 4), (3, 70, 30, 3), (1, 77, 20, 1), (2, 40_000, 6, 3)] {
        let terms = rows * c / groups;
        check(&[batch * rows, c], terms, |x| x.group_norm(batch, groups, None, None, 1e-6));
        check(&[batch, rows, c], terms, |x| {
            x.affine(1.0, 8.0).group_norm(batch, groups, Some(&vector("g", c)), Some(&vector("b", c)), 1e-5)
        });
    }
    // More rows than the slices of a GPU have at their shortest.
    check(&[70_000, 4], 1 << 17, |x| x.group_norm(1, 2, Some(&vector("g", 4)), None, 1e-6).silu());
}

#[test]
fn a_modulated_group_norm_is_three_steps() {
    let plan = Plan::new();
    let (rows, d) = (90, 12);
    let x = plan.input("x", &[rows, d], Cadence::Once);
    let table = plan.input("table", &[3, 2 * d], Cadence::Once);
    let index = plan.index_input("index", rows, Cadence::Once);
    let normed = x.group_norm(2, 4, Some(&vector("g", d)), Some(&vector("b", d)), 1e-6);
    plan.output("y", normed.modulate(table, index, ModulationColumns { shift: d, scale: 0 }).silu());
    let graph = plan.finish().expect("valid");
    assert_eq!(graph.steps.len(), 3, "moments, scale and norm:\n{graph}");
    assert_matches_twin(&graph, rows * d, &(0..rows as u32).map(|i| i * 7 % 3).collect::<Vec<_>>());
}

#[test]
fn rows_find_theirs_through_joined_indices() {
    let plan = Plan::new();
    let (table, index) = (plan.input("table", &[6, 5], Cadence::Once), plan.index_input("index", 70, Cadence::EveryStep));
    let pick: Vec<u32> = (0..90).map(|row| row * 11 % 70).collect();
    let offset: Vec<u32> = (0..90).map(|row| row % 2 * 3).collect();
    plan.output("y", table.gather_rows(index.gather_indices(plan.index_constant(&pick), plan.index_constant(&offset))));
    let indices: Vec<u32> = (0..70).map(|i| i * 7 % 3).collect();
    let graph = plan.finish().expect("valid");
    assert_matches_twin(&graph, 1, &indices);
    let found = run(&Device::cpu(), &graph, &indices);
    let table = noise(30, 1);
    for row in 0..90 {
        let at = 5 * (indices[pick[row] as usize] + offset[row]) as usize;
        assert_eq!(found[5 * row..][..5], table[at..at + 5], "row {row}");
    }
}

#[test]
fn stacked_queries_and_keys_are_normed_apart_and_rotated() {
    for (rows, d) in [(6, 8), (66, 64), (10, 256)] {
        let plan = Plan::new();
        let x = plan.input("x", &[rows, 3 * d], Cadence::Once);
        let angles = plan.input("angles", &[rows / 2, d], Cadence::Once);
        let qk = x.columns(0, 2 * d).grouped_rms_norm(2, Some(&vector("g", 2 * d)), 1e-5);
        plan.output("y", qk.rope(angles));
        let graph = plan.finish().expect("valid");
        assert_eq!(graph.steps.len(), 1, "norm and rope are one step:\n{graph}");
        assert_matches_twin(&graph, d, &[]);
    }
    // Queries and keys of three heads by layer norms, whose bias no kernel adds before it rotates.
    let plan = Plan::new();
    let x = plan.input("x", &[10, 96], Cadence::Once);
    let normed = x.grouped_layer_norm(6, Some(&vector("g", 96)), Some(&vector("b", 96)), 1e-6);
    plan.output("y", normed.rope(plan.input("angles", &[10, 16], Cadence::Once)));
    let graph = plan.finish().expect("valid");
    assert_eq!(graph.steps.len(), 2, "the bias comes before the rotation:\n{graph}");
    assert_matches_twin(&graph, 16, &[]);
}

#[test]
fn modulation_follows_the_index_of_each_row() {
    for fused in [true, false] {
        let plan = Plan::new();
        let (rows, d) = (37, 20);
        let x = plan.input("x", &[rows, d], Cadence::Once);
        let table = plan.input("table", &[3, 3 * d], Cadence::Once);
        let index = plan.index_input("index", rows, Cadence::EveryStep);
        let h = x.layer_norm(None, None, 1e-6).modulate(table, index, ModulationColumns { shift: d, scale: 0 });
        plan.output("y", h.gated_add(x, table, index, 2 * d));
        let graph = if fused { plan.finish() } else { plan.finish_without_fusion() }.expect("valid");
        let indices: Vec<u32> = (0..rows as u32).map(|i| i * 7 % 3).collect();
        assert_matches_twin(&graph, d, &indices);
    }
}

#[test]
fn pointwise_kernels_match_their_twins() {
    for dims in [[1, 1], [5, 3], [64, 64], [129, 7]] {
        check(&dims, 1, |x| x.affine(3.0, 0.5).silu());
        check(&dims, 1, |x| x.affine(6.0, 0.0).gelu_tanh());
        check(&dims, 1, |x| x.affine(6.0, 0.0).gelu_erf());
        check(&dims, 1, |x| x + x * x);
    }
    check(&[6, 5], 1, |x| x * x.plan().input("row", &[1, 5], Cadence::Once));
    check(&[6, 5], 1, |x| x + x.plan().input("cycle", &[3, 5], Cadence::Once));
    check(&[6, 5], 1, |x| x.add_per_batch(x.plan().input("batch", &[2, 5], Cadence::Once)));
}

/// `y` of `build(x)` on every device and the twin, where `x` is 1 but for one NaN.
fn with_one_nan(dims: &[usize], at: usize, build: impl for<'p> Fn(Tensor<'p>) -> Tensor<'p>, check: impl Fn(&[f32], &str)) {
    let plan = Plan::new();
    let mut values = vec![1.0; dims.iter().product()];
    values[at] = f32::NAN;
    plan.output("y", build(plan.constant(dims, &values)));
    let graph = plan.finish().expect("valid");
    for device in devices().iter().chain([&Device::cpu()]) {
        check(&run(device, &graph, &[]), &format!("{} on {}", graph.steps[0].label, device.name()));
    }
}

type Unary = for<'p> fn(Tensor<'p>) -> Tensor<'p>;

const UNARY: [Unary; 6] = [|x| x.affine(2.0, 1.0), |x| x.gelu_tanh(), |x| x.gelu_erf(), |x| x.silu(), |x| x.relu(), |x| x.tanh()];

#[test]
fn activations_keep_nan_and_spread_it_no_further() {
    for activation in UNARY {
        with_one_nan(&[3, 5], 7, activation, |y, what| {
            let nan: Vec<usize> = (0..y.len()).filter(|&i| y[i].is_nan()).collect();
            assert_eq!(nan, [7], "{what}: {y:?}");
        });
    }
}

/// One row of the result for each of the operand, norms with what may follow them and products with every epilogue.
const BY_ROW: [Unary; 10] = [
    |x| x.rms_norm(None, 1e-6),
    |x| x.layer_norm(None, None, 1e-6),
    |x| x.rms_norm(None, 1e-6).silu(),
    |x| x.group_mean(4),
    |x| x.linear(&vector_rows(), None),
    |x| x.linear(&vector_rows(), None).gelu_tanh(),
    |x| x.linear(&vector_rows(), None).gelu_erf(),
    |x| x.linear(&vector_rows(), None).silu(),
    |x| x.linear(&vector_rows(), None).relu(),
    |x| x.rope(x.plan().constant(&[3, 8], &[0.5; 24])),
];

fn vector_rows() -> Weight {
    Weight::from_f32("w", Shape::new(&[5, 8]), &noise(40, 5), WeightFormat::F32)
}

#[test]
fn what_reduces_rows_keeps_nan_in_its_row() {
    for build in BY_ROW {
        with_one_nan(&[3, 8], 9, build, |y, what| {
            let width = y.len() / 3;
            assert!(y[width..2 * width].iter().any(|v| v.is_nan()), "{what}: {y:?}");
            assert!(y[..width].iter().chain(&y[2 * width..]).all(|v| v.is_finite()), "{what}: {y:?}");
        });
    }
}

#[test]
fn activations_stay_finite_far_out() {
    for scale in [100.0, 1e4] {
        check(&[3, 8], 1, |x| x.affine(scale, 0.0).silu());
        check(&[3, 8], 1, |x| x.affine(scale, 0.0).gelu_tanh());
        check(&[3, 8], 1, |x| x.affine(scale, 0.0).gelu_erf());
    }
}

#[test]
fn more_than_65535_workgroups_fold_into_two_dimensions() {
    check(&[1_100_000, 4], 4, |x| x.affine(2.0, 1.0));
    check(&[280_000, 3], 4, |x| x.rms_norm(None, 1e-6));
}

#[test]
fn patches_are_moved_exactly() {
    for (dims, patch) in [([1, 1, 4, 4, 3], [1, 4, 4]), ([2, 4, 6, 2, 5], [2, 3, 1]), ([1, 3, 4, 6, 8], [1, 2, 2])] {
        for order in [PatchOrder::TimeHeightWidth, PatchOrder::TimeWidthHeight, PatchOrder::ChannelInnermost] {
            check(&dims, 1, |x| x.pixel_unshuffle_3d(patch, order));
            check(&dims, 1, |x| x.pixel_unshuffle_3d(patch, order).pixel_shuffle_3d(patch, order));
        }
    }
    check(&[1, 2, 3, 2, 5], 1, |x| x.repeat_channels(3));
    check(&[2, 3, 5], 1, |x| x.repeat_each_channel(3));
    check(&[7, 12], 1, |x| x.transpose_channels(4));
    check(&[7, 15], 1, |x| x.transpose_channels(3));
    check(&[3, 5, 6], 1, |x| x.permute(&[2, 0, 1]));
    check(&[2, 3, 4, 5, 7], 1, |x| x.permute(&[0, 4, 2, 3, 1]));
    check(&[2, 2, 3, 2, 5], 1, |x| x.upsample_nearest([2, 3, 2]));
    check(&[1, 1, 9, 7, 8], 1, |x| x.upsample_nearest([1, 2, 2]));
    check(&[2, 4, 3, 2, 5], 1, |x| x.slice_frames(1, 2));
    check(&[1, 4, 3, 2, 8], 1, |x| x.slice_frames(3, 1));
    check(&[1, 3, 3, 2, 5], 1, |x| x.take_frames(&[0, 0, 2]));
    check(&[7, 12], 1, |x| x.columns(4, 8).contiguous());
}

#[test]
fn shuffling_back_gives_the_input() {
    let plan = Plan::new();
    let x = plan.input("x", &[2, 2, 4, 6, 3], Cadence::Once);
    let patch = [2, 2, 3];
    plan.output("y", x.pixel_unshuffle_3d(patch, PatchOrder::TimeWidthHeight).pixel_shuffle_3d(patch, PatchOrder::TimeWidthHeight));
    let graph = plan.finish().expect("valid");
    assert_eq!(run(&Device::cpu(), &graph, &[]), noise(288, 1), "the identity");
}

#[test]
fn joining_and_averaging_channels_match_their_twins() {
    for (a, b) in [(3, 5), (4, 8), (128, 15), (1, 1)] {
        check(&[9, a], 1, |x| x.concat(x.plan().input("b", &[9, b], Cadence::Once)));
    }
    for (frames, more, c) in [(1, 2, 5), (3, 1, 8), (1, 1, 1)] {
        check(&[2, frames, 3, 2, c], 1, |x| x.concat_frames(x.plan().input("b", &[2, more, 3, 2, c], Cadence::Once)));
    }
    for (c, group) in [(12, 3), (8, 8), (30, 5)] {
        check(&[5, c], group, |x| x.group_mean(group));
    }
}

/// Rows to guide away from: all others; some, of which two share one that is not theirs; none.
fn unconditional_rows() -> [(usize, Vec<u32>); 3] {
    [(20, (10..20).collect()), (15, vec![0, 1, 2, 3, 10, 10, 11, 12, 13, 14]), (10, (0..10).collect())]
}

#[test]
fn predictions_are_guided_and_rescaled_by_sequence() {
    for (rows, unconditional) in unconditional_rows() {
        for (channels, guided_channels) in [(6, 6), (6, 3), (8, 5), (8, 0), (128, 128)] {
            for starts in [None, Some(&[0, 10][..]), Some(&[0, 4, 10]), Some(&[0, 1, 2, 10])] {
                let plan = Plan::new();
                let prediction = plan.input("v", &[rows, channels], Cadence::EveryStep);
                let index = plan.index_input("unconditional", 10, Cadence::Once);
                let [guidance, share] = ["guidance", "share"].map(|name| plan.input(name, &[10], Cadence::EveryStep));
                let rescale = starts.map(|starts| Rescale { share, starts: plan.index_constant(starts) });
                plan.output("y", prediction.guide(index, guidance, rescale, guided_channels));
                assert_matches_twin(&plan.finish().expect("valid"), 2 * channels, &unconditional);
            }
        }
    }
}

#[test]
fn linear_steps_update_the_state_and_its_history() {
    const AMPLITUDES: [Option<Amplitude>; 4] = [None, Some(Amplitude::One), Some(Amplitude::Exponential), Some(Amplitude::Root)];
    // Ten rows, one, and more than one dispatch dimension holds.
    for (rows, channels) in [(10, 8), (10, 6), (1, 4), (70_000, 4)] {
        for amplitude in
            AMPLITUDES.into_iter().filter(|a| channels % 4 == 0 || !matches!(a, Some(Amplitude::Exponential | Amplitude::Root)))
        {
            for history in 0..=3 {
                if rows > 10 && (history + usize::from(amplitude.is_some())) % 2 == 1 {
                    continue; // Half of the large ones say as much.
                }
                let plan = Plan::new();
                let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
                let predicted = matches!(amplitude, Some(Amplitude::Exponential | Amplitude::Root));
                let prediction = every("v", &[rows, if predicted { 2 * channels } else { channels }]);
                let level = plan.index_input("level", rows, Cadence::Once);
                let noise = amplitude.map(|amplitude| (every("noise", &[rows, channels]), amplitude));
                let inputs = LinearStepInputs { level, table: every("table", &[3, LinearStep::COEFFICIENTS]), noise };
                let state = plan.state("x", &[(1 + history) * rows, channels]);
                plan.output("y", state.linear_step(prediction, &inputs, history));
                let levels: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 3).collect();
                assert_matches_twin(&plan.finish().expect("valid"), 16, &levels);
            }
        }
    }
}

#[test]
fn a_guided_step_is_one_step_of_the_plan() {
    for (rows, unconditional) in unconditional_rows() {
        for (channels, guided_channels) in [(6, 6), (8, 5), (8, 0)] {
            for noisy in [false, true] {
                let record = || {
                    let plan = Plan::new();
                    let every = |name, dims: &[usize]| plan.input(name, dims, Cadence::EveryStep);
                    let level = plan.index_constant(&[0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
                    let noise = noisy.then(|| (every("noise", &[10, channels]), Amplitude::One));
                    let inputs = LinearStepInputs { level, table: every("table", &[3, LinearStep::COEFFICIENTS]), noise };
                    let index = plan.index_input("unconditional", 10, Cadence::Once);
                    let guided = every("v", &[rows, channels]).guide(index, every("guidance", &[10]), None, guided_channels);
                    plan.output("y", plan.state("x", &[20, channels]).linear_step(guided, &inputs, 1));
                    plan
                };
                let (fused, apart) = (record().finish().expect("valid"), record().finish_without_fusion().expect("valid"));
                assert_eq!((fused.steps.len(), apart.steps.len()), (1, 2), "{fused}");
                assert_matches_twin(&fused, 16, &unconditional);
                let [one, two] = [&fused, &apart].map(|graph| run(&Device::cpu(), graph, &unconditional));
                assert_eq!(one, two, "guided {guided_channels} of {channels}, noise {noisy}");
            }
        }
    }
}

#[test]
fn pixels_become_bytes() {
    let plan = Plan::new();
    let x = plan.input("x", &[2, 3, 5, 3], Cadence::Once);
    plan.output("y", x.affine(1.5, 0.0).rgba());
    let graph = plan.finish().expect("valid");
    let read = |device: &Device| {
        let mut exec = kinora_kernels::Executable::new(device, graph.clone()).expect("fits");
        let mut x = noise(90, 5);
        (x[4], x[11], x[50]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        exec.write("x", &x).expect("declared");
        pollster::block_on(async {
            exec.run().await.expect("runs");
            exec.read_u32("y").await.expect("declared")
        })
    };
    let expected = read(&Device::cpu());
    assert_eq!(expected.iter().filter(|p| **p >> 24 == 0).count(), 3, "pixels that are not finite are transparent");
    for device in devices() {
        assert_eq!(read(device), expected, "{}", device.name());
    }
}

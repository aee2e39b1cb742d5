//! Plans whose weights do not fit: run in segments they have the same bits, and take what was said beforehand.

use kinora_kernels::{
    AdapterInfo, AdapterSelect, Cadence, Device, DeviceMemory, Error, Executable, Footprint, Graph, Plan, Preset, Shape, SharedBuffers,
    Weight, WeightFormat, adapters,
};

/// Seeded values in −1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Every adapter with every kernels it runs, each its own: others would count in its memory.
fn devices() -> Vec<Device> {
    let adapters = pollster::block_on(adapters());
    assert!(!adapters.is_empty(), "the kernel tests need a Vulkan adapter; `cargo xtask test` installs one");
    let open = |i: usize, preset| pollster::block_on(Device::gpu(&AdapterSelect::Index(i), Some(preset))).expect("a listed adapter opens");
    let presets = |(i, info): (usize, &AdapterInfo)| info.presets().into_iter().map(move |preset| open(i, preset));
    adapters.iter().enumerate().flat_map(presets).collect()
}

/// A model of a prelude and blocks of unlike widths, one weight of which both read.
fn model(format: WeightFormat, blocks: usize) -> Graph {
    let matrix = |n: usize, k: usize, seed: usize| {
        let values: Vec<f32> = noise(n * k, seed as u32).iter().map(|v| v * 0.3).collect();
        Weight::from_f32(format!("w{seed}"), Shape::new(&[n, k]), &values, format)
    };
    let bias = Weight::from_f32("b", Shape::new(&[48]), &noise(48, 3), format);
    let shared = matrix(48, 48, 99);
    let plan = Plan::new();
    let context = plan.input("context", &[5, 48], Cadence::Once).linear(&matrix(96, 48, 1), None).linear(&matrix(48, 96, 2), None);
    let context = context.linear(&shared, None);
    let mut x = plan.input("x", &[5, 48], Cadence::EveryStep);
    for block in 0..blocks {
        x = plan.scope(format!("blocks.{block}"), || {
            let wide = 32 * (1 + block % 3);
            let hidden = x.linear(&matrix(wide, 48, 10 + 2 * block), None).gelu_tanh();
            x + hidden.linear(&matrix(48, wide, 11 + 2 * block), Some(&bias)) + context
        });
    }
    plan.output("y", x.linear(&shared, None).layer_norm(None, None, 1e-6));
    plan.finish().expect("valid")
}

fn evaluate(exec: &mut Executable) -> Vec<Vec<u32>> {
    exec.write("context", &noise(240, 4)).expect("fits");
    pollster::block_on(async {
        exec.run_prelude().await.expect("runs");
        let mut results = Vec::new();
        for step in 0..3 {
            exec.write("x", &noise(240, 5 + step)).expect("fits");
            exec.run_step().await.expect("runs");
            results.push(exec.read("y").await.expect("reads").iter().map(|v| v.to_bits()).collect());
        }
        results
    })
}

/// What running it takes at most, by the footprint alone.
fn predicted(footprint: &Footprint) -> u64 {
    let [_, peak] = footprint.place(&mut SharedBuffers::default());
    let mut shared = SharedBuffers::default();
    footprint.place(&mut shared);
    peak.max(footprint.own() + shared.read(footprint.reading))
}

#[test]
fn a_streamed_plan_has_the_bits_of_a_resident_one() {
    for device in &devices() {
        for format in [WeightFormat::F32, WeightFormat::F16] {
            let graph = model(format, 7);
            let all: u64 = graph.footprint(Preset::Soft, None).expect("fits").weight_bytes();
            let expected = evaluate(&mut Executable::new(device, graph.clone()).expect("fits"));
            let mut fewest = u64::MAX;
            for tenths in 1..10 {
                let budget = 20_000 + all * tenths / 10;
                let Ok(footprint) = graph.footprint(Preset::Soft, Some(budget)) else { continue };
                if footprint.ring > 0 {
                    fewest = fewest.min(footprint.weight_bytes());
                    let mut exec = Executable::with_weight_bytes(device, graph.clone(), budget).expect("fits");
                    assert!(evaluate(&mut exec) == expected, "{format:?}, {budget} bytes of {all} on {}", device.name());
                    pollster::block_on(exec.find_non_finite()).expect("runs step by step");
                }
            }
            assert!(fewest < all / 2, "{format:?}: no budget streams more than half of it");
        }
    }
}

#[test]
fn what_a_plan_takes_is_known_beforehand() {
    for (format, blocks, budget) in [
        (WeightFormat::F32, 3, None),
        (WeightFormat::F16, 9, None),
        (WeightFormat::F32, 9, Some(150_000)),
        (WeightFormat::F16, 12, Some(120_000)),
    ] {
        // New ones, on which nothing is yet.
        for device in &devices() {
            let graph = model(format, blocks);
            let footprint = graph.footprint(device.preset().expect("a GPU"), budget).expect("fits");
            assert_eq!(footprint.ring > 0, budget.is_some(), "streamed if there is a budget");
            let mut exec = match budget {
                Some(budget) => Executable::with_weight_bytes(device, graph, budget),
                None => Executable::new(device, graph),
            }
            .expect("fits");
            evaluate(&mut exec);
            let DeviceMemory { live, peak } = device.memory();
            assert_eq!(peak, predicted(&footprint), "at most, {format:?}, {blocks} blocks, {budget:?}: {footprint:?}");
            drop(exec);
            device.evict(|_| false);
            let left = device.memory().live;
            assert!(live > left && left <= 4096, "{left} bytes are left: vectors of equal values, and the buffer for reading");
        }
    }
}

#[test]
fn a_budget_without_room_for_two_segments_is_refused_with_what_is_needed() {
    let graph = model(WeightFormat::F32, 7);
    let error = graph.footprint(Preset::Gpu, Some(20_000)).expect_err("too little");
    assert!(matches!(error, Error::Limit { needed, .. } if needed > 0), "{error}");
}

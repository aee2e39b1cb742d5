//! Plans whose weights do not fit: run in segments they have the same bits, and take what was said beforehand.

mod support;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use half::f16;
use kinora_kernels::{
    AdapterInfo, AdapterSelect, ByteSource, Cadence, Device, DeviceMemory, Encoding, Error, Executable, Footprint, Graph, Place, Plan,
    Preset, Scales, Shape, SharedBuffers, Stored, Weight, WeightFormat, adapters,
};
use support::body::noise;

/// Every adapter with every kernels it runs, each its own: others would count in its memory.
fn devices() -> Vec<Device> {
    let adapters = pollster::block_on(adapters());
    assert!(!adapters.is_empty(), "the kernel tests need a Vulkan adapter; `cargo xtask test` installs one");
    let open = |i: usize, preset| pollster::block_on(Device::gpu(&AdapterSelect::Index(i), Some(preset))).expect("a listed adapter opens");
    let presets = |(i, info): (usize, &AdapterInfo)| info.presets().into_iter().map(move |preset| open(i, preset));
    adapters.iter().enumerate().flat_map(presets).collect()
}

/// How matrices lie in their files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disk {
    F32,
    /// Bytes, a scale for 32 of them apart.
    Q8,
    /// Every other as bytes, every other in blocks of 4 bits with a scale.
    Mixed,
}

/// Seeded values of a matrix as they lie in a file.
fn stored(disk: Disk, [n, k]: [usize; 2], seed: usize) -> Stored {
    let values: Vec<f32> = noise(n * k, seed as u32).iter().map(|v| v * 0.3).collect();
    let place = |bytes: Vec<u8>, encoding| Place { range: 0..bytes.len() as u64, file: Arc::new(bytes), encoding };
    let codes = |scale: f32| values.iter().map(move |v| (v * scale) as i8).collect::<Vec<i8>>();
    let scale = f16::from_f32(0.0025).to_le_bytes();
    match disk {
        Disk::F32 => Place::from_f32(&values).into(),
        Disk::Mixed if seed.is_multiple_of(2) => {
            let pairs: Vec<u8> = codes(24.0).chunks_exact(2).map(|pair| (pair[0] + 8) as u8 | ((pair[1] + 8) as u8) << 4).collect();
            let blocks = pairs.chunks_exact(16).flat_map(|pairs| [&f16::from_f32(0.04).to_le_bytes(), pairs].concat());
            place(blocks.collect(), Encoding::Q4_0).into()
        }
        Disk::Q8 | Disk::Mixed => {
            let scales = place(scale.repeat(n * k.div_ceil(32)), Encoding::F16);
            let bytes = place(codes(400.0).iter().map(|code| code.cast_unsigned()).collect(), Encoding::I8);
            Stored { row: k, scales: Some(Scales { place: scales, block: [1, 32] }), ..bytes.into() }
        }
    }
}

/// A model of a prelude and blocks of unlike widths, one weight of which both read.
fn model(format: WeightFormat, blocks: usize, disk: Disk) -> Graph {
    let width = if disk == Disk::Mixed { 64 } else { 48 };
    let matrix = |n: usize, k: usize, seed: usize| {
        Weight::stored(format!("w{seed}"), Shape::new(&[n, k]), stored(disk, [n, k], seed), format).expect("the bytes are there")
    };
    let bias = Weight::from_f32("b", Shape::new(&[width]), &noise(width, 3), format);
    let shared = matrix(width, width, 99);
    let plan = Plan::new();
    let context = plan.input("context", &[5, width], Cadence::Once);
    let context = context.linear(&matrix(96, width, 1), None).linear(&matrix(width, 96, 2), None).linear(&shared, None);
    let mut x = plan.input("x", &[5, width], Cadence::EveryStep);
    for block in 0..blocks {
        x = plan.scope(format!("blocks.{block}"), || {
            let wide = 32 * (1 + block % 3);
            let hidden = x.linear(&matrix(wide, width, 10 + 2 * block), None).gelu_tanh();
            x + hidden.linear(&matrix(width, wide, 11 + 2 * block), Some(&bias)) + context
        });
    }
    plan.output("y", x.linear(&shared, None).layer_norm(None, None, 1e-6));
    plan.finish().expect("valid")
}

fn evaluate(exec: &mut Executable, disk: Disk) -> Vec<Vec<u32>> {
    let count = 5 * if disk == Disk::Mixed { 64 } else { 48 };
    exec.write("context", &noise(count, 4)).expect("fits");
    pollster::block_on(async {
        exec.run_prelude().await.expect("runs");
        let mut results = Vec::new();
        for step in 0..3 {
            exec.write("x", &noise(count, 5 + step)).expect("fits");
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
        for (format, disk) in [
            (WeightFormat::F32, Disk::F32),
            (WeightFormat::F16, Disk::F32),
            (WeightFormat::F32, Disk::Q8),
            (WeightFormat::F16, Disk::Q8),
            (WeightFormat::F16, Disk::Mixed),
        ] {
            let graph = model(format, 7, disk);
            let all: u64 = graph.footprint(Preset::Soft, None).expect("fits").weight_bytes();
            let expected = evaluate(&mut Executable::new(device, graph.clone()).expect("fits"), disk);
            let (mut fewest, mut kept) = (u64::MAX, 0);
            for tenths in 1..10 {
                let budget = 20_000 + all * tenths / 10;
                let Ok(footprint) = graph.footprint(Preset::Soft, Some(budget)) else { continue };
                if footprint.ring > 0 {
                    fewest = fewest.min(footprint.weight_bytes());
                    kept += usize::from(footprint.kept > 0);
                    let mut exec = Executable::with_weight_bytes(device, graph.clone(), budget).expect("fits");
                    assert!(evaluate(&mut exec, disk) == expected, "{format:?}, {disk:?}, {budget} bytes of {all} on {}", device.name());
                    pollster::block_on(exec.find_non_finite()).expect("runs step by step");
                }
            }
            assert!(fewest < all / 2, "{format:?}: no budget streams more than half of it");
            assert_eq!(kept > 0, disk != Disk::F32, "{format:?}, {disk:?}: quantised weights stay on the device");
        }
    }
}

#[test]
fn what_a_plan_takes_is_known_beforehand() {
    for (format, blocks, budget, disk) in [
        (WeightFormat::F32, 3, None, Disk::F32),
        (WeightFormat::F16, 9, None, Disk::Q8),
        (WeightFormat::F32, 9, Some(150_000), Disk::F32),
        (WeightFormat::F16, 12, Some(120_000), Disk::F32),
        (WeightFormat::F32, 9, Some(150_000), Disk::Q8),
        (WeightFormat::F16, 12, Some(180_000), Disk::Mixed),
    ] {
        // New ones, on which nothing is yet.
        for device in &devices() {
            let graph = model(format, blocks, disk);
            let footprint = graph.footprint(device.preset().expect("a GPU"), budget).expect("fits");
            assert_eq!(footprint.ring > 0, budget.is_some(), "streamed if there is a budget");
            let mut exec = match budget {
                Some(budget) => Executable::with_weight_bytes(device, graph, budget),
                None => Executable::new(device, graph),
            }
            .expect("fits");
            evaluate(&mut exec, disk);
            let DeviceMemory { live, peak } = device.memory();
            assert_eq!(peak, predicted(&footprint), "at most, {format:?}, {blocks} blocks, {budget:?}: {footprint:?}");
            drop(exec);
            device.evict(|_| false);
            let left = device.memory().live;
            assert!(live > left && left <= 4096, "{left} bytes are left: vectors of equal values, and the buffer for reading");
        }
    }
}

/// A file on a slow disk: reading takes time and no processor.
struct Slow {
    bytes: Vec<u8>,
    per_byte: Duration,
    spent: Arc<AtomicU64>,
}

impl ByteSource for Slow {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<Cow<'_, [u8]>> {
        let begun = Instant::now();
        std::thread::sleep(self.per_byte * (range.end - range.start) as u32);
        self.spent.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.bytes.read(range)
    }
}

/// A disk as slow as the device: reading the weights of a segment while the one before runs must save most of one of both.
#[test]
#[ignore = "needs a machine that does nothing else"]
fn weights_come_while_others_are_used() {
    const SIDE: usize = 1024;
    const LAYERS: usize = 12;
    let device = &devices()[0];
    let spent = Arc::new(AtomicU64::new(0));
    let graph = |per_byte| {
        let plan = Plan::new();
        let matrix = |seed: usize| {
            let bytes: Vec<u8> = noise(SIDE * SIDE, seed as u32).iter().flat_map(|v| f16::from_f32(v * 0.05).to_le_bytes()).collect();
            let file = Slow { bytes, per_byte, spent: Arc::clone(&spent) };
            let place = Place { range: 0..file.size(), file: Arc::new(file), encoding: Encoding::F16 };
            Weight::stored(format!("w{seed}"), Shape::new(&[SIDE, SIDE]), place.into(), WeightFormat::F16).expect("the bytes are there")
        };
        let x = plan.input("x", &[1024, SIDE], Cadence::EveryStep);
        plan.output("y", (0..LAYERS).fold(x, |x, layer| x.linear(&matrix(layer), None)));
        plan.finish().expect("valid")
    };
    let timed = |exec: &mut Executable| {
        exec.write("x", &noise(1024 * SIDE, 1)).expect("fits");
        let mut seconds: Vec<f64> = Vec::new();
        for _ in 0..4 {
            spent.store(0, Ordering::Relaxed);
            let begun = Instant::now();
            pollster::block_on(async {
                exec.run_step().await.expect("runs");
                exec.idle().await.expect("runs");
            });
            seconds.push(begun.elapsed().as_secs_f64());
        }
        // The first is not warm.
        seconds[1..].iter().fold(f64::INFINITY, |least, seconds| least.min(*seconds))
    };
    let resident = timed(&mut Executable::new(device, graph(Duration::ZERO)).expect("fits"));
    let bytes = (2 * SIDE * SIDE * LAYERS) as f64;
    let per_byte = Duration::from_secs_f64(resident / bytes);
    let streamed = timed(&mut Executable::with_weight_bytes(device, graph(per_byte), 12 << 20).expect("fits"));
    let read = spent.load(Ordering::Relaxed) as f64 / 1e9;
    let ratio = (resident + read) / streamed;
    println!("{}: {resident:.3} s of computing and {read:.3} s of reading in {streamed:.3} s: {ratio:.2}", device.name());
    assert!(ratio >= 1.3, "{ratio:.2}");
}

#[test]
fn a_budget_without_room_for_two_segments_is_refused_with_what_is_needed() {
    let graph = model(WeightFormat::F32, 7, Disk::F32);
    let error = graph.footprint(Preset::Gpu, Some(20_000)).expect_err("too little");
    assert!(matches!(error, Error::Limit { needed, .. } if needed > 0), "{error}");
}

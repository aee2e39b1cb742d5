//! A text encoder of 5.7 billion parameters in less memory than its weights take, measured where buffers are made.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kinora_kernels::{AdapterSelect, Cadence, Executable, Plan};
use kinora_runtime::models::component::Component;
use kinora_runtime::{Device, WeightFormat};

/// Tokens of the prompt.
const TOKENS: usize = 64;

/// Bytes for weights: two slots, and some that stay.
const WEIGHT_BYTES: u64 = 600 << 20;

/// Bytes of memory that belong to this process alone, pages of files not counted.
fn private_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux has it");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") * 1024
    };
    of("RssAnon:") + of("RssShmem:")
}

#[test]
#[ignore = "reads 6 GB: `tests/golden/random_weights.py umt5-xxl target/true-size/umt5-xxl --without encoder.embed_tokens.weight`"]
fn umt5_xxl_is_encoded_in_little_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/true-size/umt5-xxl");
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("an adapter");
    let baseline = private_bytes();
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let own = private_bytes().saturating_sub(device.memory().live + baseline);
                most.fetch_max(own, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let begun = Instant::now();
        let Component::TextEncoder(encoder) = Component::open(&folder, WeightFormat::F16).expect("the script wrote it") else {
            panic!("a text encoder")
        };
        let plan = Plan::new();
        let x = plan.input("embeddings", &[TOKENS, encoder.width()], Cadence::Once);
        plan.output("states", encoder.record(&plan, x, &[TOKENS], None));
        let graph = plan.finish().expect("valid");
        let footprint = graph.footprint(device.preset().expect("a GPU"), Some(WEIGHT_BYTES)).expect("fits");
        let ids: Vec<u32> = (0..TOKENS as u32).map(|i| 1000 + 3907 * i).collect();
        let mut exec = Executable::with_weight_bytes(&device, graph, WEIGHT_BYTES).expect("fits");
        exec.write("embeddings", &encoder.embed(&ids, &[TOKENS]).expect("known ids")).expect("fits");
        println!("{:.1} s until it runs; {footprint:?}", begun.elapsed().as_secs_f64());
        let states = pollster::block_on(async {
            exec.run().await.expect("runs");
            exec.read("states").await.expect("reads")
        });
        println!("{:.1} s in all", begun.elapsed().as_secs_f64());
        done.store(true, Ordering::Relaxed);
        assert!(states.len() == TOKENS * encoder.width() && states.iter().all(|v| v.is_finite()), "states");
    });
    let (peak, own) = (device.memory().peak, most.load(Ordering::Relaxed));
    println!("device buffers {:.3} GB, private host memory {:.3} GB", peak as f64 / 1e9, own as f64 / 1e9);
    assert!(peak <= 900_000_000, "{peak} bytes of device buffers");
    assert!(own <= 1_000_000_000, "{own} bytes of private host memory");
}

//! What a generation takes is foretold by recording its plans, and is what is measured where buffers are made.

#[path = "support/sized.rs"]
mod sized;
mod support;

use std::path::{Path, PathBuf};

use sized::Random;
use support::{ModelFolder, golden};

use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{AdapterSelect, CancelToken, Device, Error, GenerateRequest, Generated, ModelParts, VideoPipeline, WeightFormat};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model")
}

/// The first of the fixtures of Wan, which is decoded in chunks with states.
fn wan(name: &str) -> ModelFolder {
    let cases = std::fs::read(golden().join("wan_pipeline/cases.json")).expect("a fixture");
    let cases: serde_json::Value = serde_json::from_slice(&cases).expect("JSON");
    let (_, case) = cases.as_object().and_then(|cases| cases.iter().next()).expect("a case");
    ModelFolder::wan(name, case)
}

fn load(device: &Device, folder: &Path, memory: Option<u64>) -> VideoPipeline {
    let mut pipeline = VideoPipeline::load(device.clone(), folder, WeightFormat::F32).expect("a model of the tests");
    pipeline.set_memory(memory);
    pipeline
}

/// A Wan whose transformer and text encoder are GGUF files of `Q8_0`.
fn load_quantised(device: &Device, memory: Option<u64>) -> VideoPipeline {
    let open = |name: &&str| Checkpoint::open(golden().join("containers").join(name)).expect("a fixture");
    let weights = ["wan_q8_0.gguf", "umt5_q8_0.gguf", "vae.safetensors"].iter().map(open).collect();
    let tokenizer = std::fs::read(golden().join("tokenizer/unigram.json")).expect("a fixture");
    let parts = ModelParts { weights, tokenizer: Some(tokenizer), ..ModelParts::default() };
    let mut pipeline = VideoPipeline::load_with(device.clone(), None, parts, WeightFormat::F32).expect("a model of the tests");
    pipeline.set_memory(memory);
    pipeline
}

fn generate(pipeline: &VideoPipeline, request: &GenerateRequest) -> kinora_runtime::Result<Generated> {
    pollster::block_on(pipeline.generate(request, &CancelToken::default(), &mut |_| {}))
}

fn gpu() -> Device {
    pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("the tests need an adapter")
}

/// Compares what is foretold with what is measured for so many random generations, half of them in little memory.
fn compare(count: usize, seed: u64) {
    let random = &mut Random(seed);
    let (mut streamed, mut refused) = (0, 0);
    let wan = wan("requirements");
    for run in 0..count {
        let folder = if run % 2 == 0 { &tiny() } else { &wan.0 };
        // Its own device, so that nothing is there yet.
        let device = gpu();
        let pipeline = load(&device, folder, None);
        let request = sized::request(&pipeline, random);
        let whole = pipeline.requirements(&request).expect("possible").device_bytes;
        let memory = sized::memory(run, whole, random);
        let context = format!(
            "seed {seed}, run {run}: {request:?} in {memory:?} of {whole}",
            request = (request.width, request.height, request.frames)
        );
        let pipeline = load(&device, folder, memory);
        let found = match pipeline.requirements(&request) {
            Ok(found) => found,
            Err(Error::Memory { needed, allowed, .. }) => {
                assert!(needed > allowed, "{context}");
                assert_eq!(generate(&pipeline, &request).expect_err("does not fit").code(), "memory", "{context}");
                refused += 1;
                continue;
            }
            Err(other) => panic!("{context}: {other}"),
        };
        let before = device.memory().live;
        generate(&pipeline, &request).expect("fits");
        let measured = device.memory().peak - before;
        let predicted = found.device_bytes;
        assert!(measured <= predicted, "{context}: {measured} measured, {predicted} predicted");
        assert!(predicted as f64 <= 1.15 * measured as f64, "{context}: {measured} measured, {predicted} predicted");
        assert!(memory.is_none_or(|memory| predicted <= memory), "{context}: {predicted} predicted");
        streamed += usize::from(found.stages.iter().any(|stage| stage.streamed_bytes > 0));
    }
    assert!(streamed > 0 && refused < count / 3, "{streamed} streamed and {refused} refused of {count}");
}

#[test]
fn the_measured_peak_is_the_predicted_one() {
    compare(12, 3);
}

#[test]
#[ignore = "takes minutes: run it after a change to what is on the device when"]
fn the_measured_peak_is_the_predicted_one_a_hundred_times() {
    compare(100, 2);
}

#[test]
fn quantised_weights_stay_as_they_are_where_panels_do_not_fit() {
    let device = gpu();
    let large = load_quantised(&device, None);
    let request = GenerateRequest { width: 32, height: 16, frames: 1, steps: 2, ..large.request("water") };
    let expected = generate(&large, &request).expect("runs");
    let whole = large.requirements(&request).expect("possible").device_bytes;
    drop(large);
    let mut kept = 0;
    for percent in (40..100).step_by(6) {
        let device = gpu();
        let pipeline = load_quantised(&device, Some(whole * percent / 100));
        let Ok(found) = pipeline.requirements(&request) else { continue };
        if found.stages.iter().all(|stage| stage.kept_bytes == 0) {
            continue;
        }
        kept += 1;
        assert!(generate(&pipeline, &request).expect("fits") == expected, "{percent} %");
        let (measured, predicted) = (device.memory().peak, found.device_bytes);
        assert!(measured <= predicted && predicted as f64 <= 1.15 * measured as f64, "{measured} measured, {predicted} predicted");
    }
    assert!(kept > 0, "no memory keeps any");
}

#[test]
fn little_memory_changes_no_bit_and_much_keeps_what_is_there() {
    let device = gpu();
    let folder = &tiny();
    let large = load(&device, folder, None);
    let request = GenerateRequest { width: 32, height: 32, frames: 1, steps: 3, ..large.request("water") };
    let expected = generate(&large, &request).expect("runs");
    let whole = large.requirements(&request).expect("possible");
    let made = large.executables_made();
    assert!(generate(&large, &request).expect("runs") == expected && large.executables_made() == made, "everything was kept");
    // The least that works, to a twentieth.
    let fits = |share: &u64| load(&device, folder, Some(whole.device_bytes * share / 100)).requirements(&request).is_ok();
    let least = (5..=100).step_by(5).find(fits).expect("all of it does");
    println!("{least} % of {whole:?}");
    assert!(least < 90, "{least} % is the least that works: nothing leaves the device");
    let small = load(&device, folder, Some(whole.device_bytes * least / 100));
    assert!(generate(&small, &request).expect("runs") == expected, "other bits in little memory");
    assert!(generate(&small, &request).expect("runs") == expected, "other bits the second time");
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let folder = &tiny();
    let mut pipeline = load(&gpu(), folder, None);
    let request = GenerateRequest { width: 96, height: 96, frames: 17, steps: 1, ..pipeline.request("water") };
    let smaller = GenerateRequest { width: 32, height: 32, frames: 1, ..request.clone() };
    let least = pipeline.requirements(&smaller).expect("possible").device_bytes;
    pipeline.set_memory(Some(least));
    let begun = std::time::Instant::now();
    let error = generate(&pipeline, &request).expect_err("does not fit");
    assert_eq!(error.code(), "memory", "{error}");
    assert!(begun.elapsed().as_secs() < 10 && pipeline.executables_made() == 0, "before anything runs");
    let setting = pipeline.fitting(&request).expect("something fits");
    assert!(setting.starts_with("--frames ") || setting.starts_with("--size "), "{setting}");
}

//! The shipped model: it loads, fits its budgets and paints the background it is asked for.

mod support;

use std::path::{Path, PathBuf};

use kinora_kernels::Cadence;
use kinora_runtime::weights::ModelFiles;
use kinora_runtime::{CancelToken, Device, Error, Event, GenerateRequest, VideoPipeline, WeightFormat};

/// What a browser fetches.
const FILES: [&str; 9] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/flipbook")
}

fn load(device: Device) -> VideoPipeline {
    VideoPipeline::load(device, &folder(), WeightFormat::F16).expect("the shipped model loads")
}

#[test]
fn a_transformer_block_takes_twelve_dispatches() {
    let (transformer, _) = load(Device::cpu()).plans().expect("the defaults are valid");
    let block =
        transformer.steps.iter().filter(|s| s.label.starts_with("transformer_blocks.0.") && transformer.cadence(s) == Cadence::EveryStep);
    assert_eq!(block.count(), 12, "{transformer}");
}

#[test]
fn the_background_has_the_colour_of_the_prompt() {
    // The first entry is the CPU; the next is the first adapter with the kernels for software adapters.
    let (name, device, _) = &support::devices()[1];
    let pipeline = load(device.clone());
    let mut request = pipeline.request("a rocket flying on a blue background");
    request.steps = 4;
    let mut events = 0;
    let clip = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| events += 1)).expect("generates");
    assert_eq!((clip.width, clip.height, clip.frames.len(), events), (128, 128, 17, 6), "{name}: text, four steps, decoding");
    for frame in &clip.frames {
        let [red, green, blue, alpha] = [0, 1, 2, 3].map(|channel| frame[channel]);
        assert!(blue > 150 && blue > red + 60 && alpha == 255, "{name}: the corner is {red} {green} {blue} {alpha}");
    }
}

#[test]
fn its_own_stages_double_pixels_and_frames() {
    let (name, device, _) = &support::devices()[1];
    let pipeline = load(device.clone());
    let request = GenerateRequest { upscale: 2, interpolate: 2, steps: 2, ..pipeline.request("a rocket flying on a blue background") };
    let mut refined = Vec::new();
    let on_event = &mut |event| {
        if let Event::Refine { stage, by, frames } = event {
            refined.push((stage, by, frames));
        }
    };
    let clip = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), on_event)).expect("generates");
    assert_eq!(refined, [("interpolate", "model", 33), ("upscale", "model", 33)], "{name}");
    assert_eq!((clip.width, clip.height, clip.frames.len(), clip.fps), (256, 256, 33, 24.0), "{name}");
    // What is plain stays plain, at every border and in frames between.
    for frame in &clip.frames {
        for corner in [0, 255, 255 * 256, 256 * 256 - 1] {
            let [red, green, blue, _] = [0, 1, 2, 3].map(|channel| frame[4 * corner + channel]);
            assert!(blue > 150 && blue > red + 60, "{name}: a corner is {red} {green} {blue}");
        }
    }
}

#[test]
fn previews_approach_the_first_frame() {
    let (name, device, _) = &support::devices()[1];
    let pipeline = load(device.clone());
    let mut request = pipeline.request("a taxi on a green background");
    (request.frames, request.steps, request.preview_every) = (5, 6, 2);
    let mut previews = Vec::new();
    let on_event = &mut |event| {
        if let Event::Step { step, preview: Some(rgba), .. } = event {
            previews.push((step, rgba));
        }
    };
    let clip = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), on_event)).expect("generates");
    let error = |rgba: &[u8]| rgba.iter().zip(&clip.frames[0]).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / rgba.len() as f64;
    let [(2, early), (4, late)] = previews.as_slice() else {
        panic!("{name}: previews after steps {:?}", previews.iter().map(|(step, _)| step).collect::<Vec<_>>())
    };
    assert_eq!(late.len(), clip.frames[0].len(), "the size of a frame");
    assert!(error(late) < error(early) && error(late) < 16.0, "{name}: {} then {} levels of 255", error(early), error(late));
}

#[test]
fn a_model_in_memory_is_the_model_in_its_folder() {
    let mut files = ModelFiles::new("memory");
    for path in FILES {
        files.insert(path, std::fs::read(folder().join(path)).expect("a shipped file"));
    }
    let memory = VideoPipeline::from_files(Device::cpu(), files, WeightFormat::F16).expect("loads");
    let plan = |pipeline: &VideoPipeline| pipeline.plans().expect("the defaults are valid").0.to_string();
    assert_eq!(plan(&memory), plan(&load(Device::cpu())), "the same plan");

    let missing = VideoPipeline::from_files(Device::cpu(), ModelFiles::new("memory"), WeightFormat::F16);
    let error = missing.err().expect("no files");
    assert_eq!((error.code(), error.to_string().contains("memory/model_index.json")), ("not-found", true), "{error}");
}

#[test]
fn a_cancelled_generation_says_so() {
    let (_, device, _) = &support::devices()[1];
    let pipeline = load(device.clone());
    let cancel = CancelToken::default();
    let on_event = &mut |_| cancel.cancel();
    let error =
        pollster::block_on(pipeline.generate(&pipeline.request("a taxi"), &cancel, on_event)).expect_err("cancelled at the first event");
    assert!(matches!(error, Error::Cancelled), "{error}");
}

//! The shipped model: it loads, fits its budgets and paints the background it is asked for.

mod support;

use std::path::{Path, PathBuf};

use kinora_kernels::Cadence;
use kinora_runtime::{CancelToken, Device, VideoPipeline, WeightFormat};

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
fn a_cancelled_generation_says_so() {
    let (_, device, _) = &support::devices()[1];
    let pipeline = load(device.clone());
    let cancel = CancelToken::default();
    let on_event = &mut |_| cancel.cancel();
    let error =
        pollster::block_on(pipeline.generate(&pipeline.request("a taxi"), &cancel, on_event)).expect_err("cancelled at the first event");
    assert_eq!(error.code(), "cancelled", "{error}");
}

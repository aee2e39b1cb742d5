//! Clips of a causal Wan: block by block, without an end, from a given image, guided, in memory that is known and does not grow, and on
//! devices that are lost.

mod support;

use std::sync::Arc;

use kinora_kernels::{AdapterSelect, Device, Fault, FaultPlan, Gpu, WeightFormat};
use kinora_runtime::conditioning::{Conditioning, Long};
use kinora_runtime::sampling::guidance::Guidance;
use kinora_runtime::{CancelToken, Error, Event, GenerateRequest, Generated, VideoPipeline, host_memory};
use serde_json::{Value, json};
use support::{ModelFolder, images_at, nmse};

const SIZE: [usize; 2] = [32, 16];

/// The Wan of the pipeline's fixtures with `kinora.causal` in the configuration of its transformer, and the scheduler that the model
/// was trained with before.
fn load(name: &str, causal: &Value, device: Device) -> VideoPipeline {
    let scheduler = json!({ "_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": true, "prediction_type": "flow_prediction" });
    let folder = ModelFolder::wan(&format!("causal-{name}"), &json!({ "scheduler": scheduler }));
    let path = folder.0.join("transformer/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("a fixture")).expect("JSON");
    config["kinora"] = json!({ "causal": causal });
    std::fs::write(&path, config.to_string()).expect("writable");
    VideoPipeline::load(device, &folder.0, WeightFormat::F32).expect("loads")
}

fn request(pipeline: &VideoPipeline, frames: usize) -> GenerateRequest {
    GenerateRequest { width: SIZE[0], height: SIZE[1], frames, seed: 7, ..pipeline.request("a sleeping cat") }
}

fn generate(pipeline: &VideoPipeline, request: &GenerateRequest) -> Result<Generated, Error> {
    pollster::block_on(pipeline.generate(request, &CancelToken::default(), &mut |_| {}))
}

/// The frames of a clip without an end, which is stopped after so many, and the steps before each.
fn endless(pipeline: &VideoPipeline, frames: usize, seen: &mut dyn FnMut(usize)) -> (Vec<Vec<u8>>, Vec<usize>, Generated) {
    let long = Some(Long { scenes: Vec::new(), clip_frames: None, overlap: 1 });
    let request = GenerateRequest { long, ..request(pipeline, 9) };
    let (stop, steps) = (CancelToken::default(), std::cell::Cell::new(0));
    let (mut made, mut before) = (Vec::new(), Vec::new());
    let sink = &mut async |frame| {
        made.push(frame);
        before.push(steps.get());
        seen(made.len());
        if made.len() == frames {
            stop.cancel();
        }
        Ok(())
    };
    let on_event = &mut |event| steps.set(steps.get() + usize::from(matches!(event, Event::Step { .. })));
    let end = pollster::block_on(pipeline.generate_frames(&request, &stop, on_event, sink)).expect("stopped is how it ends");
    (made, before, end)
}

#[test]
fn a_clip_without_an_end_begins_like_one_with_an_end() {
    for (name, causal) in [("chunks", json!({ "block_frames": 2, "window": 5, "sink": 1 })), ("frames", json!({ "block_frames": 1 }))] {
        let pipeline = load(name, &causal, Device::cpu());
        let defaults = (pipeline.manifest().default_steps, pipeline.manifest().default_guidance);
        assert_eq!(defaults, (4, 1.0), "{name}: those of such models");
        let clip = generate(&pipeline, &request(&pipeline, 9)).expect("generates");
        assert_eq!((clip.frames.len(), clip.latents_shape), (9, [1, 6, 3, 2, 4]), "{name}");
        let (frames, steps, end) = endless(&pipeline, 13, &mut |_| {});
        assert!(frames[..9] == clip.frames, "{name}: frame for frame");
        assert_eq!((frames.len(), end.decoded), (13, 0..13), "{name}");
        let block: usize = if name == "chunks" { 2 } else { 1 };
        let expected: Vec<usize> = (0..13_usize).map(|frame| 4 * (frame.div_ceil(4) / block + 1)).collect();
        assert_eq!(steps, expected, "{name}: frames come before the next block is made");
    }
}

#[test]
fn the_first_block_may_take_more_steps() {
    let pipeline = load("first", &json!({ "block_frames": 1, "steps": 2, "first_steps": 4 }), Device::cpu());
    let mut steps = Vec::new();
    let on_event = &mut |event| steps.extend(if let Event::Step { step, steps, .. } = event { Some([step, steps]) } else { None });
    pollster::block_on(pipeline.generate(&request(&pipeline, 9), &CancelToken::default(), on_event)).expect("generates");
    assert_eq!(steps, (1..=8).map(|step| [step, 8]).collect::<Vec<_>>(), "4, 2 and 2");
}

#[test]
fn a_given_image_is_the_first_block() {
    let pipeline = load("image", &json!({ "block_frames": 1 }), Device::cpu());
    let image: Vec<u8> = (0..SIZE[0] * SIZE[1]).flat_map(|at| [(at % 251) as u8, (at % 83) as u8, 90, 255]).collect();
    let conditioning = Conditioning::new(vec![vec![image.clone()]], images_at(3, &[0]));
    let given = generate(&pipeline, &GenerateRequest { conditioning, ..request(&pipeline, 9) }).expect("generates");
    let free = generate(&pipeline, &request(&pipeline, 9)).expect("generates");
    let (latents, _) = pollster::block_on(pipeline.encode(&[&image], SIZE[0], SIZE[1], &CancelToken::default())).expect("encodes");
    let frame =
        |clip: &Generated, at: usize| -> Vec<f32> { clip.latents.chunks(24).flat_map(|c| c[8 * at..8 * (at + 1)].to_vec()).collect() };
    assert_eq!(frame(&given, 0), latents, "as it was encoded");
    assert!(nmse(&frame(&given, 1), &frame(&free, 1)) > 1e-4, "the others follow it");
    assert_eq!(given.frames.len(), 9);
}

#[test]
fn guidance_leads_away_from_the_negative_prompt() {
    let pipeline = load("guided", &json!({ "block_frames": 1, "window": 2, "steps": 2 }), Device::cpu());
    let guided = |scale: f32, negative: &str| {
        let request = GenerateRequest { guidance: scale.into(), negative: negative.into(), ..request(&pipeline, 9) };
        generate(&pipeline, &request).expect("generates").latents
    };
    let free = guided(1.0, "");
    assert_eq!(guided(1.0, "a rocket"), free, "nothing to lead away from");
    assert!(nmse(&guided(4.0, "a rocket"), &free) > 1e-4, "elsewhere");
    assert!(nmse(&guided(4.0, "a sleeping cat"), &free) < 1e-9, "away from the prompt itself there is no way");
}

#[test]
fn a_clip_of_blocks_survives_the_loss_of_its_device() {
    let open = || Arc::new(pollster::block_on(Gpu::open(&AdapterSelect::Auto, None)).expect("these tests need an adapter"));
    let gpu = open();
    let mut pipeline = load("lost", &json!({ "block_frames": 1, "window": 2, "steps": 2 }), Device::Gpu(gpu.clone()));
    gpu.plan_fault(None);
    let own = request(&pipeline, 9);
    let expected = generate(&pipeline, &own).expect("nothing fails");
    let calls = gpu.calls().0;
    // In the first block, after a frame was handed over, at the end.
    for call in [calls / 4, calls * 2 / 3, calls - 1] {
        let gpu = open();
        pipeline.set_device(Device::Gpu(gpu.clone()));
        gpu.plan_fault(Some(FaultPlan { call, fault: Fault::Lost, sticky: false }));
        let made = generate(&pipeline, &own).unwrap_or_else(|error| panic!("call {call} of {calls}: {error}"));
        assert!(gpu.calls().1 > 0, "call {call}: nothing was lost");
        assert!(made == expected, "call {call} of {calls}: another clip");
    }
    let gpu = open();
    pipeline.set_device(Device::Gpu(gpu.clone()));
    gpu.plan_fault(Some(FaultPlan { call: calls * 2, fault: Fault::Lost, sticky: false }));
    let endless = GenerateRequest { long: Some(Long { scenes: Vec::new(), clip_frames: None, overlap: 1 }), ..own };
    let made = pollster::block_on(pipeline.generate_frames(&endless, &CancelToken::default(), &mut |_| {}, &mut async |_| Ok(())));
    assert_eq!(made.err().map(|error| error.code()), Some("device-lost"), "a clip without an end is not kept from its beginning");
}

#[test]
fn what_blocks_cannot_do_is_refused() {
    let chunks = load("refused", &json!({ "block_frames": 3 }), Device::cpu());
    let image = vec![vec![vec![200; SIZE[0] * SIZE[1] * 4]]];
    let with = |plan| GenerateRequest { conditioning: Conditioning::new(image.clone(), plan), ..request(&chunks, 9) };
    for (name, request, expected) in [
        (
            "rescaled guidance",
            GenerateRequest { guidance: Guidance { rescale: 0.5, ..5.0.into() }, ..request(&chunks, 9) },
            "guidanceRescale",
        ),
        ("part of a block", with(images_at(3, &[0])), "whole blocks of 3 latent frames"),
        ("the end", with(images_at(3, &[2])), "at the start of the clip"),
    ] {
        let error = generate(&chunks, &request).expect_err(name);
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn memory_stays_after_the_tenth_latent_frame() {
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("these tests need an adapter");
    let causal = json!({ "block_frames": 1, "window": 4, "sink": 1, "steps": 1 });
    let pipeline = load("memory", &causal, device.clone());
    let guided = GenerateRequest { guidance: 2.0.into(), ..request(&pipeline, 9) };
    for (name, request) in [("unguided", request(&pipeline, 9)), ("guided", guided)] {
        let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None)).expect("these tests need an adapter");
        let mut own = load("foreseen", &causal, device.clone());
        let foreseen = own.requirements(&request).expect("possible").device_bytes;
        generate(&own, &request).expect("generates");
        let found = device.memory().peak;
        println!("{name}: {foreseen} bytes foreseen, {found} at most");
        assert!(found <= foreseen && foreseen - found <= foreseen / 50, "{name}: {foreseen} bytes foreseen with the cache, {found} taken");
        own.set_memory(Some(foreseen / 4));
        assert!(matches!(own.requirements(&request), Err(Error::Memory { .. })), "{name}: what does not fit is refused beforehand");
    }
    let count: usize = std::env::var("KINORA_CAUSAL_FRAMES").map_or(40, |count| count.parse().expect("a number"));
    let held = |device: &Device| {
        let live = device.memory().live;
        [live as f64, host_memory::private().unwrap_or_default() as f64 - live as f64]
    };
    let mut measured = Vec::new();
    // The first latent frame is one frame, each other four; the frames made are kept here.
    let (frames, _, _) = endless(&pipeline, 4 * count - 3, &mut |frame| {
        if frame % 4 == 1 {
            let kept = (frame * SIZE[0] * SIZE[1] * 4) as f64;
            let [live, private] = held(&device);
            measured.push([live, private - kept]);
        }
    });
    assert_eq!(frames.len(), 4 * count - 3);
    let (tenth, last) = (measured[9], measured[count - 1]);
    println!("{count} latent frames: device {:?}, private {:?}", [tenth[0], last[0]], [tenth[1], last[1]]);
    assert!(last[0] <= 1.01 * tenth[0], "buffers of the device: {tenth:?}, {last:?}");
    if count >= 200 {
        assert!(last[1] <= 1.01 * tenth[1], "private memory of the host: {tenth:?}, {last:?}");
    }
}

//! Clips, windows and previews of the same sizes use what was made for the ones before, and get the same bits.

mod support;

use std::path::Path;

use kinora_kernels::Preparations;
use kinora_runtime::conditioning::{Conditioning, Long};
use kinora_runtime::sampling::guidance::{Curve, Guidance};
use kinora_runtime::{CancelToken, Device, Error, Event, GenerateRequest, Generated, VideoPipeline, WeightFormat};

fn load(device: &Device) -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    VideoPipeline::load(device.clone(), &folder, WeightFormat::F32).expect("the tiny model loads")
}

fn make(pipeline: &VideoPipeline, request: &GenerateRequest) -> (Generated, usize) {
    let mut previews = 0;
    let on_event = &mut |event| previews += usize::from(matches!(event, Event::Step { preview: Some(_), .. }));
    let clip = pollster::block_on(pipeline.generate(request, &CancelToken::default(), on_event)).expect("generates");
    (clip, previews)
}

#[test]
fn the_same_sizes_make_nothing_new() {
    for (name, device, _) in support::devices() {
        let pipeline = load(device);
        let image = vec![vec![(0..32 * 32 * 4).map(|at| at as u8 | 3).collect()]];
        let conditioning = Conditioning::new(image, support::images_at(2, &[0]));
        let request = GenerateRequest { frames: 5, steps: 4, preview_every: 1, conditioning, ..pipeline.request("water") };
        let (first, previews) = make(&pipeline, &request);
        let made = pipeline.executables_made();
        assert_eq!(previews, 3, "{name}");
        // Text, the image encoded and decoded, which previews share, and the clip denoised and decoded.
        assert_eq!(made, 5, "{name}: the second preview and the image's own frame cost nothing");
        let (again, _) = make(&pipeline, &request);
        assert!(again == first, "{name}: other bits the second time");
        let prepared = Preparations::so_far();
        // A word of as many tokens, another shift and guidance: none of it is part of a plan.
        let guidance = Guidance { curve: Curve::Linear, ..Guidance::from(3.0) };
        let other = GenerateRequest { prompt: "ocean".into(), seed: 9, shift: Some(2.0), guidance, ..request.clone() };
        assert!(make(&pipeline, &other).0 != first, "{name}: another clip");
        assert_eq!(pipeline.executables_made(), made, "{name}: nothing new");
        assert_eq!(Preparations::so_far(), prepared, "{name}: nothing is recorded, compiled or allocated, to read back neither");
        let wider = GenerateRequest { width: 64, conditioning: Conditioning::default(), preview_every: 0, ..request.clone() };
        make(&pipeline, &wider);
        assert_eq!(pipeline.executables_made(), made + 2, "{name}: denoised and decoded in another size, the same text");
    }
}

#[test]
fn windows_share_what_they_run() {
    let pipeline = load(&Device::cpu());
    let long = Some(Long { scenes: Vec::new(), clip_frames: Some(17), overlap: 1 });
    let request = GenerateRequest { width: 32, height: 32, frames: 5, steps: 2, long, ..pipeline.request("water") };
    make(&pipeline, &request);
    // Text, a window denoised and decoded, and for all further windows what they begin with, encoded and decoded alone, and the
    // denoising that keeps it.
    assert_eq!(pipeline.executables_made(), 6, "for four windows");
}

#[test]
fn a_lost_device_takes_its_executables_along() {
    let mut pipeline = load(&Device::cpu());
    let request = GenerateRequest { frames: 5, steps: 1, ..pipeline.request("water") };
    let (first, _) = make(&pipeline, &request);
    pipeline.set_device(Device::cpu());
    assert_eq!(pipeline.executables_made(), 0, "none yet");
    assert!(make(&pipeline, &request).0 == first, "the same clip");
}

#[test]
fn frames_that_stream_are_those_of_the_clip() {
    let pipeline = load(&Device::cpu());
    let plain = GenerateRequest { width: 32, height: 32, frames: 9, steps: 2, ..pipeline.request("water") };
    let image = vec![vec![vec![200; 32 * 32 * 4]]];
    let given = GenerateRequest { conditioning: Conditioning::new(image, support::images_at(3, &[0])), ..plain.clone() };
    for request in [plain, given] {
        let (whole, _) = make(&pipeline, &request);
        let mut frames = Vec::new();
        let sink = &mut async |frame| {
            frames.push(frame);
            Ok(())
        };
        let rest = pollster::block_on(pipeline.generate_frames(&request, &CancelToken::default(), &mut |_| {}, sink)).expect("generates");
        assert!(frames == whole.frames, "the same frames");
        assert!(Generated { frames, ..rest } == whole, "and the same of everything else");
        let mut taken = 0;
        let full = &mut async |_| {
            taken += 1;
            Err(Error::Cancelled)
        };
        let stopped = pollster::block_on(pipeline.generate_frames(&request, &CancelToken::default(), &mut |_| {}, full));
        assert_eq!((stopped.expect_err("refused").code(), taken), ("cancelled", 1), "what is not taken ends the clip");
    }
}

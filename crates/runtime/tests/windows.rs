//! Clips made of windows: how they are refused, estimated and made beside others.

use std::cell::Cell;
use std::path::Path;

use kinora_runtime::conditioning::Long;
use kinora_runtime::{CancelToken, Device, Event, GenerateRequest, VideoPipeline, WeightFormat};

fn pipeline() -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    VideoPipeline::load(Device::cpu(), &folder, WeightFormat::F32).expect("the tiny model loads")
}

/// Windows of 5 frames, the last of them the next one's first.
fn long(pipeline: &VideoPipeline, scenes: &[&str], clip_frames: usize) -> GenerateRequest {
    let scenes = scenes.iter().copied().map(str::to_owned).collect();
    let long = Some(Long { scenes, clip_frames: Some(clip_frames), overlap: 1 });
    GenerateRequest { width: 32, height: 32, frames: 5, steps: 2, seed: 7, long, ..pipeline.request("water") }
}

#[test]
fn impossible_windows_are_refused_before_any_work() {
    let pipeline = pipeline();
    for (request, expected) in [
        (long(&pipeline, &["a", "b", "c"], 9), "3 scenes for 2 windows"),
        (long(&pipeline, &[], 4), "5 frames for a clip of 4"),
        (GenerateRequest { frames: 1, ..long(&pipeline, &[], 9) }, "1 latent frames"),
    ] {
        let refused = pipeline.validate(&request).expect_err(expected);
        assert_eq!(refused.code(), "invalid-conditioning", "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |event| panic!("{event:?}")));
        assert_eq!(made.map(|_| ()).expect_err(expected).to_string(), refused.to_string());
    }
}

#[test]
fn estimates_count_every_window() {
    let pipeline = pipeline();
    let estimate = |request: &GenerateRequest| {
        // Every step takes a second.
        let time = Cell::new(0.0);
        let clock = || time.replace(time.get() + 1.0);
        pollster::block_on(pipeline.estimate(request, &clock, &CancelToken::default())).expect("possible")
    };
    let four = long(&pipeline, &[], 17);
    let one = estimate(&GenerateRequest { long: None, ..four.clone() });
    let single = estimate(&GenerateRequest { long: Some(Long { scenes: Vec::new(), clip_frames: Some(5), overlap: 1 }), ..four.clone() });
    assert_eq!((single.seconds, single.gpu_bytes >= one.gpu_bytes), (one.seconds, true), "one window");
    let found = estimate(&four).seconds;
    // What windows share is encoded and decoded once more, which is less than all there is to decode.
    assert!(found > 4.0 * one.seconds && found < 8.0 * one.seconds, "{found} s, one window {} s", one.seconds);
}

#[test]
fn clips_of_windows_are_beside_others_what_they_are_alone() {
    let pipeline = pipeline();
    let short = GenerateRequest { long: None, seed: 3, ..long(&pipeline, &[], 5) };
    let requests = [long(&pipeline, &["water", "fire"], 9), short.clone(), long(&pipeline, &["a", "b", "c"], 5), short];
    let cancel = CancelToken::default();
    let mut steps = vec![Vec::new(); requests.len()];
    let on_event = &mut |at: usize, event| {
        if let Event::Step { step, steps: all, .. } = event {
            steps[at].push((step, all));
        }
    };
    let made = pollster::block_on(pipeline.generate_many(&requests, &cancel, on_event)).expect("runs");
    for (at, (request, made)) in requests.iter().zip(made).enumerate() {
        match pollster::block_on(pipeline.generate(request, &cancel, &mut |_| {})) {
            Ok(alone) => assert!(made.expect("made").frames == alone.frames, "clip {at}"),
            Err(error) => assert_eq!(made.map(|_| ()).expect_err("refused").to_string(), error.to_string()),
        }
    }
    assert_eq!(steps, [vec![(1, 4), (2, 4), (3, 4), (4, 4)], vec![(1, 2), (2, 2)], vec![], vec![(1, 2), (2, 2)]]);
}

#[test]
fn a_clip_without_an_end_goes_on_until_it_is_stopped() {
    let pipeline = pipeline();
    let finite = long(&pipeline, &["water", "fire"], 13);
    let whole = pollster::block_on(pipeline.generate(&finite, &CancelToken::default(), &mut |_| {})).expect("made").frames;
    let endless = Long { clip_frames: None, ..finite.long.clone().expect("windows") };
    let request = GenerateRequest { long: Some(endless), ..finite };
    assert_eq!(pipeline.finished_frames(&request).expect("possible"), None);
    let cancel = CancelToken::default();
    let mut frames = Vec::new();
    let sink = &mut async |frame| {
        frames.push(frame);
        // While the third window is made: frames of two have come, but for the one that the third begins with.
        if frames.len() == 8 {
            cancel.cancel();
        }
        Ok(())
    };
    let made = pollster::block_on(pipeline.generate_frames(&request, &cancel, &mut |_| {}, sink)).expect("it ends with what it has");
    assert_eq!((frames.len(), made.decoded), (9, 0..9), "and with the frame that nothing replaces");
    // The first scene has one window here and two of three there.
    assert!(frames[..4] == whole[..4], "the first window is that of a clip with an end");
    let refined = GenerateRequest { upscale: 2, ..request.clone() };
    assert_eq!(pipeline.validate(&refined).expect_err("never whole").code(), "invalid-conditioning");
    let stopped = pollster::block_on(pipeline.generate(&request, &cancel, &mut |_| {}));
    assert_eq!(stopped.map(|_| ()).expect_err("nothing was made").code(), "cancelled");
}

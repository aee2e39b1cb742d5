//! Clips with more frames and pixels than are generated: what stands in for stages that a model does not have, and how a request
//! asks for it.

use std::path::Path;

use kinora_runtime::conditioning::{Given, Long};
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, Device, Event, GenerateRequest, Generated, Options, VideoPipeline, WeightFormat};

fn pipeline() -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    VideoPipeline::load(Device::cpu(), &folder, WeightFormat::F32).expect("the tiny model loads")
}

fn made(pipeline: &VideoPipeline, request: &GenerateRequest) -> (Generated, Vec<(&'static str, &'static str, usize)>) {
    let mut refined = Vec::new();
    let on_event = &mut |event| {
        if let Event::Refine { stage, by, frames } = event {
            refined.push((stage, by, frames));
        }
    };
    let clip = pollster::block_on(pipeline.generate(request, &CancelToken::default(), on_event)).expect("runs");
    (clip, refined)
}

#[test]
fn a_model_without_stages_gets_matching_and_catmull_rom() {
    let pipeline = pipeline();
    let plain = pipeline.request("water");
    let (small, none) = made(&pipeline, &plain);
    assert!(none.is_empty(), "{none:?}: nothing was asked for");
    let (clip, refined) = made(&pipeline, &GenerateRequest { interpolate: 2, upscale: 2, ..plain.clone() });
    assert_eq!(refined, [("interpolate", "matching", 9), ("upscale", "catmull-rom", 9)]);
    assert_eq!((clip.width, clip.height, clip.frames.len(), clip.fps), (64, 64, 9, 24.0));
    assert_eq!((clip.decoded, clip.frames[0].len()), (0..9, 4 * 64 * 64));

    let (between, _) = made(&pipeline, &GenerateRequest { interpolate: 2, ..plain.clone() });
    for (at, pair) in small.frames.windows(2).enumerate() {
        assert!(between.frames[2 * at] == pair[0] && between.frames[2 * at + 2] == pair[1], "frames that are given stay");
        let twice = kinora_runtime::matching::between(&pair[0], &pair[1], [32, 32]);
        let found = between.frames[2 * at + 1].chunks_exact(4);
        assert!(found.zip(twice).all(|(found, twice)| (0..3).all(|c| (2 * u16::from(found[c])).abs_diff(twice[c]) <= 1)), "frame {at}");
    }

    let (large, _) = made(&pipeline, &GenerateRequest { upscale: 2, ..plain });
    // Around an interior pixel, the nearest four of the large frame have about its mean (their weights sum to one).
    let value = |frame: &[u8], width: usize, y: usize, x: usize| f64::from(frame[4 * (y * width + x)]);
    let expected = |y: usize, x: usize| {
        let taps = [-3.0, 29.0, 111.0, -9.0].map(|tap| tap / 128.0);
        let column = |dy: usize| (0..4).map(|dx| taps[dx] * value(&small.frames[2], 32, y + dy - 2, x + dx - 2)).sum::<f64>();
        (0..4).map(|dy| taps[dy] * column(dy)).sum::<f64>().clamp(0.0, 255.0)
    };
    for (y, x) in [(2, 2), (9, 17), (20, 5), (30, 30)] {
        let found = value(&large.frames[2], 64, 2 * y, 2 * x);
        assert!((found - expected(y, x)).abs() <= 1.0, "{found} at {y}, {x}, expected {}", expected(y, x));
    }
}

#[test]
fn clips_of_windows_are_refined_as_a_whole() {
    let pipeline = pipeline();
    let long = Some(Long { scenes: Vec::new(), clip_frames: Some(9), overlap: 1 });
    let (clip, refined) = made(&pipeline, &GenerateRequest { long, interpolate: 2, ..pipeline.request("water") });
    assert_eq!((clip.frames.len(), refined.len()), (17, 1), "once, over all windows");
}

#[test]
fn requests_say_how_often_and_metadata_by_what() {
    let pipeline = pipeline();
    let draft = |options: Options| {
        let options = Options { prompt: Some("water".into()), ..options };
        options.resolve::<(), kinora_runtime::Error>(Given::default(), &|(), _| Ok(1), &pipeline, &mut |_| {})
    };
    let both = Options { upscale: Some(2), interpolate: Some(2), duration_seconds: Some(0.4), ..Options::default() };
    let draft_of_both = draft(both).expect("possible");
    let request = &draft_of_both.request;
    assert_eq!((request.frames, request.fps, request.width), (5, 24.0, 32), "12 fps are generated");
    let metadata = draft_of_both.metadata(&pipeline, "tiny", &|()| String::new()).expect("no windows");
    assert_eq!((metadata.width, metadata.height, metadata.frames, metadata.fps), (64, 64, 9, 24.0), "of the finished clip");
    assert_eq!((metadata.upscaled_by, metadata.interpolated_by), (Some("catmull-rom"), Some("matching")));
    let none = draft(Options::default()).expect("possible").metadata(&pipeline, "tiny", &|()| String::new()).expect("no windows");
    assert_eq!((none.upscale, none.upscaled_by, none.fps), (None, None, 12.0));
    for (options, parameter) in [
        (Options { upscale: Some(4), ..Options::default() }, "upscale"),
        (Options { interpolate: Some(0), ..Options::default() }, "interpolate"),
    ] {
        let error = draft(options).map(|_| ()).expect_err(parameter).to_string();
        assert!(error.contains(parameter) && error.contains("1 or 2"), "{error}");
    }
}

#[test]
fn matching_finds_what_the_reference_finds() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/matching/between.safetensors");
    let file = Checkpoint::open(&file).expect("the fixture");
    let rows = |name: &str| -> Vec<i64> { file.get(name).and_then(|tensor| tensor.to_i64()).expect("a tensor") };
    let (height, width, bytes) = (36, 56, rows("frames"));
    let rgba = |pixels: &[i64]| pixels.chunks_exact(3).flat_map(|p| [p[0] as u8, p[1] as u8, p[2] as u8, 255]).collect::<Vec<u8>>();
    let (before, after) = bytes.split_at(height * width * 3);
    let found = kinora_runtime::matching::between(&rgba(before), &rgba(after), [height, width]);
    let expected: Vec<[u16; 3]> = rows("between").chunks_exact(3).map(|p| [p[0] as u16, p[1] as u16, p[2] as u16]).collect();
    assert!(found == expected, "{} of {} differ", found.iter().zip(&expected).filter(|(a, b)| a != b).count(), expected.len());
}

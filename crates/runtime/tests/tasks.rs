//! Every task through the shipped model: what is given comes back.

mod support;

use std::path::Path;

use kinora_runtime::conditioning::tasks::{connect, extend, repeat};
use kinora_runtime::conditioning::{CLEAN, Conditioning, Direction, FramePlan, Joints, LatentFrame, SourceClip, SourceFrame};
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline, WeightFormat};

/// Half of what the model was trained with: what is given does not depend on how good the rest is.
const SIDE: usize = 64;

fn pipeline() -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/flipbook");
    let (_, device, _) = &support::devices()[1];
    VideoPipeline::load(device.clone(), &folder, WeightFormat::F16).expect("the shipped model loads")
}

/// A disc that moves over a shaded ground: nothing the model knows.
fn clip(frames: usize, colour: [u8; 3]) -> Vec<Vec<u8>> {
    let pixel = |t: usize, at: usize| {
        let (y, x) = (at / SIDE, at % SIDE);
        let (cy, cx) = (32.0, 20.0 + t as f32);
        let inside = (y as f32 - cy).powi(2) + (x as f32 - cx).powi(2) < 225.0;
        let [r, g, b] = if inside { colour } else { [(2 * x + 60) as u8, 120, (2 * y + 60) as u8] };
        [r, g, b, 255]
    };
    (0..frames).map(|t| (0..SIDE * SIDE).flat_map(|at| pixel(t, at)).collect()).collect()
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / error.max(1e-9)).log10()
}

/// The same clip, the other way round.
fn reversed(plan: &FramePlan) -> FramePlan {
    let turn = |source: SourceFrame| SourceFrame { group: -1 - source.group, ..source };
    let frames = plan.frames.iter().rev().map(|frame| LatentFrame { source: frame.source.map(turn), ..*frame }).collect();
    FramePlan { frames, joints: Joints { before: plan.joints.after, after: plan.joints.before }, keyframes: plan.keyframes.clone() }
}

#[test]
fn extending_forward_is_extending_backward_in_reverse() {
    for (frames, overlap, noise) in [(5, 1, CLEAN), (5, 2, CLEAN), (9, 4, 300)] {
        let [forward, backward] = [Direction::Forward, Direction::Backward].map(|to| extend(frames, overlap, to, noise).expect("possible"));
        assert_eq!(reversed(&forward), backward, "{frames} latent frames, {overlap} of them given under {noise}");
        assert_ne!(forward, backward, "they are not the same");
        assert_eq!(reversed(&reversed(&forward)), forward, "and twice turned it is what it was");
    }
}

#[test]
fn given_frames_come_back_in_every_task() {
    let pipeline = pipeline();
    let (red, green) = (clip(17, [220, 40, 40]), clip(17, [40, 200, 60]));
    let still = |frames: &[Vec<u8>]| vec![frames[0].clone()];
    let cancel = CancelToken::default();
    let tasks: [(&str, FramePlan, Vec<SourceClip>); 7] = [
        ("image to video", support::images_at(5, &[0]), vec![still(&red)]),
        ("last frame", support::images_at(5, &[4]), vec![still(&red)]),
        ("first and last", support::images_at(5, &[0, 4]), vec![still(&red), still(&green)]),
        ("forward", extend(5, 2, Direction::Forward, CLEAN).expect("possible"), vec![red.clone()]),
        ("backward", extend(5, 2, Direction::Backward, CLEAN).expect("possible"), vec![red.clone()]),
        ("connect", connect(5, [2, 2], CLEAN).expect("possible"), vec![red.clone(), green]),
        ("loop", repeat(5, [2, 2], CLEAN).expect("possible"), vec![red]),
    ];
    for (name, plan, sources) in tasks {
        let lengths: Vec<usize> = sources.iter().map(Vec::len).collect();
        let segments = plan.segments(4, &lengths).expect("long enough");
        let request = GenerateRequest {
            width: SIDE,
            height: SIDE,
            steps: 4,
            // Without joints, where the source's own frames would fade in.
            conditioning: Conditioning::new(sources.clone(), FramePlan { joints: Joints::default(), ..plan }),
            ..pipeline.request("a rocket flying on a blue background")
        };
        let made = pollster::block_on(pipeline.generate(&request, &cancel, &mut |_| {})).expect("generates");
        let [_, channels, frames, height, width] = made.latents_shape;
        let decoded = &made.frames[made.decoded.clone()];
        for segment in &segments {
            let given: Vec<&[u8]> = segment.clip_frames.iter().map(|i| sources[segment.clip][*i].as_slice()).collect();
            let (latents, own) = pollster::block_on(pipeline.encode(&given, SIDE, SIDE, &cancel)).expect("encodes");
            let area = height * width;
            for channel in 0..channels {
                let from = (channel * own.grid[0] + segment.lead) * area;
                let to = (channel * frames + segment.latent_frames.start) * area;
                let count = segment.latent_frames.len() * area;
                assert!(latents[from..from + count] == made.latents[to..to + count], "{name}: latents of {:?}", segment.latent_frames);
            }
            let round_trip = pollster::block_on(pipeline.decode(&latents, own, &cancel)).expect("decodes");
            let timeline = pipeline.timeline(request.frames).expect("possible");
            let first = timeline.span(segment.latent_frames.start).start;
            for (i, frame) in round_trip[segment.lead..].iter().enumerate() {
                let found = psnr(frame, &decoded[first + i]);
                assert!(found >= 40.0, "{name}: frame {} is {found:.1} dB from its round trip", first + i);
            }
        }
    }
}

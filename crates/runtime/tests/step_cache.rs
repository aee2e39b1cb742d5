//! A step cache asks the model less often, and changes nothing where every step is computed.

mod support;

use std::path::Path;

use kinora_runtime::{CancelToken, Device, Event, GenerateRequest, Generated, VideoPipeline, WeightFormat};

fn load(device: &Device) -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    VideoPipeline::load(device.clone(), &folder, WeightFormat::F32).expect("the tiny model loads")
}

/// The clip, and the steps that were not computed.
fn make(pipeline: &VideoPipeline, request: &GenerateRequest) -> (Generated, Vec<usize>) {
    let mut steps = Vec::new();
    let on_event = &mut |event| steps.extend(if let Event::Step { step, reused: true, .. } = event { Some(step) } else { None });
    let clip = pollster::block_on(pipeline.generate(request, &CancelToken::default(), on_event)).expect("generates");
    (clip, steps)
}

#[test]
fn steps_are_reused_and_the_rest_is_as_before() {
    for (name, device, _) in support::devices() {
        let pipeline = load(device);
        for (guidance, sampler) in [(1.0, None), (3.0, None), (1.0, Some("unipc"))] {
            let sampler = sampler.map(str::to_owned);
            let request = GenerateRequest { frames: 5, steps: 12, guidance: guidance.into(), sampler, ..pipeline.request("water") };
            let (whole, none) = make(&pipeline, &request);
            let (all, nothing) = make(&pipeline, &GenerateRequest { step_cache: Some(0.0), ..request.clone() });
            assert!(none.is_empty() && nothing.is_empty() && all == whole, "{name}, {guidance}: other bits with all steps computed");
            let cached = GenerateRequest { step_cache: Some(1.0), ..request.clone() };
            let (clip, reused) = make(&pipeline, &cached);
            assert!(!reused.is_empty() && reused.len() < 10, "{name}, {guidance}: {reused:?} of 12");
            assert!(clip.latents != whole.latents, "{name}, {guidance}: nothing changed");
            let error = support::nmse(&clip.latents, &whole.latents);
            assert!(error < 0.1, "{name}, {guidance}: {error:e} from the whole run, {reused:?} of 12 reused");
            let made = pipeline.executables_made();
            assert!(make(&pipeline, &cached).0 == clip, "{name}, {guidance}: other bits the second time");
            assert_eq!(pipeline.executables_made(), made, "{name}, {guidance}: nothing new");
        }
    }
}

#[test]
fn clips_with_a_step_cache_are_the_same_side_by_side() {
    let pipeline = load(&Device::cpu());
    let of = |seed| GenerateRequest { frames: 5, steps: 8, seed, step_cache: Some(0.1), ..pipeline.request("water") };
    let requests = [of(1), of(2)];
    let many = pollster::block_on(pipeline.generate_many(&requests, &CancelToken::default(), &mut |_, _| ()));
    for (request, clip) in requests.iter().zip(many.expect("generates")) {
        assert!(make(&pipeline, request).0 == clip.expect("a clip"), "seed {}: another clip alone", request.seed);
    }
}

#[test]
fn few_steps_are_refused() {
    let pipeline = load(&Device::cpu());
    let request = GenerateRequest { frames: 5, steps: 7, step_cache: Some(0.1), ..pipeline.request("water") };
    let error = pipeline.validate(&request).expect_err("seven steps");
    assert!(error.to_string().contains("8 steps or more"), "{error}");
}

//! Generations of different shapes in one packed sequence: each gets what it would get alone.

mod support;

use std::path::Path;

use kinora_runtime::conditioning::Conditioning;
use kinora_runtime::{CancelToken, Device, GenerateRequest, Generated, VideoPipeline, WeightFormat};

fn load(device: &Device) -> VideoPipeline {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
    VideoPipeline::load(device.clone(), &folder, WeightFormat::F32).expect("the tiny model loads")
}

/// Wide to tall, with and without guidance, one of them rescaled, with an image, with fewer steps, and a still.
fn mixture(pipeline: &VideoPipeline) -> Vec<GenerateRequest> {
    let shapes = [(64, 32, 5, 1.0), (32, 64, 9, 2.5), (32, 32, 5, 3.0), (64, 64, 1, 1.0), (32, 32, 9, 1.0), (32, 96, 5, 2.0)];
    let mut requests: Vec<GenerateRequest> = shapes
        .into_iter()
        .enumerate()
        .map(|(i, (width, height, frames, scale))| GenerateRequest {
            width,
            height,
            frames,
            guidance: f32::into(scale),
            seed: i as u64,
            ..pipeline.request(["a red fox", "water", "a small house in the rain"][i % 3])
        })
        .collect();
    let image = vec![vec![(0..32 * 32 * 4).map(|at| at as u8 | 3).collect()]];
    requests[2].conditioning = Conditioning::new(image, support::images_at(2, &[0]));
    requests[2].guidance.rescale = 0.7;
    requests[4].steps = 4;
    requests
}

fn many(pipeline: &VideoPipeline, requests: &[GenerateRequest]) -> Vec<kinora_runtime::Result<Generated>> {
    pollster::block_on(pipeline.generate_many(requests, &CancelToken::default(), &mut |_, _| {})).expect("runs")
}

#[test]
fn packed_generations_equal_those_made_alone() {
    for (name, device, _) in support::devices() {
        let pipeline = load(device);
        let mut requests = mixture(&pipeline);
        let alone = |request| pollster::block_on(pipeline.generate(request, &CancelToken::default(), &mut |_| {})).expect("generates");
        let expected: Vec<Generated> = requests.iter().map(alone).collect();
        for (i, (found, expected)) in many(&pipeline, &requests).into_iter().zip(&expected).enumerate() {
            assert!(found.expect("generates") == *expected, "{name}: generation {i} has other bits in a pack");
        }
        requests.reverse();
        for (found, expected) in many(&pipeline, &requests).into_iter().zip(expected.iter().rev()) {
            assert!(found.expect("generates") == *expected, "{name}: the order of packing matters");
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_own_sequence() {
    for (name, device, _) in support::devices() {
        let pipeline = load(device);
        let mut requests = mixture(&pipeline);
        let expected = many(&pipeline, &requests);
        // 32 × 96 × 5 pixels are 8 channels of 2 × 6 × 2 latents.
        let mut noise = vec![0.5; 8 * 2 * 6 * 2];
        noise[17] = f32::NAN;
        requests[5].latents = Some(noise);
        let found = many(&pipeline, &requests);
        let error = found[5].as_ref().expect_err("not finite");
        assert_eq!(error.code(), "non-finite", "{name}");
        assert!(error.to_string().contains("gather_rows"), "{name}: the first layer that saw it is missing: {error}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate().take(5) {
            assert!(found.as_ref().ok() == expected.as_ref().ok(), "{name}: generation {i} saw the NaN of another");
        }
    }
}

#[test]
fn an_impossible_request_does_not_stop_the_others() {
    let pipeline = load(&Device::cpu());
    let mut requests = vec![pipeline.request("a"), pipeline.request("b")];
    requests[0].width = 33;
    let found = many(&pipeline, &requests);
    assert_eq!(found[0].as_ref().map_err(|e| e.code()).err(), Some("invalid-request"), "named");
    assert!(found[1].is_ok(), "made");
    assert!(many(&pipeline, &[]).is_empty(), "nothing to make");
}

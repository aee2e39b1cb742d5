//! Wan from prompt to latents against `WanPipeline` of diffusers: text rule, schedule, guidance, experts and timesteps at once.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::Value;
use support::{ModelFolder, golden, nmse};

fn tensor(kind: &str, case: &str) -> Vec<f32> {
    let file = Checkpoint::open(golden().join(format!("wan_pipeline/{kind}_{case}.safetensors"))).expect("a fixture");
    file.f32("latents", &[1, 6, 3, 2, 4]).expect("latents")
}

#[test]
fn latents_are_those_of_the_reference() {
    let cases: Value = serde_json::from_slice(&std::fs::read(golden().join("wan_pipeline/cases.json")).expect("a fixture")).expect("JSON");
    for (name, case) in cases.as_object().expect("an object") {
        let folder = ModelFolder::wan(name, case);
        let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let request = GenerateRequest {
            negative: text("negative"),
            width: 32,
            height: 16,
            frames: 9,
            steps: case["steps"].as_u64().expect("a count") as usize,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            latents: Some(tensor("inputs", name)),
            ..pipeline.request(text("prompt"))
        };
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = nmse(&made.latents, &tensor("expected", name));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
        assert_eq!((made.frames.len(), made.frames.first().map(Vec::len)), (9, Some(32 * 16 * 4)), "{name}: decoded");
    }
}

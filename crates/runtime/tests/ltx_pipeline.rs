//! LTX-Video from prompt to latents against `LTXPipeline` and `LTXImageToVideoPipeline` of diffusers.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::conditioning::Conditioning;
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, images_at, nmse};

const LATENTS: [usize; 5] = [1, 6, 3, 4, 8];

fn load(cases: &Value) -> VideoPipeline {
    let index = json!({ "_class_name": "LTXPipeline", "transformer": ["diffusers", "LTXVideoTransformer3DModel"] });
    let folder = ModelFolder::with("ltx-pipeline", &index, &cases["scheduler"]);
    for part in ["transformer", "text_encoder"] {
        folder.copy(&format!("ltx_pipeline/{part}"), part);
    }
    folder.copy("ltx_vae/v090", "vae");
    VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).expect("loads")
}

#[test]
fn latents_are_those_of_the_reference() {
    let cases: Value = serde_json::from_slice(&std::fs::read(golden().join("ltx_pipeline/cases.json")).expect("a fixture")).expect("JSON");
    let pipeline = load(&cases);
    for (name, case) in cases["cases"].as_object().expect("an object") {
        let open = |kind: &str| Checkpoint::open(golden().join(format!("ltx_pipeline/{kind}_{name}.safetensors"))).expect("a fixture");
        let (inputs, expected) = (open("inputs"), open("expected"));
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let image = inputs.get("image").ok().map(|view| view.to_f32().iter().map(|v| *v as u8).collect::<Vec<u8>>());
        let conditioning = image.map_or_else(Conditioning::default, |image| Conditioning::new(vec![vec![image]], images_at(3, &[0])));
        let request = GenerateRequest {
            negative: text("negative"),
            width: 64,
            height: 32,
            frames: 9,
            steps: case["steps"].as_u64().expect("a count") as usize,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            latents: Some(inputs.f32("latents", &LATENTS).expect("latents")),
            conditioning,
            ..pipeline.request(text("prompt"))
        };
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let error = nmse(&made.unwrap_or_else(|e| panic!("{name}: {e}")).latents, &expected.f32("latents", &LATENTS).expect("latents"));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
    }
}

//! VACE from prompt and clip to latents against `WanVACEPipeline` of diffusers: text alone, images at both ends, a clip that goes on, a
//! region that is painted, references of what is to appear.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::conditioning::tasks::{edit, extend};
use kinora_runtime::conditioning::{CLEAN, Conditioning, Direction, Mask, PURE_NOISE};
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, nmse};

const HEIGHT: usize = 16;
const WIDTH: usize = 32;
const FRAMES: usize = 9;

fn load(case: &Value, name: &str) -> (ModelFolder, VideoPipeline) {
    let mut index = json!({ "_class_name": "WanVACEPipeline", "transformer": ["diffusers", "WanVACETransformer3DModel"] });
    if let Some(scale) = case.get("conditioning_scale") {
        index["kinora"] = json!({ "conditioning_scale": scale });
    }
    let folder = ModelFolder::with(&format!("wan-vace-{name}"), &index, &case["scheduler"]);
    for (from, to) in [("wan_vace/transformer", "transformer"), ("wan_pipeline/text_encoder", "text_encoder"), ("wan_vae/v21", "vae")] {
        folder.copy(from, to);
    }
    let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
    (folder, pipeline)
}

/// The request of a case.
fn request(name: &str, case: &Value, pipeline: &VideoPipeline) -> GenerateRequest {
    let file = Checkpoint::open(golden().join(format!("wan_vace_pipeline/inputs_{name}.safetensors"))).expect("a fixture");
    let bytes = |name: &str, frames: usize| -> Vec<Vec<u8>> {
        let all: Vec<u8> = file.get(name).expect("a clip").to_f32().iter().map(|v| *v as u8).collect();
        all.chunks_exact(all.len() / frames).map(<[u8]>::to_vec).collect()
    };
    let clip = bytes("clip", FRAMES);
    let conditioning = match name {
        "references" => {
            let ends = Conditioning::new([0, 8].map(|frame| vec![clip[frame].clone()]).to_vec(), support::images_at(3, &[0, 2]));
            Conditioning { references: clip[2..4].to_vec(), ..ends }
        }
        "both_ends" | "scaled" => Conditioning::new([0, 8].map(|frame| vec![clip[frame].clone()]).to_vec(), support::images_at(3, &[0, 2])),
        "extend" => Conditioning::new(vec![clip[..5].to_vec()], extend(3, 2, Direction::Forward, CLEAN).expect("possible")),
        "region" => {
            let mask = Some(Mask { frames: bytes("mask", FRAMES), noise: PURE_NOISE });
            Conditioning { mask, ..Conditioning::new(vec![clip], edit(3, CLEAN).expect("possible")) }
        }
        _ => Conditioning::default(),
    };
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    GenerateRequest {
        negative: text("negative"),
        width: WIDTH,
        height: HEIGHT,
        frames: FRAMES,
        steps: case["steps"].as_u64().expect("a count") as usize,
        guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
        latents: Some(file.f32("latents", &[1, 6, 3, 2, 4]).expect("latents")),
        conditioning,
        conditioning_scale: case.get("scale").and_then(Value::as_f64).map(|scale| scale as f32),
        preview_every: 2,
        ..pipeline.request(text("prompt"))
    }
}

#[test]
fn scales_that_fit_no_layer_are_refused() {
    let index = json!({ "_class_name": "WanVACEPipeline", "kinora": { "conditioning_scale": [1.0, 1.0, 1.0] } });
    let folder = ModelFolder::with("wan-vace-scales", &index, &json!({ "_class_name": "UniPCMultistepScheduler" }));
    folder.copy("wan_vace/transformer", "transformer");
    let error = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).err().expect("three scales for two layers");
    assert_eq!(error.code(), "invalid-config", "{error}");
    assert!(error.to_string().contains("`kinora.conditioning_scale`: expected a number, or 2 of them"), "{error}");
}

#[test]
fn latents_are_those_of_the_reference() {
    let json = std::fs::read(golden().join("wan_vace_pipeline/cases.json")).expect("a fixture");
    let cases: serde_json::Map<String, Value> = serde_json::from_slice(&json).expect("JSON");
    for (name, case) in &cases {
        let (_folder, pipeline) = load(case, name);
        let request = request(name, case, &pipeline);
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Checkpoint::open(golden().join(format!("wan_vace_pipeline/expected_{name}.safetensors"))).expect("a fixture");
        let error = nmse(&made.latents, &expected.f32("latents", &[1, 6, 3, 2, 4]).expect("latents"));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
        pipeline.requirements(&request).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(pipeline.packs(std::slice::from_ref(&request)), [[0]], "{name}");
        if name == "region" {
            let weaker = Mask { noise: 500, ..request.conditioning.mask.clone().expect("a mask") };
            let weaker = GenerateRequest { conditioning: Conditioning { mask: Some(weaker), ..request.conditioning.clone() }, ..request };
            let refused = pipeline.validate(&weaker).expect_err("made anew or kept, nothing between").to_string();
            assert!(refused.contains("strength"), "{refused}");
        }
    }
}

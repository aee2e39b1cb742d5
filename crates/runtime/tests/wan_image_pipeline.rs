//! Wan from pictures and a prompt to latents against `WanImageToVideoPipeline` of diffusers: channels beside the noise, pictures in the
//! context, both ends, two transformers, and a first frame that is pinned.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::conditioning::Conditioning;
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, nmse};

const EDGE: usize = 16;

fn cases() -> serde_json::Map<String, Value> {
    let json = std::fs::read(golden().join("wan_image_pipeline/cases.json")).expect("a fixture");
    serde_json::from_slice(&json).expect("JSON")
}

/// A model folder put together from fixtures.
fn folder(name: &str, case: &Value) -> ModelFolder {
    let transformer = case["transformer"].as_str().expect("a name");
    let mut experts = vec![("transformer", transformer.to_owned())];
    if case.get("boundary_ratio").is_some() {
        experts.push(("transformer_2", format!("{transformer}_2")));
    }
    let mut index = json!({ "_class_name": "WanImageToVideoPipeline", "transformer_2": [null, null] });
    for key in ["boundary_ratio", "expand_timesteps"] {
        index[key] = case.get(key).cloned().unwrap_or_default();
    }
    for (expert, _) in &experts {
        index[*expert] = json!(["diffusers", "WanTransformer3DModel"]);
    }
    let folder = ModelFolder::with(&format!("wan-image-{name}"), &index, &case["scheduler"]);
    for (expert, from) in &experts {
        folder.copy(&format!("wan_image_pipeline/{from}"), expert);
    }
    folder.copy("wan_image_pipeline/image_encoder", "image_encoder");
    folder.copy("wan_pipeline/text_encoder", "text_encoder");
    folder.copy("wan_vae/v21", "vae");
    folder
}

fn load(name: &str, case: &Value) -> (ModelFolder, VideoPipeline) {
    let folder = folder(name, case);
    let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
    (folder, pipeline)
}

/// The request of a case, given its pictures.
fn request(name: &str, case: &Value, pipeline: &VideoPipeline) -> GenerateRequest {
    let file = Checkpoint::open(golden().join(format!("wan_image_pipeline/inputs_{name}.safetensors"))).expect("a fixture");
    let picture = |name: &str| file.get(name).ok().map(|view| vec![view.to_f32().iter().map(|v| *v as u8).collect::<Vec<u8>>()]);
    let sources: Vec<_> = ["image", "last_image"].into_iter().filter_map(picture).collect();
    let places = [0, 2];
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    GenerateRequest {
        negative: text("negative"),
        width: EDGE,
        height: EDGE,
        frames: 9,
        steps: case["steps"].as_u64().expect("a count") as usize,
        guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
        latents: Some(file.f32("latents", &[1, 6, 3, 2, 2]).expect("latents")),
        conditioning: Conditioning::new(sources.clone(), support::images_at(3, &places[..sources.len()])),
        ..pipeline.request(text("prompt"))
    }
}

#[test]
fn latents_are_those_of_the_reference() {
    for (name, case) in &cases() {
        let (_folder, pipeline) = load(name, case);
        let request = request(name, case, &pipeline);
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Checkpoint::open(golden().join(format!("wan_image_pipeline/expected_{name}.safetensors"))).expect("a fixture");
        let error = nmse(&made.latents, &expected.f32("latents", &[1, 6, 3, 2, 2]).expect("latents"));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
        assert_eq!((made.frames.len(), made.frames.first().map(Vec::len)), (9, Some(EDGE * EDGE * 4)), "{name}: decoded");
        // Windows go on from the frames of the one before.
        let plan = pipeline.requirements(&request).unwrap_or_else(|e| panic!("{name}: {e}"));
        let sees = case["transformer"].as_str().is_some_and(|name| name.starts_with("seeing"));
        assert_eq!(plan.stages.iter().any(|stage| stage.name == "image encoder"), sees, "{name}: {:?}", plan.stages);
    }
}

#[test]
fn each_denoiser_of_a_run_is_foretold() {
    let case = &cases()["experts"];
    let (_folder, pipeline) = load("foretold", case);
    for (steps, denoisers) in [(1, 1), (2, 2), (5, 2)] {
        let request = GenerateRequest { steps, ..request("experts", case, &pipeline) };
        let stages = pipeline.requirements(&request).expect("possible").stages;
        assert_eq!(stages.iter().filter(|stage| stage.name == "denoiser").count(), denoisers, "{steps} steps: {stages:?}");
    }
    // Where the model changes after every step.
    let request = GenerateRequest { steps: 2, ..request("experts", case, &pipeline) };
    pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {})).expect("one step of each");
}

#[test]
fn what_a_model_needs_and_cannot_be_given_is_said() {
    let cases = cases();
    let refused = |name: &str, change: &dyn Fn(&mut GenerateRequest)| {
        let (_folder, pipeline) = load(&format!("refused-{name}"), &cases[name]);
        let mut request = request(name, &cases[name], &pipeline);
        change(&mut request);
        let validated = pipeline.validate(&request).expect_err("refused").to_string();
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        assert_eq!(made.map(|_| ()).expect_err("refused").to_string(), validated, "before anything is denoised");
        validated
    };
    let text_alone = |request: &mut GenerateRequest| request.conditioning = Conditioning::default();
    assert!(refused("channels", &text_alone).contains("an image or a clip"));
    let first_alone = |request: &mut GenerateRequest| {
        request.conditioning.sources.truncate(1);
        request.conditioning.plan = Some(support::images_at(3, &[0]));
    };
    assert!(refused("both_ends", &first_alone).contains("the first frame and the last"));
    let later = |request: &mut GenerateRequest| request.conditioning.plan = Some(support::images_at(3, &[1]));
    assert!(refused("first", &later).contains("no first frame"));
    let weaker = |request: &mut GenerateRequest| {
        let frames = &mut request.conditioning.plan.as_mut().expect("a plan").frames;
        frames[0].noise = 500;
    };
    assert!(refused("channels", &weaker).contains("strength"));
}

#[test]
fn files_that_do_not_fit_are_refused_with_the_field() {
    let cases = cases();
    let folder = folder("unfit", &cases["first"]);
    folder.copy("clip_vision/one_layer", "image_encoder");
    let error = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).err().expect("refused").to_string();
    assert!(error.contains("channels of pictures: expected the 30 channels of image_encoder, found 24"), "{error}");
}

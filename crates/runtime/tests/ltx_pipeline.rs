//! LTX-Video from prompt to latents against `LTXPipeline`, `LTXImageToVideoPipeline` and `LTXConditionPipeline` of diffusers, the last with
//! images and clips that begin later, and in two passes with `LTXLatentUpsamplePipeline`.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::conditioning::tasks::{Keyframe, extend, keyframes};
use kinora_runtime::conditioning::{Conditioning, Direction, noise_from_strength};
use kinora_runtime::events::Event;
use kinora_runtime::models::family::Doubles;
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, images_at, nmse};

const LATENTS: [usize; 5] = [1, 6, 3, 4, 8];

fn cases(folder: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden().join(folder).join("cases.json")).expect("a fixture")).expect("JSON")
}

/// The model of the fixtures, with this upsampler if there is one.
fn load(name: &str, class: &str, cases: &Value, upsampler: Option<&str>, kinora: &Value) -> kinora_runtime::Result<VideoPipeline> {
    let index = json!({ "_class_name": class, "transformer": ["diffusers", "LTXVideoTransformer3DModel"], "kinora": kinora });
    let folder = ModelFolder::with(name, &index, &cases["scheduler"]);
    for part in ["transformer", "text_encoder"] {
        folder.copy(&format!("ltx_pipeline/{part}"), part);
    }
    folder.copy("ltx_vae/v090", "vae");
    if let Some(upsampler) = upsampler {
        folder.copy(&format!("ltx_upsampler/{upsampler}"), "latent_upsampler");
    }
    VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32)
}

#[test]
fn latents_are_those_of_the_reference() {
    let cases = cases("ltx_pipeline");
    let pipeline = load("ltx-pipeline", "LTXPipeline", &cases, None, &json!({})).expect("loads");
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

/// What a case of two passes is given, in the size of each.
fn given_twice(case: &Value, pipeline: &VideoPipeline) -> Conditioning {
    let Some(places) = case["images"].as_array() else { return Conditioning::default() };
    let noise = noise_from_strength(case["strength"].as_f64().expect("a strength") as f32).expect("within range");
    let frame = |at: &Value| at.as_u64().expect("a frame") as usize;
    let keys: Vec<Keyframe> = places.iter().enumerate().map(|(clip, at)| Keyframe { frame: frame(at), clip, noise }).collect();
    let plan = keyframes(pipeline.timeline(9).expect("possible"), &keys).expect("possible");
    let sized = |scale: usize| {
        let images = (0..places.len()).map(|number| vec![picture(number, [32 * scale, 64 * scale])]).collect();
        Conditioning::new(images, plan.clone())
    };
    Conditioning { larger: Some(Box::new(sized(2))), ..sized(1) }
}

/// Stripes that the reference was given, too.
fn picture(number: usize, [height, width]: [usize; 2]) -> Vec<u8> {
    let pixel = |y: usize, x: usize| [0, 50, 100].map(|c| ((37 * number + 5 * y + 3 * x + c) % 256) as u8);
    (0..height * width).flat_map(|p| pixel(p / width, p % width).into_iter().chain([255])).collect()
}

#[test]
fn two_passes_are_those_of_the_reference() {
    let cases = cases("ltx_two_pass");
    for (name, case) in cases["cases"].as_object().expect("an object") {
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let kinora = json!({ "cascade": ["latent_upsampler"], "second_pass": case["second_pass"] });
        let upsampler = text("upsampler");
        let pipeline = load(&format!("ltx-{name}"), "LTXConditionPipeline", &cases, Some(&upsampler), &kinora).expect("loads");
        let sigmas = case["sigmas"].as_array().map(|list| list.iter().map(|v| v.as_f64().expect("a level") as f32).collect::<Vec<_>>());
        let (upscale, interpolate) = if upsampler == "time" { (1, 2) } else { (2, 1) };
        let conditioning = given_twice(case, &pipeline);
        let is_given = conditioning.plan.is_some();
        let request = GenerateRequest {
            negative: text("negative"),
            seed: case["seed"].as_u64().expect("a seed"),
            width: 64,
            height: 32,
            frames: 9,
            steps: sigmas.as_ref().map_or_else(|| case["steps"].as_u64().expect("a count") as usize, Vec::len),
            sigmas,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            upscale,
            interpolate,
            conditioning,
            ..pipeline.request(text("prompt"))
        };
        let mut steps = Vec::new();
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |event| {
            if let Event::Step { step, steps: all, .. } = event {
                steps.push([step, all]);
            }
        }));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Checkpoint::open(golden().join(format!("ltx_two_pass/expected_{name}.safetensors"))).expect("a fixture");
        let error = nmse(&made.latents, &expected.f32("latents", &made.latents_shape).expect("latents of this shape"));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
        let all = request.steps + case["second_pass"]["sigmas"].as_array().expect("levels").len();
        assert_eq!(steps, (1..=all).map(|step| [step, all]).collect::<Vec<_>>(), "{name}: one count over both passes");
        let found = (made.width, made.height, made.frames.len(), made.fps);
        assert_eq!(found, (64 * upscale, 32 * upscale, 8 * interpolate + 1, 25.0 * interpolate as f32), "{name}");
        let pixels = made.frames.iter().map(Vec::len).sum::<usize>();
        assert_eq!(pixels, 4 * made.width * made.height * made.frames.len(), "{name}: frames of that size");
        assert_eq!(pipeline.refiner(&request, if upscale > 1 { Doubles::Pixels } else { Doubles::Frames }), "model", "{name}");
        pipeline.forget_texts();
        let foreseen: Vec<&str> = pipeline.requirements(&request).expect("possible").stages.iter().map(|stage| stage.name).collect();
        let ends = ["upsampler", "denoiser"];
        assert_eq!(foreseen.iter().filter(|stage| **stage == "encoder").count(), if is_given { 2 } else { 0 }, "{name}: {foreseen:?}");
        assert_eq!(foreseen.iter().filter(|stage| ends.contains(stage)).count(), 3, "{name}: {foreseen:?}");
        let given = Conditioning::new(vec![vec![vec![90; 64 * 32 * 4]]], images_at(3, &[0]));
        let given = GenerateRequest { conditioning: given, ..request };
        assert_ne!(pipeline.refiner(&given, Doubles::Pixels), "model", "{name}: given in the size of the first pass alone");
    }
}

#[test]
fn what_begins_later_stands_beside_the_clip_as_in_the_reference() {
    let cases = cases("ltx_keyframes");
    let pipeline = load("ltx-keyframes", "LTXConditionPipeline", &cases, None, &json!({})).expect("loads");
    for (name, case) in cases["cases"].as_object().expect("an object") {
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        let picture = |at: usize| picture(at, [32, 64]);
        let noise = noise_from_strength(case["strength"].as_f64().expect("a strength") as f32).expect("within range");
        let timeline = pipeline.timeline(number("frames")).expect("possible");
        let places: Vec<usize> =
            case["images"].as_array().expect("a list").iter().map(|at| at.as_u64().expect("a frame") as usize).collect();
        let conditioning = if places.is_empty() {
            let overlap = number("overlap");
            let plan = extend(timeline.frames, overlap, Direction::Backward, noise).expect("possible");
            Conditioning::new(vec![(0..4 * overlap).map(picture).collect()], plan)
        } else {
            let keys: Vec<Keyframe> = places.iter().enumerate().map(|(clip, &frame)| Keyframe { frame, clip, noise }).collect();
            let images = (0..places.len()).map(|at| vec![picture(at)]).collect();
            Conditioning::new(images, keyframes(timeline, &keys).expect("possible"))
        };
        let request = GenerateRequest {
            negative: case["negative"].as_str().expect("a text").to_owned(),
            seed: case["seed"].as_u64().expect("a seed"),
            width: 64,
            height: 32,
            frames: number("frames"),
            steps: number("steps"),
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            preview_every: 2,
            conditioning,
            ..pipeline.request(case["prompt"].as_str().expect("a text"))
        };
        pipeline.requirements(&request).unwrap_or_else(|e| panic!("{name}: {e}"));
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = Checkpoint::open(golden().join(format!("ltx_keyframes/expected_{name}.safetensors"))).expect("a fixture");
        let error = nmse(&made.latents, &expected.f32("latents", &made.latents_shape).expect("latents of this shape"));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
    }
}

#[test]
fn stages_for_other_latents_are_refused() {
    let kinora = json!({ "cascade": ["latent_upsampler"], "second_pass": { "sigmas": [] } });
    let error = load("ltx-none", "LTXConditionPipeline", &cases("ltx_two_pass"), Some("space"), &kinora).err().expect("no levels");
    assert!(error.to_string().contains("`kinora.second_pass.sigmas`: expected levels that fall"), "{error}");
}

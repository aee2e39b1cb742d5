//! Models of images: what they refuse, and from classes to images against `DiTPipeline` of diffusers and the official loop.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::manifest::{Index, Manifest};
use kinora_runtime::models::dit::{DitConfig, TransformerConfig};
use kinora_runtime::models::layout::recognise;
use kinora_runtime::models::mdt::MdtConfig;
use kinora_runtime::models::uvit::UvitConfig;
use kinora_runtime::sampling::guidance::{Curve, Guidance};
use kinora_runtime::sampling::noise::normal;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use kinora_runtime::{CancelToken, GenerateRequest, ModelParts, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, nmse};

#[test]
fn configurations_that_cannot_run_name_the_field() {
    let found = |json: &Value| TransformerConfig::parse(&json.to_string(), "c.json").map(drop);
    assert!(found(&json!({ "out_channels": 8 })).is_ok(), "as published");
    for (field, value, expected) in [
        ("norm_type", json!("ada_norm_single"), "norm_type: expected ada_norm_zero"),
        ("activation_fn", json!("geglu"), "activation_fn: expected gelu-approximate, found geglu"),
        ("num_embeds_ada_norm", Value::Null, "num_embeds_ada_norm: expected at least 1"),
        ("out_channels", json!(6), "out_channels: expected in_channels, 4, or twice as many, found 6"),
        ("sample_size", json!(1), "sample_size: expected at least patch_size"),
        ("attention_head_dim", json!(0), "attention_head_dim"),
        ("patch_size", json!(0), "patch_size"),
    ] {
        let error = found(&json!({ field: value })).expect_err(field).to_string();
        assert!(error.contains(expected), "{field}: {error}");
    }
    for (field, value, expected) in [
        ("mlp_ratio", json!(2.0), "mlp_ratio: expected 4, found 2"),
        ("class_dropout_prob", json!(0.0), "class_dropout_prob: expected above 0"),
        ("num_classes", json!(0), "num_classes: expected at least 1"),
        ("hidden_size", json!(1150), "hidden_size: expected a multiple of num_heads, 16"),
    ] {
        let error = DitConfig::parse(&json!({ field: value }).to_string(), "c.json").expect_err(field).to_string();
        assert!(error.contains(expected), "{field}: {error}");
    }
    assert!(MdtConfig::parse("{}", "c.json").is_ok(), "as published");
    for layers in [0, 3, 28, 29] {
        let error = MdtConfig::parse(&json!({ "decode_layer": layers }).to_string(), "c.json").expect_err("no halves").to_string();
        assert!(error.contains("decode_layer: expected from 1 on, and an even number below depth, 28"), "{error}");
    }
    let uvit = |json: Value| UvitConfig::parse(&json.to_string(), "c.json").map(drop);
    assert!(uvit(json!({ "num_classes": 1001 })).is_ok() && uvit(json!({ "clip_dim": 768 })).is_ok(), "a class or a text");
    for (json, expected) in [
        (json!({}), "num_classes and clip_dim"),
        (json!({ "num_classes": 9, "clip_dim": 9 }), "num_classes and clip_dim"),
        (json!({ "num_classes": 9, "depth": 13 }), "depth: expected an even number"),
        (json!({ "num_classes": 9, "embed_dim": 100 }), "embed_dim: expected an even multiple of num_heads, 12"),
        (json!({ "num_classes": 9, "skip": false }), "skip: expected true"),
        (json!({ "num_classes": 9, "img_size": 8 }), "img_size / patch_size"),
    ] {
        let error = uvit(json).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(golden().join("dit_pipeline/cases.json")).expect("a fixture")).expect("JSON")
}

/// The model of a case of the pipeline's fixtures; neither text encoder nor tokenizer is among its files.
fn model(name: &str, transformer: &str, scheduler: &Value) -> ModelFolder {
    let folder = ModelFolder::new(&format!("dit-pipeline-{name}"));
    let index = json!({ "_class_name": "DiTPipeline", "id2label": cases()["id2label"] });
    folder.write("model_index.json", index.to_string().as_bytes());
    folder.write("scheduler/scheduler_config.json", scheduler.to_string().as_bytes());
    folder.copy(&format!("dit_transformer/{transformer}"), "transformer");
    folder.copy("kl_vae/small", "vae");
    folder
}

fn load(name: &str, case: &Value) -> (VideoPipeline, ModelFolder) {
    let folder = model(name, case["transformer"].as_str().expect("a name"), &case["scheduler"]);
    (VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}")), folder)
}

fn requests(pipeline: &VideoPipeline, case: &Value) -> Vec<GenerateRequest> {
    let channels = case["channels"].as_u64().map(|channels| channels as usize);
    let curve = case["power"].as_f64().map_or(Curve::Constant, |power| Curve::PowerCosine { power: power as f32 });
    let guidance = Guidance { channels, curve, ..Guidance::from(case["guidance"].as_f64().expect("a number") as f32) };
    let steps = case["steps"].as_u64().expect("a count") as usize;
    let prompts = case["prompts"].as_array().expect("a list").iter().enumerate();
    let request = |(seed, prompt): (usize, &Value)| GenerateRequest {
        width: 32,
        height: 32,
        steps,
        guidance,
        seed: seed as u64,
        ..pipeline.request(prompt.as_str().expect("a text"))
    };
    prompts.map(request).collect()
}

/// Latents of each image, and how far they and the images are from those of the reference.
fn error(name: &str, pipeline: &VideoPipeline, requests: &[GenerateRequest]) -> f64 {
    let made = pollster::block_on(pipeline.generate_many(requests, &CancelToken::default(), &mut |_, _| {})).expect("it runs");
    let made: Vec<_> = made.into_iter().map(|made| made.unwrap_or_else(|e| panic!("{name}: {e}"))).collect();
    let file = Checkpoint::open(golden().join(format!("dit_pipeline/expected_{name}.safetensors"))).expect("a fixture");
    let latents: Vec<f32> = made.iter().flat_map(|made| made.latents.iter().copied()).collect();
    let error = nmse(&latents, &file.f32("latents", &[made.len(), 4, 8, 8]).expect("a tensor"));
    if error < 1e-9 {
        let expected = file.f32("images", &[made.len(), 3, 32, 32]).expect("a tensor");
        for (at, value) in expected.iter().enumerate() {
            let (image, colour, pixel) = (at / 3072, at / 1024 % 3, at % 1024);
            let found = f32::from(made[image].frames[0][4 * pixel + colour]);
            let expected = (value.clamp(-1.0, 1.0) + 1.0) * 127.5;
            assert!((found - expected).abs() <= 0.51, "{name}: image {image}, pixel {pixel} is {found}, expected {expected}");
        }
    }
    error
}

#[test]
fn latents_and_images_are_those_of_the_reference() {
    let cases = cases();
    for (name, case) in cases["cases"].as_object().expect("an object") {
        let (pipeline, _folder) = load(name, case);
        let requests = requests(&pipeline, case);
        assert_eq!(pipeline.packs(&requests).len(), 1, "{name}: classes are made side by side");
        let error = error(name, &pipeline, &requests);
        println!("{name}: NMSE {error:.2e}");
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
    }
}

#[test]
fn the_fixtures_tell_three_guided_channels_from_four() {
    let cases = cases();
    for (name, channels) in [("official", None), ("all_channels", Some(3))] {
        let case = &cases["cases"][name];
        let (pipeline, _folder) = load(&format!("{name}-mutated"), case);
        let mut requests = requests(&pipeline, case);
        requests.iter_mut().for_each(|request| request.guidance.channels = channels);
        let error = error(name, &pipeline, &requests);
        assert!(error > 1e-4, "{name}: NMSE {error:.2e}");
    }
}

#[test]
fn the_two_tables_of_timesteps_are_far_apart() {
    let timesteps = [999.0];
    let (shifted, plain) =
        (kinora_runtime::nn::embed::shifted_timestep_features(&timesteps), kinora_runtime::nn::embed::timestep_features(&timesteps));
    let error = nmse(&shifted, &plain);
    assert!((0.9..1.2).contains(&error), "127 for 128 at timestep 999: NMSE {error:.2e}");
    let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-6;
    assert!(near(plain[0], 999f64.cos()) && near(plain[128], 999f64.sin()), "cosines first");
    assert!(near(plain[127], (999.0 * 10000f64.powf(-127.0 / 128.0)).cos()), "the last frequency is a step above the lowest");
    assert!(near(shifted[127], 0.0999f64.cos()), "the last frequency is the lowest");
}

#[test]
fn requests_that_make_no_image_are_refused_and_others_go_on() {
    let cases = cases();
    let (pipeline, _folder) = load("refused", &cases["cases"]["ddim"]);
    let request = |prompt: &str| GenerateRequest { width: 32, height: 32, steps: 1, ..pipeline.request(prompt) };
    let error = |request: &GenerateRequest| pipeline.validate(request).expect_err("refused").to_string();
    let clip = error(&GenerateRequest { frames: 2, ..request("hen") });
    assert!(clip.contains("frames") && clip.contains("this model makes images"), "{clip}");
    let class = error(&request("a tiger"));
    assert!(class.contains("`a tiger`") && class.contains("like `tiger shark`"), "{class}");
    let away = error(&GenerateRequest { negative: "1001".into(), ..request("hen") });
    assert!(away.contains("0 to 999"), "{away}");
    assert!(pipeline.validate(&request("")).is_ok(), "none of them");
    assert!(pipeline.requirements(&request("hen")).is_ok(), "known before");

    let requests = [request("hen"), request("a unicorn"), request("7")];
    let made = pollster::block_on(pipeline.generate_many(&requests, &CancelToken::default(), &mut |_, _| {})).expect("it runs");
    let codes: Vec<_> = made.iter().map(|made| made.as_ref().map(|made| made.frames.len()).map_err(kinora_runtime::Error::code)).collect();
    assert_eq!(codes, [Ok(1), Err("invalid-request"), Ok(1)]);
}

#[test]
fn models_that_learned_each_place_make_one_size() {
    let cases = cases();
    for (class, family) in [("MDTPipeline", "mdt"), ("UViTPipeline", "uvit/classes"), ("DiffiTPipeline", "diffit")] {
        let folder = ModelFolder::new(&format!("one-size-{class}"));
        folder.write("model_index.json", json!({ "_class_name": class }).to_string().as_bytes());
        folder.write("scheduler/scheduler_config.json", cases["cases"]["ddim"]["scheduler"].to_string().as_bytes());
        folder.copy(family, "transformer");
        folder.copy("kl_vae/small", "vae");
        let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{class}: {e}"));
        let request = |side: usize| GenerateRequest { width: side, height: side, steps: 2, ..pipeline.request("2") };
        let error = pipeline.validate(&request(16)).expect_err("another size").to_string();
        assert!(error.contains("16x16") && error.contains("32x32, the only size that this model knows"), "{class}: {error}");
        let run = |requests: &[GenerateRequest]| {
            let made = pollster::block_on(pipeline.generate_many(requests, &CancelToken::default(), &mut |_, _| {})).expect("it runs");
            made.into_iter().map(|made| made.unwrap_or_else(|e| panic!("{class}: {e}")).latents).collect::<Vec<_>>()
        };
        let other = GenerateRequest { prompt: "1".into(), seed: 5, ..request(32) };
        let both = run(&[request(32), other.clone()]);
        assert!(nmse(&both[1], &run(&[other])[0]) < 1e-12, "{class}: beside another it is what it is alone");
        assert!(nmse(&both[1], &both[0]) > 1e-3, "{class}: and differs from that");
    }
}

#[test]
fn guidance_comes_in_by_timesteps() {
    let cases = cases();
    let case = &cases["cases"]["power"];
    let (pipeline, _folder) = load("power-mutated", case);
    let mut requests = requests(&pipeline, case);
    requests.iter_mut().for_each(|request| request.guidance.curve = Curve::Constant);
    let error = error("power", &pipeline, &requests);
    assert!(error > 1e-4, "the fixture tells a curve from none: NMSE {error:.2e}");
}

#[test]
fn a_text_is_followed_too() {
    let folder = ModelFolder::new("uvit-text");
    let index = json!({ "_class_name": "UViTTextPipeline", "kinora": { "max_text_tokens": 5 } });
    folder.write("model_index.json", index.to_string().as_bytes());
    folder.write("scheduler/scheduler_config.json", cases()["cases"]["dpm"]["scheduler"].to_string().as_bytes());
    folder.write("tokenizer/tokenizer.json", &std::fs::read(golden().join("tokenizer/bpe.json")).expect("a fixture"));
    folder.copy("uvit/text", "transformer");
    folder.copy("kl_vae/small", "vae");
    // What fills up a text is at the end of CLIP's vocabulary, so that a small model has a large table.
    let config = json!({ "architectures": ["CLIPTextModel"], "hidden_size": 10, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2 });
    folder.write("text_encoder/config.json", config.to_string().as_bytes());
    let (d, inner) = (10, 12);
    let mut shapes: Vec<(String, Vec<usize>)> =
        vec![("embeddings.token_embedding.weight".into(), vec![49408, d]), ("embeddings.position_embedding.weight".into(), vec![77, d])];
    let layer = |name: &str| format!("encoder.layers.0.{name}");
    let norms = [layer("layer_norm1"), layer("layer_norm2"), "final_layer_norm".into()];
    shapes.extend(norms.iter().flat_map(|name| ["weight", "bias"].map(|kind| (format!("{name}.{kind}"), vec![d]))));
    let mut linear = |name: String, rows: usize, columns: usize| {
        shapes.extend([(format!("{name}.weight"), vec![rows, columns]), (format!("{name}.bias"), vec![rows])]);
    };
    for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        linear(layer(&format!("self_attn.{name}")), d, d);
    }
    linear(layer("mlp.fc1"), inner, d);
    linear(layer("mlp.fc2"), d, inner);
    let values: Vec<Vec<f32>> = shapes.iter().zip(1..).map(|((_, shape), seed)| normal(seed, 0, shape.iter().product())).collect();
    let tensors = shapes.iter().zip(&values).map(|((name, shape), values)| NewTensor { name, shape, values: Values::F32(values) });
    folder.write("text_encoder/model.safetensors", &to_bytes(&tensors.collect::<Vec<_>>()).expect("valid"));

    let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).expect("a model");
    let made = |prompt: &str, guidance: f32| {
        let request = GenerateRequest { width: 24, height: 24, steps: 2, guidance: guidance.into(), ..pipeline.request(prompt) };
        pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {})).expect("it runs").latents
    };
    let cat = made("a cat", 2.0);
    assert_eq!(cat, made("a cat", 2.0), "the same again");
    assert!(nmse(&made("a dog", 2.0), &cat) > 1e-4, "another text, another image");
    assert!(nmse(&made("a cat", 1.0), &cat) > 1e-4, "guided away from no text");
}

#[test]
fn single_files_need_no_text_encoder() {
    let file = |folder: &str| Checkpoint::open(golden().join(folder)).expect("a fixture");
    let (mut found, _) = recognise(&file("dit_transformer/official")).expect("known");
    let [index, _] = found.remove(0).pipeline.expect("a denoiser");
    let manifest = Manifest::of(&Index::parse(index, "model_index.json").expect("JSON")).expect("valid");
    let guided = manifest.guidance(manifest.default_guidance).channels;
    assert_eq!((manifest.default_steps, guided, manifest.default_frames), (250, Some(3), 1), "as the official sampler");
    let error = |folders: &[&str]| {
        let parts = ModelParts { weights: folders.iter().map(|folder| file(folder)).collect(), ..ModelParts::default() };
        VideoPipeline::load_with(Device::cpu(), None, parts, WeightFormat::F32).err().expect("incomplete").to_string()
    };
    let alone = error(&["dit_transformer/official"]);
    assert!(alone.contains("the autoencoder of the model"), "{alone}");
    // Tensors do not say how many channels are normalised together; those of this fixture are fewer than of any published model.
    let both = error(&["dit_transformer/official", "kl_vae/small"]);
    assert!(both.contains("norm_num_groups"), "{both}");
}

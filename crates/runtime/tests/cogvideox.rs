//! `CogVideoX`: what it refuses, how many steps a block takes, and from prompt to frames against `CogVideoXPipeline` of diffusers.

mod support;

use kinora_kernels::{Cadence, Device, Plan, WeightFormat};
use kinora_runtime::eval::eval;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::cogvideox::{Transformer, TransformerConfig, TransformerInputs, VaeConfig};
use kinora_runtime::models::component::Component;
use kinora_runtime::nn::Weights;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, nmse};

fn config(folder: &str) -> String {
    std::fs::read_to_string(golden().join(folder).join("config.json")).expect("a fixture")
}

#[test]
fn configurations_that_cannot_run_name_the_field() {
    let transformer = |json: &str| TransformerConfig::parse(json, "c.json").expect_err("cannot run").to_string();
    let vae = |json: &str| VaeConfig::parse(json, "c.json").expect_err("cannot run").to_string();
    for (json, expected) in [
        (r#"{"ofs_embed_dim": 512}"#, "ofs_embed_dim: expected null, as in text-to-video, found 512"),
        (r#"{"use_learned_positional_embeddings": true}"#, "use_learned_positional_embeddings: expected false"),
        (r#"{"use_rotary_positional_embeddings": true, "attention_head_dim": 24}"#, "attention_head_dim: expected a multiple of 16"),
        (r#"{"num_attention_heads": 3, "attention_head_dim": 20}"#, "num_attention_heads · attention_head_dim: expected a multiple of 16"),
        (r#"{"num_attention_heads": 8, "attention_head_dim": 6}"#, "attention_head_dim: expected a multiple of 4, found 6"),
        (r#"{"freq_shift": 1}"#, "freq_shift: expected 0, found 1"),
        (r#"{"flip_sin_to_cos": false}"#, "flip_sin_to_cos: expected true"),
        (r#"{"activation_fn": "geglu"}"#, "activation_fn: expected gelu-approximate, found geglu"),
        (r#"{"timestep_activation_fn": "mish"}"#, "timestep_activation_fn: expected silu, found mish"),
        (r#"{"patch_size": 0}"#, "patch_size"),
        (r#"{"sample_width": 1}"#, "sample_width and sample_height: expected at least one patch"),
        (r#"{"spatial_interpolation_scale": 0}"#, "spatial_interpolation_scale"),
    ] {
        let found = transformer(json);
        assert!(found.contains(expected), "{json}: {found}");
    }
    for (json, expected) in [
        (r#"{"use_quant_conv": true}"#, "use_quant_conv: expected false, found true"),
        (r#"{"use_post_quant_conv": true}"#, "use_post_quant_conv: expected false"),
        (r#"{"block_out_channels": [128, 100, 256, 512]}"#, "block_out_channels: expected multiples of norm_num_groups, 32"),
        (r#"{"block_out_channels": [64, 128]}"#, "down_block_types: expected CogVideoXDownBlock3D 2 times"),
        (r#"{"temporal_compression_ratio": 6}"#, "temporal_compression_ratio: expected a power of two up to 8, found 6"),
        (r#"{"temporal_compression_ratio": 16}"#, "temporal_compression_ratio: expected a power of two up to 8"),
        (r#"{"act_fn": "gelu"}"#, "act_fn: expected silu, found gelu"),
        (r#"{"scaling_factor": 0}"#, "scaling_factor: expected a number above 0"),
    ] {
        let found = vae(json);
        assert!(found.contains(expected), "{json}: {found}");
    }
}

#[test]
fn a_pipeline_refuses_a_transformer_that_sees_more_than_it_makes() {
    let index = Index::parse(r#"{"_class_name": "CogVideoXPipeline"}"#, "model_index.json").expect("valid JSON");
    let folder = "cogvideox_transformer/patches_in_time";
    let checkpoint = Checkpoint::open(golden().join(folder)).expect("a fixture");
    let loaded = Component::load(&config(folder), "config.json", &checkpoint, WeightFormat::F32, &index);
    let error = loaded.err().expect("image-to-video").to_string();
    assert!(error.contains("in_channels: expected the 3 out_channels, as in text-to-video"), "{error}");
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let error = |folder: &str, operation: &str, tensors: &[(&str, &[usize])]| {
        let checkpoint = Checkpoint::open(golden().join(folder)).expect("a fixture");
        let model = Component::load(&config(folder), "config.json", &checkpoint, WeightFormat::F32, &Index::default()).expect("valid");
        let zeros = vec![0.0; tensors.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)];
        let given: Vec<NewTensor<'_>> =
            tensors.iter().map(|&(name, shape)| NewTensor { name, shape, values: Values::F32(&zeros[..shape.iter().product()]) }).collect();
        let inputs = Checkpoint::from_files("inputs", vec![("inputs".into(), to_bytes(&given).expect("valid"))]).expect("a file");
        pollster::block_on(eval(&model, operation, &inputs, &Device::cpu())).expect_err("must be refused").to_string()
    };
    let forward = |hidden: &[usize], text: usize, timestep: &[usize]| {
        let tensors = [("hidden_states", hidden), ("encoder_hidden_states", &[1, text, 10]), ("timestep", timestep)];
        error("cogvideox_transformer/sincos", "forward", &tensors)
    };
    let odd = forward(&[1, 1, 6, 3, 4], 7, &[1]);
    assert!(odd.contains("multiples of [1, 2, 2]"), "{odd}");
    let channels_first = forward(&[1, 6, 2, 4, 4], 7, &[1]);
    assert!(channels_first.contains("hidden_states") && channels_first.contains("[1, 6, 6, 4, 4]"), "{channels_first}");
    let short = forward(&[1, 1, 6, 2, 2], 5, &[1]);
    assert!(short.contains("encoder_hidden_states") && short.contains("[1, 7, 10]"), "{short}");
    let per_token = forward(&[1, 1, 6, 2, 2], 7, &[2]);
    assert!(per_token.contains("timestep"), "{per_token}");
    let frames = error("cogvideox_vae/small", "encode", &[("x", &[1, 3, 1, 6, 4])]);
    assert!(frames.contains("height and width multiples of 4"), "{frames}");
    let latents = error("cogvideox_vae/small", "decode", &[("z", &[1, 6, 1, 2, 2])]);
    assert!(latents.contains("[1, 5, 1, 2, 2]"), "{latents}");
}

/// Steps that each block of a transformer takes with every denoising step.
fn block_steps(folder: &str) -> usize {
    let config = TransformerConfig::parse(&config(folder), "config.json").expect("a valid fixture");
    let checkpoint = Checkpoint::open(golden().join(folder)).expect("a fixture");
    let w = Weights::new(&checkpoint, WeightFormat::F32);
    let model = Transformer::load(&w, &config).expect("loads");
    let plan = Plan::new();
    let once = |name: &str, dims: &[usize]| plan.input(name, dims, Cadence::Once);
    let rotary = config.use_rotary_positional_embeddings;
    let prediction = model.forward(
        &plan,
        &TransformerInputs {
            tokens: plan.input("tokens", &[12, 24], Cadence::EveryStep),
            text: once("text", &[14, 10]),
            timestep_features: once("features", &[3, 32]),
            timestep_index: plan.index_input("index", 12, Cadence::EveryStep),
            positions: (!rotary).then(|| once("positions", &[6, 32])),
            rope: rotary.then(|| once("rope", &[13, 16])),
            token_rows: vec![6, 6],
            text_rows: vec![7, 7],
        },
    );
    plan.output("prediction", prediction);
    let graph = plan.finish().expect("valid");
    let of_block = |i: usize| {
        let prefix = format!("transformer_blocks.{i}.");
        graph.steps.iter().filter(|step| graph.cadence(step) == Cadence::EveryStep && step.label.starts_with(&prefix)).count()
    };
    assert_eq!(of_block(0), of_block(1), "blocks are alike:\n{graph}");
    of_block(0)
}

#[test]
fn a_block_takes_ten_steps_and_one_more_with_rotation() {
    // Two norms with a modulation each, a product for queries, keys and values, their norm, the attention, three products.
    assert_eq!(block_steps("cogvideox_transformer/sincos"), 10, "fixed positions");
    assert_eq!(block_steps("cogvideox_transformer/rotary"), 11, "rotary positions");
}

fn tensor(kind: &str, case: &str, name: &str, dims: &[usize]) -> Vec<f32> {
    let file = Checkpoint::open(golden().join(format!("cogvideox_pipeline/{kind}_{case}.safetensors"))).expect("a fixture");
    file.f32(name, dims).expect("a tensor")
}

#[test]
fn latents_and_frames_are_those_of_the_reference() {
    let cases = std::fs::read(golden().join("cogvideox_pipeline/cases.json")).expect("a fixture");
    let cases: Value = serde_json::from_slice(&cases).expect("JSON");
    for (name, case) in cases.as_object().expect("an object") {
        let index = json!({ "_class_name": "CogVideoXPipeline", "kinora": { "max_text_tokens": 24 } });
        let folder = ModelFolder::with(&format!("cogvideox-pipeline-{name}"), &index, &case["scheduler"]);
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        folder.copy(&format!("cogvideox_pipeline/{}", text("transformer")), "transformer");
        folder.copy("cogvideox_pipeline/text_encoder", "text_encoder");
        folder.copy("cogvideox_vae/small", "vae");
        let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
        let request = GenerateRequest {
            negative: text("negative"),
            width: 24,
            height: 16,
            frames: 9,
            steps: case["steps"].as_u64().expect("a count") as usize,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            // The reference has the frames outside the channels.
            latents: Some(exchanged(&tensor("inputs", name, "latents", &[1, 3, 5, 4, 6]), 3, 5)),
            ..pipeline.request(text("prompt"))
        };
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = nmse(&made.latents, &exchanged(&tensor("expected", name, "latents", &[1, 3, 5, 4, 6]), 3, 5));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");

        let expected = tensor("expected", name, "frames", &[1, 3, 9, 16, 24]);
        assert_eq!(made.frames.len(), 9, "{name}: decoded");
        let byte = |value: f32| (value.clamp(-1.0, 1.0) + 1.0) * 127.5;
        for (f, frame) in made.frames.iter().enumerate() {
            for (at, value) in (0..3 * 384).map(|i| (i, byte(expected[(i / 384 * 9 + f) * 384 + i % 384]))) {
                let found = f32::from(frame[4 * (at % 384) + at / 384]);
                assert!((found - value).abs() <= 0.51, "{name}: frame {f}, value {at} is {found}, expected {value}");
            }
        }
    }
}

/// `[1, A, B, ..]` → `[1, B, A, ..]`.
fn exchanged(values: &[f32], a: usize, b: usize) -> Vec<f32> {
    let inner = values.len() / (a * b);
    (0..b).flat_map(|j| (0..a).flat_map(move |i| values[(i * b + j) * inner..][..inner].iter().copied())).collect()
}

#[test]
fn an_even_number_of_latents_makes_one_frame_of_the_first() {
    let index = json!({ "_class_name": "CogVideoXPipeline", "kinora": { "max_text_tokens": 24 } });
    let scheduler = json!({ "_class_name": "CogVideoXDDIMScheduler", "prediction_type": "v_prediction" });
    let folder = ModelFolder::with("cogvideox-even", &index, &scheduler);
    folder.copy("cogvideox_pipeline/transformer_rotary", "transformer");
    folder.copy("cogvideox_pipeline/text_encoder", "text_encoder");
    folder.copy("cogvideox_vae/small", "vae");
    let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).expect("a valid model");
    let request = GenerateRequest { width: 8, height: 8, frames: 13, steps: 2, ..pipeline.request("a cat") };
    let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {})).expect("it runs");
    assert_eq!(made.frames.len(), 13, "1 + 3 · 4 frames of four latents");
    assert_eq!(made.latents_shape, [1, 5, 4, 2, 2], "of which the first is one frame");
}

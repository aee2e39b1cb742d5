//! Latte and its autoencoder: what they refuse, and from prompt to frames against `LattePipeline` of diffusers.

mod support;

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::eval::eval;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::kl::VaeConfig;
use kinora_runtime::models::latte::TransformerConfig;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{ModelFolder, golden, nmse};

#[test]
fn configurations_that_cannot_run_name_the_field() {
    let base = json!({ "in_channels": 4, "out_channels": 8, "patch_size": 2, "attention_head_dim": 72, "cross_attention_dim": 1152,
        "caption_channels": 4096, "norm_type": "ada_norm_single", "activation_fn": "gelu-approximate" });
    assert!(TransformerConfig::parse(&base.to_string(), "c.json").is_ok(), "as published");
    for (field, value, expected) in [
        ("norm_type", json!("layer_norm"), "norm_type: expected ada_norm_single"),
        ("activation_fn", json!("geglu"), "activation_fn: expected gelu-approximate, found geglu"),
        ("cross_attention_dim", json!(768), "cross_attention_dim: expected the width 1152, found 768"),
        ("cross_attention_dim", Value::Null, "cross_attention_dim: expected the width 1152, found 0"),
        ("out_channels", json!(6), "out_channels: expected in_channels, 4, or twice as many, found 6"),
        ("patch_size", json!(0), "patch_size"),
        ("sample_size", json!(1), "sample_size: expected at least patch_size"),
        ("attention_head_dim", json!(0), "attention_head_dim"),
    ] {
        let mut config = base.clone();
        config[field] = value;
        let found = TransformerConfig::parse(&config.to_string(), "c.json").expect_err(field).to_string();
        assert!(found.contains(expected), "{field}: {found}");
    }
    for (json, expected) in [
        (r#"{"down_block_types": ["AttnDownEncoderBlock2D"]}"#, "down_block_types: expected DownEncoderBlock2D 1 times"),
        (r#"{"block_out_channels": [70]}"#, "block_out_channels: expected multiples of norm_num_groups, 32, found [70]"),
        (r#"{"latents_mean": [0.5]}"#, "latents_mean: expected null"),
        (r#"{"act_fn": "gelu"}"#, "act_fn: expected silu, found gelu"),
        (r#"{"block_out_channels": [2048]}"#, "the last of block_out_channels: expected heads of"),
    ] {
        let found = VaeConfig::parse(json, "c.json").expect_err(json).to_string();
        assert!(found.contains(expected), "{json}: {found}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let error = |folder: &str, operation: &str, tensors: &[(&str, &[usize])]| {
        let config = std::fs::read_to_string(golden().join(folder).join("config.json")).expect("a fixture");
        let checkpoint = Checkpoint::open(golden().join(folder)).expect("a fixture");
        let model = Component::load(&config, "config.json", &checkpoint, WeightFormat::F32, &Index::default()).expect("valid");
        let zeros = vec![0.0; tensors.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)];
        let given: Vec<NewTensor<'_>> =
            tensors.iter().map(|&(name, shape)| NewTensor { name, shape, values: Values::F32(&zeros[..shape.iter().product()]) }).collect();
        let inputs = Checkpoint::from_files("inputs", vec![("inputs".into(), to_bytes(&given).expect("valid"))]).expect("a file");
        pollster::block_on(eval(&model, operation, &inputs, &Device::cpu())).expect_err("must be refused").to_string()
    };
    let forward = |hidden: &[usize]| {
        let tensors = [("hidden_states", hidden), ("encoder_hidden_states", &[1, 2, 10][..]), ("timestep", &[1])];
        error("latte_transformer/small", "forward", &tensors)
    };
    let odd = forward(&[1, 4, 3, 3, 4]);
    assert!(odd.contains("multiples of 2"), "{odd}");
    let frames = forward(&[1, 4, 2, 2, 2]);
    assert!(frames.contains("3 frames, the video_length, or one"), "{frames}");
    let clip = error("kl_vae/small", "decode", &[("z", &[1, 4, 1, 2, 2])]);
    assert!(clip.contains("[B, C, H, W]"), "{clip}");
    let images = error("kl_vae/small", "encode", &[("x", &[1, 3, 6, 4])]);
    assert!(images.contains("height and width multiples of 4"), "{images}");
}

fn tensor(kind: &str, case: &str, name: &str, dims: &[usize]) -> Vec<f32> {
    let file = Checkpoint::open(golden().join(format!("latte_pipeline/{kind}_{case}.safetensors"))).expect("a fixture");
    file.f32(name, dims).expect("a tensor")
}

#[test]
fn latents_and_frames_are_those_of_the_reference() {
    let cases = std::fs::read(golden().join("latte_pipeline/cases.json")).expect("a fixture");
    let cases: Value = serde_json::from_slice(&cases).expect("JSON");
    for (name, case) in cases.as_object().expect("an object") {
        let folder = ModelFolder::with(&format!("latte-pipeline-{name}"), &json!({ "_class_name": "LattePipeline" }), &case["scheduler"]);
        folder.copy("latte_transformer/small", "transformer");
        folder.copy("latte_pipeline/text_encoder", "text_encoder");
        folder.copy("kl_vae/small", "vae");
        let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let request = GenerateRequest {
            negative: text("negative"),
            width: 24,
            height: 16,
            frames: 3,
            steps: case["steps"].as_u64().expect("a count") as usize,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            latents: Some(tensor("inputs", name, "latents", &[1, 4, 3, 4, 6])),
            ..pipeline.request(text("prompt"))
        };
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = nmse(&made.latents, &tensor("expected", name, "latents", &[1, 4, 3, 4, 6]));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");

        let expected = tensor("expected", name, "frames", &[1, 3, 3, 16, 24]);
        assert_eq!(made.frames.len(), 3, "{name}: decoded");
        for (at, value) in expected.iter().enumerate() {
            let (colour, f, pixel) = (at / (3 * 384), at / 384 % 3, at % 384);
            let (found, expected) = (f32::from(made.frames[f][4 * pixel + colour]), (value.clamp(-1.0, 1.0) + 1.0) * 127.5);
            assert!((found - expected).abs() <= 0.51, "{name}: frame {f}, pixel {pixel} is {found}, expected {expected}");
        }
    }
}

//! What Wan and its text encoder refuse, and how many steps a block of the transformer takes.

mod support;

use kinora_kernels::{Cadence, Device, Plan, WeightFormat};
use kinora_runtime::eval::eval;
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::wan::{Transformer, TransformerConfig, TransformerInputs, VaeConfig};
use kinora_runtime::nn::Weights;
use kinora_runtime::weights::{Checkpoint, NewTensor, Values, to_bytes};
use kinora_runtime::{Error, Result};
use support::golden;

fn config(folder: &str) -> String {
    std::fs::read_to_string(golden().join(folder).join("config.json")).expect("a fixture")
}

/// The weights of one folder under the configuration of another.
fn load(config: &str, weights: &str) -> Result<Component> {
    let checkpoint = Checkpoint::open(golden().join(weights)).expect("a fixture");
    Component::load(config, "config.json", &checkpoint, WeightFormat::F32, &Index::default())
}

fn refused(config: &str, weights: &str) -> String {
    match load(config, weights) {
        Ok(_) => panic!("{weights} must not load"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn t5_is_not_taken_for_umt5_nor_the_other_way_round() {
    // Equal widths: only the tables of relative positions differ.
    let umt5 = refused(&config("umt5/tiny"), "t5/gated_gelu");
    assert!(umt5.contains("weights of T5EncoderModel, but UMT5EncoderModel is expected"), "{umt5}");
    let t5 = refused(&config("t5/gated_gelu"), "umt5/tiny");
    assert!(t5.contains("weights of UMT5EncoderModel, but T5EncoderModel is expected"), "{t5}");
}

#[test]
fn checkpoints_that_do_not_fit_name_the_tensor() {
    let with = |from: &str, to: &str| config("wan_transformer/t2v").replace(from, to);
    let wide = refused(&with("\"text_dim\": 20", "\"text_dim\": 21"), "wan_transformer/t2v");
    assert!(wide.contains("condition_embedder.text_embedder.linear_1.weight") && wide.contains("[32, 21]"), "{wide}");
    let deep = refused(&with("\"num_layers\": 2", "\"num_layers\": 3"), "wan_transformer/t2v");
    assert!(deep.contains("blocks.2."), "{deep}");
    let plain = refused(&config("wan_vae/v21").replace("\"is_residual\": false", "\"is_residual\": true"), "wan_vae/v21");
    assert!(plain.contains("down_blocks.0.resnets.0."), "{plain}");
}

#[test]
fn configurations_that_cannot_run_name_the_field() {
    let problem = |json: &str| TransformerConfig::parse(json, "c.json").expect_err("cannot run").to_string();
    assert!(problem(r#"{"attention_head_dim": 7}"#).contains("attention_head_dim: expected an even number"), "odd");
    assert!(problem(r#"{"num_attention_heads": 1, "attention_head_dim": 6}"#).contains("expected a multiple of 4, found 6"), "width");
    assert!(problem(r#"{"image_dim": 1280}"#).contains("added_kv_proj_dim: expected a number"), "images without keys");
    assert!(problem(r#"{"patch_size": [1, 0, 2]}"#).contains("patch_size"), "no patch");
    let problem = |json: &str| VaeConfig::parse(json, "c.json").expect_err("cannot run").to_string();
    assert!(problem(r#"{"attn_scales": [0.5]}"#).contains("attn_scales: expected []"), "attention between stages");
    assert!(problem(r#"{"temperal_downsample": [true]}"#).contains("number of temperal_downsample: expected 3, found 1"), "stages");
    assert!(problem(r#"{"temperal_downsample": [true, true, true]}"#).contains("at most two halvings of time"), "time");
    assert!(
        problem(r#"{"is_residual": true, "base_dim": 8, "dim_mult": [2, 3, 4, 7]}"#).contains("dim_mult: expected widths"),
        "shortcuts"
    );
    assert!(problem(r#"{"patch_size": 2}"#).contains("multiples of patch_size"), "colours");
}

#[test]
fn a_second_branch_has_its_blocks_in_order() {
    let problem = |json: &str| TransformerConfig::parse_vace(json, "config.json").map(|_| ()).expect_err(json).to_string();
    for layers in ["[1, 2]", "[0, 2, 1]", "[0, 40]", "[0, 0]"] {
        let found = problem(&format!(r#"{{"vace_layers": {layers}}}"#));
        assert!(found.contains("vace_layers: expected rising numbers of blocks from 0 to below 40"), "{found}");
    }
    let default = TransformerConfig::parse_vace("{}", "config.json").expect("the defaults of the class");
    assert_eq!((default.vace_layers, default.vace_in_channels), (vec![0, 5, 10, 15, 20, 25, 30, 35], 96));
    assert!(TransformerConfig::parse("{}", "config.json").expect("defaults").vace_layers.is_empty(), "another class has none");
}

#[test]
fn a_pipeline_refuses_what_only_evaluation_takes() {
    let index = Index::parse(r#"{"_class_name": "WanPipeline"}"#, "model_index.json").expect("valid JSON");
    let refused = |config: &str, folder: &str| {
        let checkpoint = Checkpoint::open(golden().join(folder)).expect("a fixture");
        let loaded = Component::load(config, "config.json", &checkpoint, WeightFormat::F32, &index);
        loaded.err().expect("no part of a text-to-video pipeline").to_string()
    };
    let images = refused(&config("wan_transformer/i2v"), "wan_transformer/i2v");
    assert!(images.contains("in_channels: expected the 4 out_channels"), "{images}");
    let statistics = refused(r#"{"_class_name": "AutoencoderKLWan", "z_dim": 6}"#, "wan_vae/v21");
    assert!(statistics.contains("latents_mean: expected one value for each of the 6 channels"), "{statistics}");
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let error = |folder: &str, tensors: &[(&str, &[usize])]| {
        let model = load(&config(folder), folder).expect("a valid fixture");
        let zeros = vec![0.0; tensors.iter().map(|(_, shape)| shape.iter().product()).max().unwrap_or(0)];
        let given: Vec<NewTensor<'_>> =
            tensors.iter().map(|&(name, shape)| NewTensor { name, shape, values: Values::F32(&zeros[..shape.iter().product()]) }).collect();
        let inputs = Checkpoint::from_files("inputs", vec![("inputs".into(), to_bytes(&given).expect("valid"))]).expect("a file");
        pollster::block_on(eval(&model, "forward", &inputs, &Device::cpu())).expect_err("must be refused").to_string()
    };
    let (text, time) = (("encoder_hidden_states", &[1, 3, 20][..]), ("timestep", &[1][..]));
    let odd = error("wan_transformer/t2v", &[("hidden_states", &[1, 3, 1, 3, 4]), text, time]);
    assert!(odd.contains("multiples of [1, 2, 2]"), "{odd}");
    let latents = ("hidden_states", &[1, 3, 1, 2, 4][..]);
    let tokens = error("wan_transformer/t2v", &[latents, text, ("timestep", &[1, 3])]);
    assert!(tokens.contains("[1] or [1, 2]"), "{tokens}");
    let images = error("wan_transformer/t2v", &[latents, text, time, ("encoder_hidden_states_image", &[1, 5, 10])]);
    assert!(images.contains("no images, since the configuration has no image_dim"), "{images}");
    let short = error(
        "wan_transformer/i2v",
        &[("hidden_states", &[1, 9, 1, 2, 2]), ("encoder_hidden_states", &[1, 3, 6]), time, ("encoder_hidden_states_image", &[1, 5, 10])],
    );
    assert!(short.contains("512 text tokens"), "{short}");
}

#[test]
fn a_block_takes_fourteen_steps() {
    let folder = golden().join("wan_transformer/t2v");
    let config = TransformerConfig::parse(&config("wan_transformer/t2v"), "config.json").expect("a valid fixture");
    let checkpoint = Checkpoint::open(&folder).expect("a fixture");
    let w = Weights::new(&checkpoint, WeightFormat::F32);
    let model = Transformer::load(&w, &config).unwrap_or_else(|e: Error| panic!("{e}"));
    let plan = Plan::new();
    let ([rows, columns], rope) = model.rope([1, 2, 3], 0);
    let velocity = model.forward(
        &plan,
        &TransformerInputs {
            tokens: plan.input("tokens", &[12, 12], Cadence::EveryStep),
            text: plan.input("text", &[6, 20], Cadence::Once),
            control: None,
            control_scale: Vec::new(),
            images: None,
            timestep_features: plan.input("timestep_features", &[3, 64], Cadence::Once),
            end_features: None,
            cache: None,
            timestep_index: plan.index_input("timestep_index", 12, Cadence::EveryStep),
            rope: plan.constant(&[rows, columns], &rope),
            token_rows: vec![6, 6],
            text_rows: vec![4, 2],
            image_rows: Vec::new(),
        },
    );
    plan.output("velocity", velocity);
    let graph = plan.finish().expect("shapes fit");
    let replayed: Vec<_> = graph.steps.iter().filter(|s| graph.cadence(s) == Cadence::EveryStep).collect();
    let block = replayed.iter().filter(|s| s.label.starts_with("blocks.1.")).count();
    // Self-attention: norm with modulation, projection, norm, rotation, attention, projection with gate. Cross-attention: norm,
    // projection, norm, attention, projection with residual; keys and values are made once. MLP: norm with modulation, two layers.
    assert_eq!(block, 14, "{graph}");
    // Beside its two blocks a step projects the tokens in, normalises and projects them out, and reorders their features.
    assert_eq!(replayed.len(), 2 * 14 + 4, "{graph}");
}

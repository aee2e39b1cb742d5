//! `kinora eval` over files: where components are found, what is written, and what is refused.

mod support;

use std::path::{Path, PathBuf};

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::eval::{EvalRequest, eval};
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::weights::{Checkpoint, DType, NewTensor, Values, to_bytes, write_file};
use kinora_runtime::{Error, Result};
use serde_json::Value;
use support::golden;

/// A scratch folder that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kinora-eval-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable temporary folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn request(model: &Path, component: Option<&str>, inputs: &Path) -> EvalRequest {
    EvalRequest {
        model: model.into(),
        component: component.map(String::from),
        operation: "forward".into(),
        inputs: inputs.into(),
        format: WeightFormat::F32,
    }
}

fn run(request: &EvalRequest, outputs: &Path) -> Result<()> {
    let (_, file) = pollster::block_on(request.run(&Device::cpu()))?;
    std::fs::write(outputs, file).expect("writable");
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("writable");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

#[test]
fn a_component_is_found_in_its_folder_and_in_a_model() {
    let scratch = Scratch::new("found");
    let bert = golden().join("bert/tiny");
    scratch.write("model_index.json", r#"{"_class_name": "LTXPipeline"}"#);
    copy_folder(&bert, &scratch.0.join("text_encoder"));
    let (inputs, outputs) = (bert.join("inputs_batch2.safetensors"), scratch.0.join("out.safetensors"));
    for (model, component) in [(&bert, None), (&bert, Some("text_encoder")), (&scratch.0, Some("text_encoder"))] {
        let _ = std::fs::remove_file(&outputs);
        run(&request(model, component, &inputs), &outputs).expect("a valid component");
        let written = Checkpoint::open(&outputs).expect("a result");
        let state = written.get("last_hidden_state").expect("the result's name");
        assert_eq!((state.dtype, state.shape), (DType::F32, [2, 13, 32].as_slice()), "as the reference returns it");
    }
    let choose = run(&request(&scratch.0, None, &inputs), &outputs).expect_err("a model has several components");
    assert!(choose.to_string().contains("invalid component: found none"), "{choose}");
    let absent = run(&request(&scratch.0, Some("vae"), &inputs), &outputs).expect_err("not in this model");
    assert!(absent.to_string().contains("component `vae` not found"), "{absent}");
}

#[test]
fn what_cannot_be_run_leaves_no_output() {
    let scratch = Scratch::new("refused");
    let bert = golden().join("bert/tiny");
    let (inputs, outputs) = (bert.join("inputs_batch2.safetensors"), scratch.0.join("out.safetensors"));
    let refused = |model: &Path, inputs: &Path| {
        let error = run(&request(model, None, inputs), &outputs).expect_err("must be refused");
        assert!(!outputs.exists(), "no output beside {error}");
        error
    };
    assert_eq!(refused(&scratch.0.join("nowhere"), &inputs).code(), "not-found", "no such folder");
    assert_eq!(refused(&scratch.0, &inputs).code(), "not-found", "a folder without a model");
    assert_eq!(refused(&bert, &scratch.0.join("none.safetensors")).code(), "not-found", "no inputs");
    scratch.write("unet/config.json", r#"{"_class_name": "UNet3DConditionModel"}"#);
    let class = refused(&scratch.0.join("unet"), &inputs);
    assert!(matches!(&class, Error::UnknownClass { class, .. } if class == "UNet3DConditionModel"), "{class}");
    scratch.write("nameless/config.json", "{}");
    assert_eq!(refused(&scratch.0.join("nameless"), &inputs).code(), "invalid-config", "no class");
    let train = EvalRequest { operation: "train".into(), ..request(&bert, None, &inputs) };
    let operation = run(&train, &outputs).expect_err("not an operation").to_string();
    assert!(operation.contains("found train, expected forward"), "{operation}");
}

/// The tiny BERT with the tensor `name` replaced.
fn bert_with(name: &str, replace: impl Fn(&mut Vec<f32>)) -> Result<Component> {
    let folder = golden().join("bert/tiny");
    let checkpoint = Checkpoint::open(&folder)?;
    let tensors: Vec<(&str, &[usize], Vec<f32>)> = checkpoint
        .names()
        .map(|n| {
            let view = checkpoint.get(n).expect("a tensor of this name");
            let mut values = view.to_f32();
            if n == name {
                replace(&mut values);
            }
            (n, view.shape, values)
        })
        .collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, shape, values)| NewTensor { name, shape, values: Values::F32(values) }).collect();
    let edited = Checkpoint::from_files("edited", vec![("edited".into(), to_bytes(&tensors)?)])?;
    let config = std::fs::read_to_string(folder.join("config.json")).expect("a fixture");
    Component::load(&config, "config.json", &edited, WeightFormat::F32, &Index::default())
}

#[test]
fn nan_is_reported_with_the_layer_that_made_it() {
    let model = bert_with("encoder.layer.1.intermediate.dense.bias", |values| values[3] = f32::NAN).expect("loads");
    let inputs = Checkpoint::open(golden().join("bert/tiny/inputs_no_types.safetensors")).expect("a fixture");
    let error = pollster::block_on(eval(&model, "forward", &inputs, &Device::cpu())).expect_err("NaN");
    assert!(error.to_string().contains("encoder.layer.1.intermediate.dense"), "{error}");
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let model = bert_with("", |_| {}).expect("loads");
    let error = |tensors: &[NewTensor<'_>]| {
        let inputs = Checkpoint::from_files("inputs", vec![("inputs".into(), to_bytes(tensors).expect("valid"))]).expect("a file");
        pollster::block_on(eval(&model, "forward", &inputs, &Device::cpu())).expect_err("must be refused").to_string()
    };
    let ids = |values: &'static [i64], shape: &'static [usize]| NewTensor { name: "input_ids", shape, values: Values::I64(values) };
    assert!(error(&[ids(&[5, 70], &[1, 2])]).contains("found 70, expected an id below 70"), "beyond the vocabulary");
    assert!(error(&[ids(&[-1], &[1, 1])]).contains("found -1"), "negative");
    assert!(error(&[ids(&[3; 49], &[1, 49])]).contains("49 tokens, expected at most 48"), "too long");
    assert!(error(&[ids(&[3], &[1])]).contains("expected [B, L]"), "one axis missing");
    assert!(error(&[]).contains("tensor `input_ids` is missing"), "no ids");
    let mask = NewTensor { name: "attention_mask", shape: &[1, 3], values: Values::F32(&[1.0; 3]) };
    assert!(error(&[ids(&[3, 4], &[1, 2]), mask]).contains("`attention_mask` has shape [1, 3], expected [1, 2]"), "mask of another length");
    let floats = NewTensor { name: "input_ids", shape: &[1, 1], values: Values::F32(&[3.0]) };
    assert!(error(&[floats]).contains("has dtype F32"), "ids as floats");
}

#[test]
fn the_scheduler_is_a_component_too() {
    let scratch = Scratch::new("scheduler");
    let rows: Value = serde_json::from_slice(&std::fs::read(golden().join("scheduler/tables.json")).expect("a fixture")).expect("JSON");
    let floats = |value: &Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap_or_default() };
    for row in rows.as_array().expect("a list") {
        scratch.write("scheduler_config.json", &row["config"].to_string());
        let arguments = &row["arguments"];
        let steps = arguments["num_inference_steps"].as_i64().map(|n| vec![n]);
        let lists = ["sigmas", "timesteps"].map(|name| (name, floats(&arguments[name])));
        let mu = arguments["mu"].as_f64().map(|mu| vec![mu as f32]);
        let mut given: Vec<NewTensor<'_>> = Vec::new();
        given.extend(steps.iter().map(|n| NewTensor { name: "num_inference_steps", shape: &[1], values: Values::I64(n) }));
        given.extend(mu.iter().map(|mu| NewTensor { name: "mu", shape: &[1], values: Values::F32(mu) }));
        let shapes = lists.each_ref().map(|(_, values)| [values.len()]);
        for ((name, values), shape) in lists.iter().zip(&shapes).filter(|((_, values), _)| !values.is_empty()) {
            given.push(NewTensor { name, shape, values: Values::F32(values) });
        }
        let (inputs, outputs) = (scratch.0.join("in.safetensors"), scratch.0.join("out.safetensors"));
        write_file(&inputs, &given).expect("writable");
        run(&request(&scratch.0, None, &inputs), &outputs).unwrap_or_else(|e| panic!("{}: {e}", row["name"]));
        let written = Checkpoint::open(&outputs).expect("a result");
        for (name, unit) in [("sigmas", 1.0), ("timesteps", 1000.0)] {
            let expected = floats(&row[name]);
            let found = written.f32(name, &[expected.len()]).expect("a table");
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= 1e-6 * unit, "{} {name}: {f} and {e}", row["name"]);
            }
        }
    }
}

//! `kinora eval` against PyTorch: the fixtures of tests/golden through the command, files in and files out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use kinora_runtime::weights::Checkpoint;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

/// A file of its own for one test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("kinora-eval-{name}-{}.safetensors", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn eval(model: &Path, inputs: &Path, outputs: &Path, more: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("eval").arg("--model").arg(model).arg("--inputs").arg(inputs).arg("--outputs").arg(outputs);
    command.args(more).output()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Σ(a − b)² / Σb² over one tensor.
fn nmse(found: &Checkpoint, expected: &Checkpoint, name: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let (a, b) = (found.get(name)?, expected.get(name)?);
    assert_eq!(a.shape, b.shape, "shape of {name}");
    let (a, b) = (a.to_f32(), b.to_f32());
    let error: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    Ok(error / b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>())
}

#[test]
fn components_agree_with_pytorch_through_files() -> Outcome {
    for (model, case, op) in [
        ("bert/tiny", "batch2", "forward"),
        ("ltx_transformer/two_layers", "per_token", "forward"),
        ("ltx_vae/default_shape", "encode_2x1x32x16", "encode"),
        ("ltx_vae/default_shape", "decode_2x1x2x1", "decode"),
    ] {
        let inputs = golden(&format!("{model}/inputs_{case}.safetensors"));
        let expected = Checkpoint::open(golden(&format!("{model}/expected_{case}.safetensors")))?;
        for (executor, limit) in [("cpu", 1e-8), ("gpu", 1e-7)] {
            let scratch = Scratch::new(&format!("{}-{case}-{executor}", model.replace('/', "-")));
            let output = eval(&golden(model), &inputs, &scratch.0, &["--op", op, "--executor", executor, "--json"])?;
            assert_eq!(output.status.code(), Some(0), "{model} {case} {executor}: {}", stderr(&output));
            let result: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            let found = Checkpoint::open(&scratch.0)?;
            for name in expected.names() {
                assert!(result["tensors"][name].is_array(), "{name} in {result}");
                let nmse = nmse(&found, &expected, name)?;
                assert!(nmse <= limit, "{model} {case} {executor}: NMSE of {name} is {nmse:e}, the limit is {limit:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_run_has_its_exit_code() -> Outcome {
    let (bert, inputs) = (golden("bert/tiny"), golden("bert/tiny/inputs_batch2.safetensors"));
    let other_inputs = golden("ltx_vae/default_shape/inputs_decode_2x1x2x1.safetensors");
    let tiny = golden("../tiny-model");
    let scratch = Scratch::new("refused");
    let nowhere = PathBuf::from("no/such/folder/out.safetensors");
    type Case<'a> = (&'a str, &'a Path, &'a Path, &'a Path, &'a [&'a str], i32);
    let cases: [Case<'_>; 7] = [
        ("no model", Path::new("nowhere"), &inputs, &scratch.0, &[], 4),
        ("no inputs", &bert, Path::new("nowhere.safetensors"), &scratch.0, &[], 4),
        ("inputs of another class", &bert, &other_inputs, &scratch.0, &[], 2),
        ("an operation the class lacks", &bert, &inputs, &scratch.0, &["--op", "decode"], 2),
        ("no component named", &tiny, &inputs, &scratch.0, &[], 2),
        ("no such component", &tiny, &inputs, &scratch.0, &["--component", "refiner"], 4),
        ("nowhere to write", &bert, &inputs, &nowhere, &[], 6),
    ];
    for (what, model, inputs, outputs, more, exit) in cases {
        let output = eval(model, inputs, outputs, &[more, &["--executor", "cpu"]].concat())?;
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{what}: {message}");
        assert!(message.starts_with("error[") && !message.contains("panicked"), "{what}: {message}");
        assert!(output.stdout.is_empty() && !outputs.exists(), "{what} left something");
    }
    Ok(())
}

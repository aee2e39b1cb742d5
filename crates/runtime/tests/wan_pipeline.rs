//! Wan from prompt to latents against `WanPipeline` of diffusers: text rule, schedule, guidance, experts and timesteps at once.

mod support;

use std::path::{Path, PathBuf};

use kinora_kernels::{Device, WeightFormat};
use kinora_runtime::weights::Checkpoint;
use kinora_runtime::{CancelToken, GenerateRequest, VideoPipeline};
use serde_json::{Value, json};
use support::{golden, nmse};

/// A model folder put together from fixtures.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, case: &Value) -> Self {
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wan-pipeline-{name}-{}", std::process::id())));
        let experts: &[&str] = if case.get("boundary_ratio").is_some() { &["transformer", "transformer_2"] } else { &["transformer"] };
        let mut index = json!({ "_class_name": "WanPipeline", "transformer_2": [null, null] });
        for key in ["boundary_ratio", "expand_timesteps"] {
            index[key] = case.get(key).cloned().unwrap_or_default();
        }
        for expert in experts {
            folder.copy(&format!("wan_pipeline/{expert}"), expert);
            index[expert] = json!(["diffusers", "WanTransformer3DModel"]);
        }
        folder.copy("wan_pipeline/text_encoder", "text_encoder");
        folder.copy("wan_vae/v21", "vae");
        folder.write("tokenizer/tokenizer.json", &std::fs::read(golden().join("tokenizer/unigram.json")).expect("a fixture"));
        folder.write("scheduler/scheduler_config.json", case["scheduler"].to_string().as_bytes());
        folder.write("model_index.json", index.to_string().as_bytes());
        folder
    }

    fn write(&self, name: &str, contents: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("writable");
        std::fs::write(path, contents).expect("writable");
    }

    /// Configuration and weights of a component.
    fn copy(&self, from: &str, to: &str) {
        for entry in std::fs::read_dir(golden().join(from)).expect("a fixture") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if name == "config.json" || name.contains("model.safetensors") {
                self.write(&format!("{to}/{name}"), &std::fs::read(&path).expect("readable"));
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tensor(kind: &str, case: &str) -> Vec<f32> {
    let file = Checkpoint::open(golden().join(format!("wan_pipeline/{kind}_{case}.safetensors"))).expect("a fixture");
    file.f32("latents", &[1, 6, 3, 2, 4]).expect("latents")
}

#[test]
fn latents_are_those_of_the_reference() {
    let cases: Value = serde_json::from_slice(&std::fs::read(golden().join("wan_pipeline/cases.json")).expect("a fixture")).expect("JSON");
    for (name, case) in cases.as_object().expect("an object") {
        let folder = Folder::new(name, case);
        let pipeline = VideoPipeline::load(Device::cpu(), &folder.0, WeightFormat::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let request = GenerateRequest {
            negative: text("negative"),
            width: 32,
            height: 16,
            frames: 9,
            steps: case["steps"].as_u64().expect("a count") as usize,
            guidance: (case["guidance"].as_f64().expect("a number") as f32).into(),
            latents: Some(tensor("inputs", name)),
            ..pipeline.request(text("prompt"))
        };
        let made = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), &mut |_| {}));
        let made = made.unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = nmse(&made.latents, &tensor("expected", name));
        println!("{name}: NMSE {error:.2e}");
        // The reference runs in f32.
        assert!(error <= 1e-9, "{name}: NMSE {error:.2e}");
        assert_eq!((made.frames.len(), made.frames.first().map(Vec::len)), (9, Some(32 * 16 * 4)), "{name}: decoded");
    }
}

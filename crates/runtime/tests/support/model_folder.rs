//! Whole models put together from fixtures.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::golden;

/// A model folder that is removed afterwards.
pub(crate) struct ModelFolder(pub(crate) PathBuf);

impl ModelFolder {
    /// An empty one; `name` is unique among the tests.
    pub(crate) fn new(name: &str) -> Self {
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id())))
    }

    /// A model of this index and scheduler, with the tokenizer of T5's fixtures.
    pub(crate) fn with(name: &str, index: &Value, scheduler: &Value) -> Self {
        let folder = Self::new(name);
        folder.write("tokenizer/tokenizer.json", &std::fs::read(golden().join("tokenizer/unigram.json")).expect("a fixture"));
        folder.write("scheduler/scheduler_config.json", scheduler.to_string().as_bytes());
        folder.write("model_index.json", index.to_string().as_bytes());
        folder
    }

    /// The Wan of a case of the pipeline's fixtures.
    pub(crate) fn wan(name: &str, case: &Value) -> Self {
        let experts: &[&str] = if case.get("boundary_ratio").is_some() { &["transformer", "transformer_2"] } else { &["transformer"] };
        let mut index = json!({ "_class_name": "WanPipeline", "transformer_2": [null, null] });
        for key in ["boundary_ratio", "expand_timesteps"] {
            index[key] = case.get(key).cloned().unwrap_or_default();
        }
        for expert in experts {
            index[expert] = json!(["diffusers", "WanTransformer3DModel"]);
        }
        let folder = Self::with(&format!("wan-pipeline-{name}"), &index, &case["scheduler"]);
        for expert in experts {
            folder.copy(&format!("wan_pipeline/{expert}"), expert);
        }
        folder.copy("wan_pipeline/text_encoder", "text_encoder");
        folder.copy("wan_vae/v21", "vae");
        folder
    }

    pub(crate) fn write(&self, name: &str, contents: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("writable");
        std::fs::write(path, contents).expect("writable");
    }

    /// Configuration and weights of a component.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        for entry in std::fs::read_dir(golden().join(from)).expect("a fixture") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if name == "config.json" || name.contains("model.safetensors") {
                self.write(&format!("{to}/{name}"), &std::fs::read(&path).expect("readable"));
            }
        }
    }
}

impl Drop for ModelFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! A Wan model folder put together from fixtures.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::golden;

/// A model folder put together from fixtures.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str, case: &Value) -> Self {
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

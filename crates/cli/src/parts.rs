//! From what `--model` and its companions name to a loaded pipeline.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kinora_runtime::{
    Device, Error, ModelParts, VideoPipeline,
    pipeline::parts::{STATES, components},
    weights::{Checkpoint, Lora, WEIGHT_FILES, is_packed, unpacked},
};
use serde_json::{Map, Value, json};

use crate::{
    args::{PartsArgs, WeightType},
    failure::{Exit, Failure},
    models, run,
};

/// Loads the model at `model`, a folder or a file, with the parts that are given.
pub(crate) fn load(device: &Device, model: &Path, given: &PartsArgs, dtype: WeightType) -> Result<VideoPipeline, Failure> {
    let folder = model.join("model_index.json").is_file().then_some(model);
    let mut parts = ModelParts::default();
    let roles = [("transformer", &given.transformer), ("vae", &given.vae), ("text_encoder", &given.text_encoder)];
    for (role, path) in roles.into_iter().filter_map(|(role, path)| Some((role, path.as_deref()?))) {
        let file = Checkpoint::open(path)?;
        if !components(&file)?.iter().any(|(folder, _)| *folder == role) {
            let message = format!("`{}` is no {role}: its tensors are those of another part of a model", path.display());
            return Err(Failure::new(Exit::Model, "wrong-part", message).hint("the flags name the part that a file is"));
        }
        parts.weights.push(file);
    }
    let files = if folder.is_some() { Vec::new() } else { weight_files(model)? };
    for path in &files {
        let file = Checkpoint::open(path)?;
        if path.ends_with(STATES) { parts.text_states = Some(file) } else { parts.weights.push(file) }
    }
    if let Some(path) = &given.text_states {
        parts.text_states = Some(Checkpoint::open(path)?);
    }
    let beside = files.iter().chain(&given.text_encoder).filter_map(|file| file.parent()).chain([model]);
    let tokenizers = beside.flat_map(|folder| ["tokenizer.json", "tokenizer/tokenizer.json"].map(|name| folder.join(name)));
    // A whole model in one file has its own.
    let whole = folder.is_some() || parts.weights.iter().any(is_packed);
    let beside = || tokenizers.into_iter().find(|path| !whole && path.is_file());
    if let Some(path) = given.tokenizer.clone().or_else(beside) {
        parts.tokenizer = Some(fs::read(&path).map_err(|error| models::broken(&path, error))?);
    }
    for lora in &given.lora {
        parts.loras.push(Lora { file: Checkpoint::open(&lora.file)?, strength: lora.strength, alpha: lora.alpha });
    }
    let mut pipeline = VideoPipeline::load_with(device.clone(), folder, parts, run::weight_format(dtype)).map_err(|error| match error {
        // What is missing is said by its flag.
        Error::InvalidRequest { ref parameter, .. } if parameter == "model" => Failure::new(Exit::Model, "incomplete-model", &error)
            .hint("give the missing files by --transformer, --vae, --text-encoder and --tokenizer, or a folder that holds them"),
        other => other.into(),
    })?;
    if let Some(decoder) = &given.decoder {
        let tiny = model.join("taehv");
        pipeline.set_decoder(if decoder == Path::new("tiny") { &tiny } else { decoder }, run::weight_format(dtype))?;
    }
    Ok(pipeline)
}

/// The weight files at `model`: itself, or those in the folder and in its folders.
pub(crate) fn weight_files(model: &Path) -> Result<Vec<PathBuf>, Failure> {
    if model.is_file() {
        return Ok(vec![model.into()]);
    }
    let list = |folder: &Path| fs::read_dir(folder).map_err(|error| models::broken(folder, error));
    let mut files = Vec::new();
    for entry in list(model)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(list(&path)?.flatten().map(|entry| entry.path()));
        } else {
            files.push(path);
        }
    }
    files.retain(|path| path.is_file() && is_weight_file(path));
    files.sort();
    Ok(files)
}

/// Endings of what stands beside quantised matrices.
const BESIDE: [&str; 6] = [".scale", ".scale_weight", ".weight_scale", ".scale_input", ".input_scale", "scaled_fp8"];

/// What weight files that are no folder in diffusers layout hold, in the form of [`models::describe`].
pub(crate) fn describe(model: &Path) -> Result<Value, Failure> {
    if model.is_file()
        && let Some((file, _)) = unpacked(&Checkpoint::open(model)?)?
    {
        return describe_packed(&file, model);
    }
    let (mut described, mut size_bytes, mut pipeline) = (Map::new(), 0, Value::Null);
    for path in weight_files(model)?.into_iter().filter(|path| !path.ends_with(STATES)) {
        let file = Checkpoint::open(&path)?;
        let bytes = fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
        size_bytes += bytes;
        for (folder, found) in components(&file)? {
            let (mut parameters, mut encodings) = (0, BTreeSet::new());
            let names: Vec<&str> = found.checkpoint.names().collect();
            for name in &names {
                let entry = found.checkpoint.entry(name)?;
                // Scales and marks are no parameters.
                if entry.dtype.encoding().is_some() && !BESIDE.iter().any(|ending| name.ends_with(ending)) {
                    parameters += entry.elements() as u64;
                    encodings.insert(entry.dtype.name());
                }
            }
            let config = &found.config;
            let class = if config["_class_name"].is_null() { &config["architectures"][0] } else { &config["_class_name"] };
            if let Some([index, _]) = found.pipeline {
                pipeline = serde_json::from_str::<Value>(index).map(|mut index| index["_class_name"].take()).unwrap_or_default();
            }
            let part = json!({
                "class": class, "parameters": parameters, "sizeBytes": bytes, "tensors": names.len(), "config": config,
                "file": path.display().to_string(), "encodings": encodings,
            });
            described.insert(folder.to_owned(), part);
        }
    }
    let parameters: u64 = described.values().filter_map(|part| part["parameters"].as_u64()).sum();
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "name": name, "path": model.display().to_string(), "class": pipeline, "parameters": parameters, "sizeBytes": size_bytes,
        "components": described, "settings": Value::Null, "vocabulary": Value::Null,
    }))
}

/// A whole model in one file, in the same form.
fn describe_packed(file: &Checkpoint, path: &Path) -> Result<Value, Failure> {
    let text = |name: &str| -> Result<Value, Failure> {
        let bytes = file.get(&format!("file:{name}"))?.bytes;
        serde_json::from_slice(&bytes).map_err(|error| models::broken(path, error))
    };
    let index = text("model_index.json")?;
    let mut components = Map::new();
    for (name, entry) in index.as_object().into_iter().flatten() {
        let own = || file.names().filter(|tensor| tensor.split_once('/').is_some_and(|(folder, _)| folder == name));
        if own().next().is_some() {
            let (mut parameters, mut bytes) = (0, 0);
            for tensor in own() {
                let entry = file.entry(tensor)?;
                parameters += entry.elements() as u64;
                bytes += entry.bytes.end - entry.bytes.start;
            }
            let config = text(&format!("{name}/config.json"))?;
            let part =
                json!({ "class": entry[1], "parameters": parameters, "sizeBytes": bytes, "tensors": own().count(), "config": config });
            components.insert(name.clone(), part);
        }
    }
    let parameters: u64 = components.values().filter_map(|part| part["parameters"].as_u64()).sum();
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "name": index["kinora"]["name"].as_str().unwrap_or(&name), "path": path.display().to_string(), "class": index["_class_name"],
        "parameters": parameters, "sizeBytes": size, "components": components, "settings": index["kinora"], "vocabulary": Value::Null,
    }))
}

/// What metadata call a model with its parts and adaptations.
pub(crate) fn label(model: &str, given: &PartsArgs) -> String {
    let parts = [&given.transformer, &given.vae, &given.text_encoder].into_iter().flatten().map(|path| path.display().to_string());
    let loras = given.lora.iter().map(|lora| {
        let alpha = lora.alpha.map_or(String::new(), |alpha| format!(":{alpha}"));
        format!("{}:{}{alpha}", lora.file.display(), lora.strength)
    });
    [model.to_owned()].into_iter().chain(parts).chain(loras).collect::<Vec<_>>().join(" + ")
}

fn is_weight_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    WEIGHT_FILES.iter().any(|ending| name.ends_with(ending))
}

//! Finding models on disk and describing them. Reads headers and configuration, never weights.

use std::{
    env, fs,
    fs::File,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use kinora_runtime::manifest::{Index, Manifest};
use kinora_runtime::weights::{Checkpoint, DType};
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};
use crate::{hub, parts};

/// The model that comes with Kinora.
pub(crate) const BUILT_IN: &str = "flipbook";
/// No JSON file of a model is longer, its tokenizer's included.
const MAX_JSON_BYTES: u64 = 100_000_000;

/// The folder of a model given as a path or by name.
pub(crate) fn find(model: &str) -> Result<PathBuf, Failure> {
    let mut tried = vec![PathBuf::from(model)];
    if !model.contains(['/', '\\']) {
        tried.extend(roots().into_iter().map(|root| root.join(model)));
    }
    let named = |path: &&PathBuf| is_model(path) || (path.as_path() == Path::new(model) && is_loose(path));
    if let Some(found) = tried.iter().find(named) {
        return Ok(found.clone());
    }
    if let Some(fetched) = hub::find(model) {
        return Ok(fetched);
    }
    let looked: Vec<_> = tried.iter().map(|path| format!("`{}`", path.display())).collect();
    let message = format!("no model `{model}`: expected a folder with model_index.json, or weight files; looked at {}", looked.join(", "));
    Err(Failure::new(Exit::Model, "model-not-found", message)
        .hint("give --model DIR, set KINORA_MODELS to the folder of models, or fetch one by `kinora models pull OWNER/NAME`"))
}

/// The folder or file at a path, or the folder of a model in the roots.
pub(crate) fn place(model: &str) -> Option<PathBuf> {
    let named = roots().into_iter().map(|root| root.join(model)).filter(|_| !model.contains(['/', '\\']));
    std::iter::once(PathBuf::from(model)).chain(named).find(|path| path.exists())
}

/// Whether what a model makes by default is one frame, as far as its folder says.
pub(crate) fn makes_images(model: &str) -> bool {
    let index = find(model).ok().and_then(|folder| fs::read_to_string(folder.join("model_index.json")).ok());
    let manifest = index.and_then(|text| Manifest::of(&Index::parse(&text, "model_index.json").ok()?).ok());
    manifest.is_some_and(|manifest| manifest.default_frames == 1)
}

fn is_model(path: &Path) -> bool {
    path.join("model_index.json").is_file()
}

/// Whether there are weight files, of which a model can be put together.
fn is_loose(path: &Path) -> bool {
    path.exists() && parts::weight_files(path).is_ok_and(|files| !files.is_empty())
}

/// Folders that may hold models, in order: `$KINORA_MODELS`, then `models` beside or above this
/// program, then the checkout it was built from.
fn roots() -> Vec<PathBuf> {
    let from_environment = env::var_os("KINORA_MODELS").map(PathBuf::from);
    let program = env::current_exe().unwrap_or_default();
    let around = program.ancestors().skip(1).map(|folder| folder.join("models"));
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    from_environment.into_iter().chain(around).chain([checkout]).filter(|path| path.is_dir()).collect()
}

/// Name and folder of every model in the roots; a name found twice is the first.
pub(crate) fn list() -> Vec<(String, PathBuf)> {
    let folders = roots().into_iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let mut models: Vec<(String, PathBuf)> = Vec::new();
    for path in folders.map(|entry| entry.path()).filter(|path| is_model(path)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if models.iter().all(|(known, _)| *known != name) {
            models.push((name, path));
        }
    }
    models.extend(hub::list());
    models.sort();
    models
}

/// What `kinora models info` prints: name, components with parameters and bytes, and the vocabulary
/// if the model ships one.
pub(crate) fn describe(folder: &Path) -> Result<Value, Failure> {
    if !is_model(folder) {
        return parts::describe(folder);
    }
    let index = read_json(&folder.join("model_index.json"))?;
    let mut components = Map::new();
    for name in index.as_object().into_iter().flat_map(Map::keys).filter(|name| !name.starts_with('_')) {
        let part = folder.join(name);
        // A key is a name, not a way out of the folder.
        if is_inside(Path::new(name)) && part.is_dir() {
            components.insert(name.clone(), describe_component(&part, &index[name])?);
        }
    }
    let total = |key: &str| components.values().filter_map(|part| part[key].as_u64()).sum::<u64>();
    // What the pipeline needs beyond the components stands in one object of the index.
    let own = &index["kinora"];
    let vocabulary = vocabulary(folder)?.unwrap_or(Value::Null);
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({
        "name": own["name"].as_str().unwrap_or(&folder_name),
        "path": folder.display().to_string(),
        "class": index["_class_name"],
        "parameters": total("parameters"),
        "sizeBytes": total("sizeBytes"),
        "components": components,
        "settings": own,
        "vocabulary": vocabulary,
    }))
}

/// The words the model knows, if it lists them.
pub(crate) fn vocabulary(folder: &Path) -> Result<Option<Value>, Failure> {
    if !is_model(folder) {
        return Ok(None);
    }
    let index = read_json(&folder.join("model_index.json"))?;
    let Some(file) = index["kinora"]["vocabulary"].as_str() else { return Ok(None) };
    if !is_inside(Path::new(file)) {
        return Err(broken(&folder.join("model_index.json"), format!("vocabulary is `{file}`, expected a file inside the folder")));
    }
    read_json(&folder.join(file)).map(Some)
}

/// Whether a path of a model's file stays below its folder.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some()
}

fn describe_component(folder: &Path, entry: &Value) -> Result<Value, Failure> {
    let (mut parameters, mut size_bytes, mut tensors) = (0, 0, 0);
    let entries = fs::read_dir(folder).map_err(|error| broken(folder, error))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "safetensors")) {
        let weights = Checkpoint::open(file)?;
        // The scales of a quantised matrix are no parameters.
        let is_scale = |name: &str| {
            let matrix = name.strip_suffix(".scale").and_then(|matrix| weights.entry(matrix).ok());
            matrix.is_some_and(|matrix| matrix.dtype == DType::I8)
        };
        for name in weights.names().filter(|name| !is_scale(name)) {
            parameters += weights.entry(name)?.elements() as u64;
            tensors += 1;
        }
        size_bytes += fs::metadata(file).map(|metadata| metadata.len()).unwrap_or(0);
    }
    let config = folder.join("config.json");
    let config = if config.is_file() { read_json(&config)? } else { Value::Null };
    Ok(json!({ "class": entry[1], "parameters": parameters, "sizeBytes": size_bytes, "tensors": tensors, "config": config }))
}

fn read_json(path: &Path) -> Result<Value, Failure> {
    // Devices and pipes may have no end.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(broken(path, "it is no regular file"));
    }
    let mut text = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_JSON_BYTES + 1).read_to_end(&mut text)).map_err(|error| broken(path, error))?;
    if read as u64 > MAX_JSON_BYTES {
        return Err(broken(path, format!("it is longer than {MAX_JSON_BYTES} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| broken(path, error))
}

pub(crate) fn broken(path: &Path, error: impl std::fmt::Display) -> Failure {
    let message = format!("cannot read `{}`: {error}", path.display());
    Failure::new(Exit::Model, "model-broken", message).hint("fetch the model again")
}

/// The same as [`describe`], for people.
pub(crate) fn text(info: &Value) -> String {
    let millions = |value: &Value| value.as_f64().unwrap_or(0.0) / 1e6;
    let mut lines = vec![
        format!("{}: {}", info["name"].as_str().unwrap_or("?"), info["class"].as_str().unwrap_or("unknown class")),
        format!("  path        {}", info["path"].as_str().unwrap_or("?")),
        format!("  parameters  {:.1} M, {:.1} MB on disk", millions(&info["parameters"]), millions(&info["sizeBytes"])),
    ];
    for (name, part) in info["components"].as_object().into_iter().flatten() {
        let class = part["class"].as_str().unwrap_or("unknown class");
        let size = if part["tensors"] == 0 { String::new() } else { format!(", {:.1} M", millions(&part["parameters"])) };
        lines.push(format!("  {name:<13} {class}{size}"));
    }
    let settings = &info["settings"];
    if settings.is_object() {
        let default = |key: &str| settings[key].as_f64().map_or("?".to_owned(), |value| value.to_string());
        lines.push(format!(
            "  by default  {} frames of {}x{} at {} fps, {} steps, guidance {}",
            default("default_frames"),
            default("default_width"),
            default("default_height"),
            default("fps"),
            default("default_steps"),
            default("default_guidance"),
        ));
    }
    let vocabulary = &info["vocabulary"];
    if let Some(template) = vocabulary["template"].as_str() {
        lines.push(format!("\nPrompts like: {template}"));
    }
    if let Some(colors) = vocabulary["colors"].as_array() {
        let colors: Vec<_> = colors.iter().filter_map(Value::as_str).collect();
        lines.push(format!("\nColors: {}", colors.join(", ")));
    }
    if let Some(objects) = vocabulary["objects"].as_array() {
        lines.push(format!("\n{} objects, each with its synonyms and motions:", objects.len()));
        lines.extend(objects.iter().map(object_line));
    }
    lines.join("\n")
}

fn object_line(object: &Value) -> String {
    let words = |key: &str| {
        let words = object[key].as_array().map(|words| words.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        words.unwrap_or_default().join(", ")
    };
    let synonyms = words("synonyms");
    let synonyms = if synonyms.is_empty() { synonyms } else { format!(" ({synonyms})") };
    format!("  {}{synonyms}: {}", object["name"].as_str().unwrap_or("?"), words("motions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_one_frame_make_images() {
        assert!(!makes_images(BUILT_IN) && !makes_images("no such model"), "clips, and what is not there");
        let folder = env::temp_dir().join(format!("kinora-images-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("writable");
        fs::write(folder.join("model_index.json"), r#"{"_class_name": "DiTPipeline"}"#).expect("writable");
        let found = makes_images(&folder.display().to_string());
        fs::remove_dir_all(&folder).expect("written just now");
        assert!(found);
    }
}

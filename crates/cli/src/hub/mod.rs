//! `kinora models pull`, `verify` and `rm`: models of a hub in the cache that the Hugging Face libraries share.
//!
//! Not the crate `hf-hub`: it neither resumes by ranges nor compares what it got with the hashes that the hub lists, and its blocking
//! client is another version of `ureq` with its own TLS.

mod cache;
mod remote;

use std::{fs, time::Instant};

use serde_json::{Value, json};

use cache::Model;
pub(crate) use cache::{Cache, caches};
use remote::{Remote, RemoteFile};

use crate::{
    Report,
    args::{ConsoleArgs, PullArgs},
    failure::{Exit, Failure},
};

/// Endings of what a model never needs: pickles, other frameworks' weights, pictures and examples.
const UNWANTED: [&str; 22] = [
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".pkl",
    ".msgpack",
    ".h5",
    ".onnx",
    ".ot",
    ".tflite",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".mp4",
    ".webm",
    ".py",
    ".ipynb",
    ".gitattributes",
    ".gitignore",
    ".zip",
];

pub(crate) fn failed(code: &'static str, message: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Model, code, message)
}

/// Fetches a model, or the files of it that are named, and says where it is.
pub(crate) fn pull(args: &PullArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    let cache = Cache::open()?;
    let model = Model::parse(&args.model)?;
    if args.offline || is_set("HF_HUB_OFFLINE") {
        let Some(folder) = cache.snapshot(&model) else {
            let message = format!("`{model}` is not in the cache at `{}`", cache.root().display());
            return Err(failed("model-not-found", message).hint("pull it once without --offline"));
        };
        return Ok(Report::new(folder.as_os_str(), json!({ "model": model.to_string(), "path": folder.display().to_string() })));
    }
    let remote = Remote::from_environment();
    let listed = remote.list(&model)?;
    let wanted = choose(&listed.files, &args.file)?;
    let total: u64 = wanted.iter().map(|file| file.bytes).sum();
    let _lock = cache.lock(&model)?;
    let begun = Instant::now();
    let (mut done, mut fetched) = (0, 0);
    for file in &wanted {
        let blob = cache.blob(&model, file);
        if !blob.is_file() {
            let mut shown = Instant::now();
            let mut progress = |bytes: u64, new: u64| {
                if console.quiet || (shown.elapsed().as_secs() < 1 && bytes < file.bytes) {
                    return;
                }
                shown = Instant::now();
                eprintln!("{}", line(&file.name, done + bytes, total, fetched + new, begun));
            };
            fetched += remote.fetch(&model, &listed.commit, file, &blob, &mut progress)?;
        }
        cache.link(&model, &listed.commit, file)?;
        done += file.bytes;
    }
    // Last: a revision that is named has all its files.
    cache.point(&model, &listed.commit)?;
    let folder = cache.folder(&model).join("snapshots").join(&listed.commit);
    let json = json!({
        "model": model.to_string(), "commit": listed.commit, "path": folder.display().to_string(),
        "files": wanted.len(), "bytes": total, "fetchedBytes": fetched,
    });
    Ok(Report::new(folder.as_os_str(), json))
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// How far a download is.
fn line(name: &str, bytes: u64, total: u64, fetched: u64, begun: Instant) -> String {
    let rate = fetched as f64 / begun.elapsed().as_secs_f64().max(1e-3);
    let left = total.saturating_sub(bytes) as f64 / rate.max(1.0);
    let percent = 100.0 * bytes as f64 / total.max(1) as f64;
    format!("{percent:3.0} %  {:.1} of {:.1} MB, {:.1} MB/s, {left:.0} s left  {name}", bytes as f64 / 1e6, total as f64 / 1e6, rate / 1e6)
}

/// The files of a repository that a model needs, or those that are named.
fn choose(files: &[RemoteFile], named: &[String]) -> Result<Vec<RemoteFile>, Failure> {
    if !named.is_empty() {
        let find = |name: &String| {
            let missing = || {
                let weights: Vec<&str> = files.iter().map(|file| file.name.as_str()).filter(|name| is_weights(name)).collect();
                failed("file-not-found", format!("no file `{name}`; weights there are {}", weights.join(", ")))
            };
            files.iter().find(|file| file.name == *name).cloned().ok_or_else(missing)
        };
        return named.iter().map(find).collect();
    }
    let has = |name: &str| files.iter().any(|file| file.name == name);
    if !has("model_index.json") {
        let weights: Vec<&str> = files.iter().map(|file| file.name.as_str()).filter(|name| is_weights(name)).collect();
        let message = format!("the repository is no folder in diffusers layout; weights there are {}", weights.join(", "));
        return Err(failed("which-file", message).hint("name those you want by --file"));
    }
    let wanted = |file: &&RemoteFile| {
        let name = file.name.as_str();
        let lower = name.to_ascii_lowercase();
        let unwanted = UNWANTED.iter().any(|ending| lower.ends_with(ending));
        // Weights lie in the folders of components; a file in another precision or container beside them is not needed.
        !unwanted && (!is_weights(name) || (name.contains('/') && !is_variant(name))) && !lower.contains(".index.fp16.")
    };
    Ok(files.iter().filter(wanted).cloned().collect())
}

fn is_weights(name: &str) -> bool {
    kinora_runtime::weights::WEIGHT_FILES.iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is the same in another precision: `model.fp16.safetensors`.
fn is_variant(name: &str) -> bool {
    [".fp16", ".bf16", ".non_ema"].iter().any(|variant| name.contains(variant))
}

/// Files that a message names.
const MOST_NAMED: usize = 10;

/// Compares every file of a cached model with the hash it is named after.
pub(crate) fn verify(name: &str) -> Result<Report, Failure> {
    let cache = Cache::open()?;
    let model = Model::parse(name)?;
    let files = cache.files(&model)?;
    let (mut wrong, mut bytes) = (Vec::new(), 0);
    for (name, blob) in &files {
        let hash = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match remote::hash_of(blob, &hash) {
            Ok(found) if found == hash => bytes += fs::metadata(blob).map_or(0, |metadata| metadata.len()),
            Ok(_) => wrong.push(format!("{name} is damaged")),
            Err(error) => wrong.push(format!("{name} cannot be read: {error}")),
        }
    }
    if wrong.is_empty() {
        let text = format!("{} files of {model}, {:.1} MB, are as published", files.len(), bytes as f64 / 1e6);
        return Ok(Report::new(text, json!({ "model": model.to_string(), "files": files.len(), "bytes": bytes })));
    }
    let more = wrong.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let message = format!("{} of {} files of {model}: {}{more}", wrong.len(), files.len(), wrong[..wrong.len().min(MOST_NAMED)].join("; "));
    Err(failed("damaged-model", message).hint("remove it by `kinora models rm` and pull it again"))
}

/// Deletes a cached model.
pub(crate) fn remove(name: &str) -> Result<Report, Failure> {
    let cache = Cache::open()?;
    let model = Model::parse(name)?;
    cache.files(&model)?;
    let _lock = cache.lock(&model)?;
    let folder = cache.folder(&model);
    fs::remove_dir_all(&folder).map_err(|error| failed("cache-unwritable", format!("cannot remove `{}`: {error}", folder.display())))?;
    Ok(Report::new(format!("removed {model}"), json!({ "model": model.to_string(), "removed": folder.display().to_string() })))
}

/// Name and folder of every cached model that can be run.
pub(crate) fn list() -> Vec<(String, std::path::PathBuf)> {
    let Ok(cache) = Cache::open() else { return Vec::new() };
    cache.models().into_iter().filter_map(|model| Some((model.to_string(), cache.snapshot(&model)?))).collect()
}

/// The folder of a cached model called so, if it is there.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    Cache::open().ok()?.snapshot(&Model::parse(name).ok()?)
}

/// A value of a JSON answer.
fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value[key].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_fetched_without_what_it_does_not_need() {
        let names = [
            "model_index.json",
            "README.md",
            "preview.png",
            "transformer/config.json",
            "transformer/a.safetensors",
            "transformer/a.fp16.safetensors",
            "transformer/a.safetensors.index.json",
            "transformer/a.safetensors.index.fp16.json",
            "vae/pytorch_model.bin",
            "all.safetensors",
            "tokenizer/tokenizer.json",
            "tokenizer/spiece.model",
        ];
        let files = names.map(|name| RemoteFile { name: name.into(), bytes: 1, hash: "0".repeat(64) });
        let chosen = |files: &[RemoteFile], named: &[&str]| {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            choose(files, &named).map(|files| files.into_iter().map(|file| file.name).collect::<Vec<_>>())
        };
        let all = chosen(&files, &[]).expect("a model");
        assert_eq!(
            all,
            [
                "model_index.json",
                "README.md",
                "transformer/config.json",
                "transformer/a.safetensors",
                "transformer/a.safetensors.index.json",
                "tokenizer/tokenizer.json",
                "tokenizer/spiece.model"
            ]
        );
        assert_eq!(chosen(&files, &["all.safetensors"]).expect("named"), ["all.safetensors"]);
        let error = chosen(&files[1..], &[]).expect_err("no index");
        assert!(error.code == "which-file" && error.message.contains("all.safetensors"), "{error:?}");
        assert!(chosen(&files, &["x.gguf"]).is_err(), "absent");
    }
}

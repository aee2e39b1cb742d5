//! `kinora doctor`: what this machine offers, and what is missing.

use kinora_media::find_ffmpeg;
use serde_json::{Value, json};

use crate::{
    Report,
    failure::{Exit, Failure},
    models, run,
};

pub(crate) fn doctor() -> Result<Report, Failure> {
    let adapters = run::adapters();
    let ffmpeg = find_ffmpeg();
    let models = models::list();
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": adapters,
        "ffmpeg": ffmpeg,
        "models": models.iter().map(|(name, path)| json!({ "name": name, "path": path })).collect::<Vec<_>>(),
    });
    let mut lines = vec![format!("kinora {}", env!("CARGO_PKG_VERSION"))];
    lines.extend(adapters.iter().enumerate().map(|(index, adapter)| format!("adapter {index}  {}", adapter_line(adapter))));
    lines.push(match &ffmpeg {
        Some(path) => format!("ffmpeg     {}", path.display()),
        None => "ffmpeg     not found or without H.264: .mp4 files will be large".to_owned(),
    });
    lines.extend(models.iter().map(|(name, path)| format!("model      {name} in {}", path.display())));
    if models.is_empty() {
        lines.push("model      none found: set KINORA_MODELS to the folder of models".to_owned());
    }
    if adapters.is_empty() {
        return Err(Failure::new(Exit::NoGpu, "no-adapter", format!("no GPU adapter found\n{}", lines.join("\n")))
            .hint("install a Vulkan driver (Debian: mesa-vulkan-drivers), or run with --executor cpu"));
    }
    Ok(Report { text: lines.join("\n"), json })
}

/// `name (backend, kind): driver`, software adapters marked by their kind.
fn adapter_line(adapter: &Value) -> String {
    let text = |key: &str| adapter[key].as_str().unwrap_or("?");
    format!("{} ({}, {}): {}", text("name"), text("backend"), text("kind"), text("driver"))
}

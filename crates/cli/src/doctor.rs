//! `kinora doctor`: what this machine offers, and what is missing.

use kinora_media::find_ffmpeg;
use kinora_runtime::AdapterInfo;
use serde_json::{Value, json};

use crate::{
    Report,
    failure::{Exit, Failure},
    models, named, run,
};

pub(crate) fn doctor() -> Result<Report, Failure> {
    let adapters = run::adapters();
    // One that hangs is reported, not waited for.
    let (ffmpeg, problem) = match find_ffmpeg() {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let models = models::list();
    let json = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": adapters.iter().map(to_json).collect::<Vec<_>>(),
        "ffmpeg": ffmpeg.as_ref().map(|path| path.display().to_string()),
        "ffmpegProblem": problem,
        "models": models.iter().map(|(name, path)| named(name, path)).collect::<Vec<_>>(),
    });
    let mut lines = vec![format!("kinora {}", env!("CARGO_PKG_VERSION"))];
    for (index, adapter) in adapters.iter().enumerate() {
        let AdapterInfo { name, backend, device_type, driver, .. } = adapter;
        lines.push(format!("adapter {index}  {name} ({backend}, {device_type}), {driver}"));
    }
    lines.push(match (&ffmpeg, &problem) {
        (Some(path), _) => format!("ffmpeg     {}", path.display()),
        (None, Some(problem)) => format!("ffmpeg     {problem}"),
        (None, None) => "ffmpeg     not found or without H.264: .mp4 files will be large".to_owned(),
    });
    lines.extend(models.iter().map(|(name, path)| format!("model      {name} in {}", path.display())));
    if models.is_empty() {
        lines.push("model      none found: set KINORA_MODELS to the folder of models".to_owned());
    }
    if adapters.is_empty() {
        return Err(Failure::new(Exit::NoGpu, "no-adapter", format!("no GPU adapter found\n{}", lines.join("\n")))
            .hint("install a Vulkan driver (Debian: mesa-vulkan-drivers), or run with --executor cpu"));
    }
    Ok(Report::new(lines.join("\n"), json))
}

fn to_json(adapter: &AdapterInfo) -> Value {
    json!({
        "name": adapter.name,
        "backend": adapter.backend,
        "deviceType": adapter.device_type,
        "driver": adapter.driver,
        "kernels": adapter.preset.name(),
        "maxBindingBytes": adapter.max_binding_bytes,
        "maxBufferBytes": adapter.max_buffer_bytes,
    })
}

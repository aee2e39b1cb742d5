//! What options come to, as text that is the same wherever they are resolved: on every target, by the command and by the package.

#![allow(dead_code, reason = "the command writes cases, browsers have no folders")]

use kinora_kernels::Device;
use kinora_runtime::conditioning::{FramePlan, Given, ImagePlace};
use kinora_runtime::request::{Draft, GenerateRequest, Options};
use kinora_runtime::sampling::guidance::Curve;
use kinora_runtime::weights::ModelFiles;
use kinora_runtime::{VideoPipeline, WeightFormat};
use serde_json::{Value, json};

/// The model of `tests/tiny-model`, which computes nothing here.
pub(crate) fn model(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<VideoPipeline, String> {
    let mut model = ModelFiles::new("the model of the tests");
    files.into_iter().for_each(|(path, bytes)| model.insert(path, bytes));
    VideoPipeline::from_files(Device::cpu(), model, WeightFormat::F32).map_err(|error| error.to_string())
}

/// Sources as a case writes them: `[[place, frames], …]` of images, and the frames of a clip.
pub(crate) fn given_as_json(given: &Given<usize>) -> Value {
    let place = |place: &ImagePlace| match place {
        ImagePlace::First => json!("first"),
        ImagePlace::Last => json!("last"),
        ImagePlace::Frame(at) => json!(at),
    };
    let images: Vec<Value> = given.images.iter().map(|(at, frames)| json!([place(at), frames])).collect();
    json!({ "images": images, "video": given.video })
}

/// What a case `{ options, given }` comes to: a request with its plan, or an error, and what was said on the way.
pub(crate) fn resolved(case: &str, pipeline: &VideoPipeline) -> Result<String, String> {
    let case: Value = serde_json::from_str(case).map_err(|error| error.to_string())?;
    let options: Options = serde_json::from_value(case["options"].clone()).map_err(|error| error.to_string())?;
    let number = |value: &Value| value.as_u64().map(|number| number as usize);
    let place = |value: &Value| match value.as_str() {
        Some("first") => ImagePlace::First,
        Some(_) => ImagePlace::Last,
        None => ImagePlace::Frame(number(value).unwrap_or_default()),
    };
    let images = case["given"]["images"].as_array().into_iter().flatten();
    let images = images.map(|image| (place(&image[0]), number(&image[1]).unwrap_or_default())).collect();
    let given = Given { images, video: number(&case["given"]["video"]), connect: None, mask: None, references: Vec::new() };
    let mut notes = Vec::new();
    let length = |frames: &usize, most: usize| Ok::<_, kinora_runtime::Error>(most.min(*frames));
    let outcome = match options.resolve(given, &length, pipeline, &mut |note| notes.push(note)) {
        Ok(Draft { request, .. }) => request_as_json(&request),
        Err(error) => json!({ "code": error.code(), "message": error.to_string() }),
    };
    Ok(json!({ "outcome": outcome, "notes": notes }).to_string())
}

fn request_as_json(request: &GenerateRequest) -> Value {
    // Every field by name, so that a new one cannot be forgotten.
    let GenerateRequest {
        prompt,
        original_prompt,
        negative,
        width,
        height,
        frames,
        fps,
        steps,
        sampler,
        sigmas,
        conditioning_scale,
        step_cache,
        guidance,
        shift,
        seed,
        latents,
        conditioning,
        long,
        preview_every,
        preview_frames: _,
        upscale,
        interpolate,
    } = request;
    let curve = match guidance.curve {
        Curve::Constant => json!("constant"),
        Curve::Linear => json!("linear"),
        Curve::PowerCosine { power } => json!(power),
    };
    let plan = conditioning.plan.as_ref().map(|FramePlan { frames, joints, .. }| {
        let frames: Vec<Value> =
            frames.iter().map(|frame| json!([frame.source.map(|source| (source.clip, source.group)), frame.noise])).collect();
        json!({ "frames": frames, "before": joints.before, "after": joints.after })
    });
    let long = long.as_ref().map(|long| json!([long.scenes, long.clip_frames, long.overlap]));
    let mut all = json!({
        "prompt": [prompt, original_prompt, negative],
        "size": [width, height, frames, upscale, interpolate],
        "fps": fps,
        "steps": steps,
        "sampler": sampler,
        "sigmas": sigmas,
        "guidance": [guidance.scale, curve, guidance.interval, guidance.channels, guidance.rescale],
        "shift": shift,
        "seed": seed,
        "latents": latents,
        "plan": plan,
        "long": long,
        "previewEvery": preview_every,
    });
    // What only models with a second branch have, and what no case of a few steps has.
    for (name, value) in [("conditioningScale", conditioning_scale), ("stepCache", step_cache)] {
        if let Some(value) = value {
            all[name] = json!(value);
        }
    }
    all
}

//! The one place that talks to the runtime: requests in, events and frames out, its errors as exit codes.

use std::{env, path::Path};

use kinora_runtime::{
    AdapterInfo, AdapterSelect, Device, Error, Preset, WeightFormat,
    eval::EvalRequest,
    sampling::guidance::{Curve, Guidance},
    weights::{Checkpoint, NewTensor, Values, to_bytes},
};
pub(crate) use kinora_runtime::{CancelToken, GenerateRequest, Generated, VideoPipeline};
use serde_json::{Value, json};

use crate::{
    args::{Aspect, CurveName, DeviceArgs, EvalArgs, Executor, GenerateArgs, GuidanceArgs, WeightType},
    failure::{Exit, Failure},
    given::Given,
    interrupt,
    progress::Event,
};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code() {
            "cancelled" => return Self::interrupted(),
            "invalid-request" | "invalid-conditioning" | "expand-failed" => Exit::Usage,
            "no-adapter" | "unsupported-kernels" => Exit::NoGpu,
            "out-of-memory" | "limit" => Exit::Memory,
            "device" | "device-lost" | "shape" | "data" => Exit::Internal,
            // Reading is part of loading a model, so what remains is a file that could not be written.
            "io" => match &error {
                Error::Io { action: "read", .. } => Exit::Model,
                _ => Exit::Output,
            },
            _ => Exit::Model,
        };
        let failure = Self::new(exit, error.code(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Opens the adapter, or the CPU twins.
pub(crate) fn open_device(args: &DeviceArgs) -> Result<Device, Failure> {
    if args.executor == Executor::Cpu {
        return Ok(Device::cpu());
    }
    let select = match args.device.as_deref() {
        None => AdapterSelect::Auto,
        Some(text) => text.parse().map_or_else(|_| AdapterSelect::Name(text.to_owned()), AdapterSelect::Index),
    };
    // For tests and comparisons: an adapter runs more kernels than those chosen for it.
    let preset = match env::var("KINORA_KERNELS").ok().filter(|name| !name.is_empty()) {
        Some(name) => Some(name.parse::<Preset>().map_err(|e| Failure::new(Exit::Usage, e.code(), format!("KINORA_KERNELS: {e}")))?),
        None => None,
    };
    Ok(pollster::block_on(Device::gpu(&select, preset)).map_err(Error::from)?)
}

fn weight_format(dtype: WeightType) -> WeightFormat {
    match dtype {
        WeightType::F32 => WeightFormat::F32,
        WeightType::F16 => WeightFormat::F16,
    }
}

pub(crate) fn load(device: &Device, folder: &Path, dtype: WeightType) -> Result<VideoPipeline, Failure> {
    Ok(VideoPipeline::load(device.clone(), folder, weight_format(dtype))?)
}

/// The model's defaults, replaced by what was asked for; `note` hears of what may surprise.
pub(crate) fn request(
    args: &GenerateArgs,
    given: &Given,
    prompt: &str,
    seed: u64,
    pipeline: &VideoPipeline,
    note: &mut dyn FnMut(String),
) -> Result<GenerateRequest, Failure> {
    let mut request = pipeline.request(prompt);
    let (width, height) = args.size.map_or((args.width, args.height), |(width, height)| (Some(width), Some(height)));
    if let Some(ratio) = args.aspect.map(Aspect::ratio) {
        [request.width, request.height] = pipeline.size_for_aspect(ratio);
        if request.width * ratio[1] != request.height * ratio[0] {
            note(format!("{}:{} becomes {}x{}, the nearest size of this model", ratio[0], ratio[1], request.width, request.height));
        }
    }
    request.frames = given.frames(pipeline)?.unwrap_or(request.frames);
    let replace = |value: &mut usize, asked: Option<u32>| *value = asked.map_or(*value, |asked| asked as usize);
    replace(&mut request.width, width);
    replace(&mut request.height, height);
    replace(&mut request.frames, args.given.window.or(args.frames));
    replace(&mut request.steps, args.steps);
    request.guidance = guidance(&args.guidance, request.guidance.scale);
    request.shift = args.shift.map(f64::from);
    request.negative = args.negative.clone().unwrap_or_default();
    request.seed = seed;
    request.latents = args.latents_in.as_deref().map(read_latents).transpose()?;
    // Not after images were scaled to an absurd size.
    pipeline.validate(&request)?;
    request.conditioning = given.conditioning(&request, pipeline, note)?;
    request.long = given.long(&request, args.frames, pipeline)?;
    pipeline.validate(&request)?;
    Ok(request)
}

fn guidance(args: &GuidanceArgs, default: f32) -> Guidance {
    Guidance {
        scale: args.guidance.unwrap_or(default),
        curve: match args.guidance_curve {
            CurveName::Constant => Curve::Constant,
            CurveName::Linear => Curve::Linear,
            CurveName::PowerCosine => Curve::PowerCosine { power: args.guidance_power },
        },
        interval: args.guidance_interval.0,
        channels: args.guidance_channels.map(|channels| channels as usize),
        rescale: args.guidance_rescale,
    }
}

/// What is stored in the file and printed with --json.
pub(crate) fn describe(request: &GenerateRequest, model: &str, fps: f64) -> Value {
    json!({
        "kinora": env!("CARGO_PKG_VERSION"),
        "model": model,
        "prompt": request.prompt,
        "negative": request.negative,
        "seed": request.seed,
        "width": request.width,
        "height": request.height,
        "frames": clip_frames(request),
        "fps": fps,
        "steps": request.steps,
        "guidance": request.guidance.scale,
        "shift": request.shift,
    })
}

fn event_of(event: &kinora_runtime::Event) -> Event {
    match *event {
        kinora_runtime::Event::Text { tokens, truncated } => Event::Text { tokens, truncated },
        kinora_runtime::Event::Step { step, steps, .. } => Event::Step { step, steps },
        kinora_runtime::Event::Decode { frames } => Event::Decode { frames },
    }
}

/// Frames that are generated, in all windows.
pub(crate) fn clip_frames(request: &GenerateRequest) -> usize {
    request.long.as_ref().map_or(request.frames, |long| long.clip_frames)
}

/// Makes the clips, telling `show` how far they are; ends soon after a stop is asked for.
pub(crate) fn generate(
    pipeline: &VideoPipeline,
    requests: &[GenerateRequest],
    show: &mut dyn FnMut(Event),
) -> Result<Vec<Result<Generated, Failure>>, Failure> {
    let mut shown = (0, 0);
    let on_event = &mut |_, event| {
        // Clips that are computed side by side step together.
        let step = if let kinora_runtime::Event::Step { step, steps, .. } = event { (step, steps) } else { (0, 0) };
        if step == (0, 0) || step != shown {
            show(event_of(&event));
        }
        shown = step;
    };
    let made = pollster::block_on(pipeline.generate_many(requests, interrupt::token(), on_event))?;
    Ok(made.into_iter().map(|generated| Ok(generated?)).collect())
}

fn read_latents(path: &Path) -> Result<Vec<f32>, Failure> {
    let file = Checkpoint::open(path)?;
    let latents = file.get("latents")?;
    match latents.shape {
        [1, _, _, _, _] => Ok(latents.to_f32()),
        found => {
            let message = format!("`latents` in `{}` has shape {found:?}, expected [1, C, F, H, W]", path.display());
            Err(Failure::new(Exit::Usage, "wrong-shape", message))
        }
    }
}

/// The final latents as `latents` [1, C, F, H, W] of a safetensors file.
pub(crate) fn latents_file(generated: &Generated) -> Result<Vec<u8>, Failure> {
    let latents = NewTensor { name: "latents", shape: &generated.latents_shape, values: Values::F32(&generated.latents) };
    Ok(to_bytes(&[latents])?)
}

/// Runs one component over the tensors of a file and writes the results; returns their names and shapes.
pub(crate) fn eval(args: &EvalArgs) -> Result<Value, Failure> {
    let request = EvalRequest {
        model: args.model.clone(),
        component: args.component.clone(),
        operation: args.op.clone(),
        inputs: args.inputs.clone(),
        outputs: args.outputs.clone(),
        format: weight_format(args.dtype),
    };
    let device = open_device(&args.device)?;
    let outputs = pollster::block_on(request.run(&device))?;
    let shapes = outputs.iter().map(|output| (output.name.to_owned(), json!(output.shape))).collect::<serde_json::Map<_, _>>();
    Ok(json!({ "outputs": args.outputs.display().to_string(), "tensors": shapes, "device": device.name() }))
}

/// The adapters of this machine, in the order of --device.
pub(crate) fn adapters() -> Vec<AdapterInfo> {
    pollster::block_on(kinora_runtime::adapters())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_reports_decides_the_exit_code() {
        for (error, exit) in [
            (kinora_kernels::Error::Device { detail: "lost: unplugged".into() }, Exit::Internal),
            (kinora_kernels::Error::OutOfMemory { detail: "vkAllocateMemory".into() }, Exit::Memory),
            (kinora_kernels::Error::NonFinite { layer: "dit.block3".into(), count: 1, of: 2 }, Exit::Model),
            (kinora_kernels::Error::Cancelled, Exit::Interrupted),
        ] {
            assert_eq!(Failure::from(Error::from(error.clone())).exit, exit, "{error}");
        }
    }
}

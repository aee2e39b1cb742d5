//! The one place that talks to the runtime: requests in, events and frames out, its errors as exit codes.

use std::{
    cell::RefCell,
    env, io,
    path::Path,
    time::{Duration, Instant},
};

use kinora_media::{FrameRate, Place};
use kinora_runtime::{
    AdapterInfo, AdapterSelect, Device, Error, Made, Options, Preset, Requirements, WeightFormat,
    eval::EvalRequest,
    host_memory,
    request::Draft,
    weights::{Checkpoint, NewTensor, Values, to_bytes},
};
pub(crate) use kinora_runtime::{
    CancelToken, Event, GenerateRequest, Generated, Metadata, VideoPipeline,
    understanding::{Unknown, Wording},
};
use serde_json::{Value, json};

use crate::{
    args::{DeviceArgs, EvalArgs, Executor, WeightType},
    failure::{Exit, Failure},
    generate::Task,
    given::{Given, Opened},
    interrupt, parts,
};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.code() {
            "cancelled" => return Self::interrupted(),
            "invalid-request" | "invalid-conditioning" | "expand-failed" => Exit::Usage,
            "no-adapter" | "unsupported-kernels" => Exit::NoGpu,
            "out-of-memory" | "limit" | "memory" => Exit::Memory,
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

/// Address space that the compiler of a software driver may take; where it gets less, it ends the process instead of saying so.
const COMPILER_BYTES: u64 = 1 << 30;

/// Opens the adapter, or takes the processor.
pub(crate) fn open_device(args: &DeviceArgs) -> Result<Device, Failure> {
    if args.executor == Executor::Cpu {
        return Ok(Device::host(None));
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
    // Before a device is opened, which is where it may end already.
    if let Some(left) = host_memory::address_space().filter(|left| *left < COMPILER_BYTES)
        && let adapters = adapters()
        && !adapters.is_empty()
        && adapters.iter().all(|adapter| adapter.device_type == "Cpu")
    {
        let [needed, left] = [COMPILER_BYTES, left].map(|bytes| bytes as f64 / 1e9);
        let message = format!("{} needs {needed:.1} GB of address space to compile kernels, {left:.1} GB are left", adapters[0].name);
        return Err(Failure::new(Exit::Memory, "memory", message).hint("raise the limit (ulimit -v), or use --executor cpu"));
    }
    Ok(pollster::block_on(Device::gpu(&select, preset)).map_err(Error::from)?)
}

pub(crate) fn weight_format(dtype: WeightType) -> WeightFormat {
    match dtype {
        WeightType::F32 => WeightFormat::F32,
        WeightType::F16 => WeightFormat::F16,
    }
}

/// The options of several clips in the words of the model, and what is told of that.
pub(crate) fn understand(clips: &[(Options, &Given)], pipeline: &VideoPipeline) -> Result<Vec<(Options, Option<Event>)>, Failure> {
    let pictures: Vec<bool> = clips.iter().map(|(_, given)| !given.sources().is_empty()).collect();
    let mut options: Vec<Options> = clips.iter().map(|(options, _)| options.clone()).collect();
    let events = pollster::block_on(Options::understand(&mut options, &pictures, pipeline, interrupt::token()))?;
    Ok(options.into_iter().zip(events).collect())
}

/// What `options` come to with this model, but for the pixels of what is given. `note` hears of what may surprise.
pub(crate) fn draft<'a>(
    options: Options,
    task: &'a Task,
    pipeline: &VideoPipeline,
    note: &mut dyn FnMut(String),
) -> Result<(Draft<&'a Opened>, Metadata), Failure> {
    let rate = FrameRate::from_f64(pipeline.manifest().fps.into())?;
    let draft = options.resolve(task.given().sources(), &|source, most| source.frames(rate, most), pipeline, note)?;
    let args = task.args();
    let metadata = draft.metadata(pipeline, &parts::label(&args.model, &args.parts), &|source| source.name())?;
    Ok((draft, metadata))
}

/// The request of a draft, with the pixels of what is given.
pub(crate) fn fit(
    mut draft: Draft<&Opened>,
    task: &Task,
    pipeline: &VideoPipeline,
    note: &mut dyn FnMut(String),
) -> Result<GenerateRequest, Failure> {
    let rate = FrameRate::from_f64(pipeline.manifest().fps.into())?;
    draft.request.latents = task.args().latents_in.as_deref().map(read_latents).transpose()?;
    draft.fit(pipeline, &mut |source, fit| source.fitted(fit, rate, note))
}

/// Who takes what comes of several clips, one after another.
pub(crate) trait Taker {
    /// How far one is.
    fn event(&mut self, at: usize, event: Event);
    /// The next frame of a clip; `false` if it is not wanted.
    fn frame(&mut self, at: usize, rgba: &[u8]) -> bool;
    /// A clip after its last frame, or why there is none.
    fn end(&mut self, at: usize, made: Result<Generated, Failure>);
}

/// Makes the clips and hands over their frames as they come; ends soon after `stop` is cancelled.
pub(crate) fn generate(
    pipeline: &VideoPipeline,
    requests: &[GenerateRequest],
    stop: &CancelToken,
    taker: &mut dyn Taker,
) -> Result<(), Failure> {
    let taker = RefCell::new(taker);
    let on_event = &mut |at, event| taker.borrow_mut().event(at, event);
    let sink = &mut async |at, made| match made {
        Made::Latents(..) => Ok(()),
        Made::Frame(frame) if taker.borrow_mut().frame(at, &frame) => Ok(()),
        // Why is known to who refused it.
        Made::Frame(_) if stop.is_cancelled() => Err(Error::Cancelled),
        Made::Frame(_) => Err(Error::Io { action: "write", path: "the clip".into(), source: io::ErrorKind::Other.into() }),
        Made::End(made) => {
            taker.borrow_mut().end(at, made.map_err(|error| refused(error, pipeline, &requests[at])));
            Ok(())
        }
    };
    Ok(pollster::block_on(pipeline.generate_each(requests, stop, on_event, sink))?)
}

/// What a clip takes, before any of it runs.
pub(crate) fn requirements(pipeline: &VideoPipeline, request: &GenerateRequest) -> Result<Requirements, Failure> {
    pipeline.requirements(request).map_err(|error| refused(error, pipeline, request))
}

/// How long a clip takes, where it is made on the processor and not soon done.
pub(crate) fn processor_time(pipeline: &VideoPipeline, request: &GenerateRequest) -> Result<Option<Duration>, Failure> {
    let begun = Instant::now();
    let seconds = pollster::block_on(pipeline.processor_seconds(request, &|| begun.elapsed().as_secs_f64()))?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
}

/// A failure of a clip; one that asks for too much memory says what would fit.
fn refused(error: Error, pipeline: &VideoPipeline, request: &GenerateRequest) -> Failure {
    let fitting = if let Error::Memory { .. } = error { pipeline.fitting(request) } else { None };
    let failure = Failure::from(error);
    match fitting {
        Some(setting) => failure.hint(format!("this would fit: {setting}")),
        None => failure,
    }
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
    // Known before the work; results replace what is there, as they always did.
    let outputs = Place::open(&args.outputs, true)?;
    let request = EvalRequest {
        model: args.model.clone(),
        component: args.component.clone(),
        operation: args.op.clone(),
        inputs: args.inputs.clone(),
        format: weight_format(args.dtype),
    };
    // Comparisons are with the twins, which are exact.
    let device = if args.device.executor == Executor::Cpu { Device::cpu() } else { open_device(&args.device)? };
    let (results, file) = pollster::block_on(request.run(&device))?;
    outputs.write(&mut |out| Ok(out.write_all(&file)?))?;
    let shapes = results.iter().map(|output| (output.name.to_owned(), json!(output.shape))).collect::<serde_json::Map<_, _>>();
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

//! JavaScript objects to requests, and events, clips and errors to JavaScript objects.

use js_sys::{Array, JSON, Object, Reflect, Uint8Array};
use kinora_media::{Clip, Format, FrameRate, Metadata, encode};
use kinora_runtime::json::{object, problem};
use kinora_runtime::understanding::{self, Vocabulary};
use kinora_runtime::{Access, Event, Generated, Kernel, VideoPipeline};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::JsValue;

/// How to load a model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// How errors call the model.
    pub(crate) label: String,
    /// Where to run it.
    pub(crate) device: DeviceKind,
    /// Whether to keep weights in 32 bits.
    pub(crate) f32: bool,
    /// What adapts it.
    #[serde(default)]
    pub(crate) loras: Vec<LoraSetting>,
}

/// A file that adapts the model.
#[derive(Deserialize)]
pub(crate) struct LoraSetting {
    pub(crate) path: String,
    pub(crate) strength: f32,
    pub(crate) alpha: Option<f32>,
}

/// Where to run, and with which kernels.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DeviceKind {
    /// WebGPU with the kernels made for the adapter.
    Auto,
    /// WebGPU with the kernels for software adapters.
    Soft,
    /// WebGPU with the kernels for GPUs.
    Gpu,
    /// The processor.
    Cpu,
}

/// What a model is and expects.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    name: String,
    width: usize,
    height: usize,
    frames: usize,
    frames_per_latent: usize,
    size_multiple: usize,
    steps: usize,
    guidance: f32,
    fps: f32,
    device: String,
    loras: Vec<String>,
    step_flops: f64,
}

impl Info {
    pub(crate) fn of(pipeline: &VideoPipeline) -> Self {
        let manifest = pipeline.manifest();
        let compression = pipeline.compression();
        let [frames_per_latent, height, width] = std::array::from_fn(|axis| compression.latent[axis] * compression.packing[axis]);
        Self {
            name: manifest.name.clone(),
            width: manifest.default_width,
            height: manifest.default_height,
            frames: manifest.default_frames,
            frames_per_latent,
            size_multiple: height.max(width),
            steps: manifest.default_steps,
            guidance: manifest.default_guidance,
            fps: manifest.fps,
            device: pipeline.device().name(),
            loras: pipeline.loras().iter().map(ToString::to_string).collect(),
            step_flops: pipeline.plans().map_or(0.0, |(denoising, _)| denoising.cost().step_flops),
        }
    }
}

/// The words that a model lists.
#[derive(Serialize)]
pub(crate) struct Words<'a> {
    objects: Vec<Thing<'a>>,
    colors: &'a [String],
}

/// One thing a model can draw.
#[derive(Serialize)]
struct Thing<'a> {
    name: &'a str,
    synonyms: Vec<&'a str>,
    motions: &'a [String],
}

impl<'a> From<&'a Vocabulary> for Words<'a> {
    fn from(Vocabulary { objects, colors, .. }: &'a Vocabulary) -> Self {
        let thing = |object: &'a understanding::Object| Thing {
            name: &object.name,
            synonyms: object.synonyms.iter().chain(&object.also).map(String::as_str).collect(),
            motions: &object.motions,
        };
        Self { objects: objects.iter().map(thing).collect(), colors }
    }
}

/// What a generation will take.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Estimate {
    ms: f64,
    gpu_bytes: u64,
}

impl From<kinora_runtime::Estimate> for Estimate {
    fn from(estimate: kinora_runtime::Estimate) -> Self {
        Self { ms: estimate.seconds * 1e3, gpu_bytes: estimate.gpu_bytes }
    }
}

/// A kernel as WebGPU takes it.
#[derive(Serialize)]
pub(crate) struct PlainKernel {
    label: &'static str,
    code: String,
    /// `GPUBufferBindingType` of each binding.
    bindings: Vec<&'static str>,
}

impl From<&'static Kernel> for PlainKernel {
    fn from(kernel: &'static Kernel) -> Self {
        let binding = |access: &Access| match access {
            Access::Uniform => "uniform",
            Access::Read => "read-only-storage",
            Access::ReadWrite => "storage",
        };
        Self { label: kernel.name, code: kernel.source(), bindings: kernel.bindings.iter().map(binding).collect() }
    }
}

/// A clip to encode.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClipSettings {
    format: String,
    width: u32,
    height: u32,
    fps: f64,
    description: String,
    software: String,
    comment: String,
}

impl ClipSettings {
    pub(crate) fn encode(self, frames: Vec<Vec<u8>>) -> kinora_media::Result<Vec<u8>> {
        let format = Format::from_name(&self.format)?;
        let clip = Clip::new(self.width, self.height, FrameRate::from_f64(self.fps)?, frames)?;
        let metadata = Metadata { description: self.description, software: self.software, comment: self.comment };
        let mut file = Vec::new();
        encode(&clip, format, &metadata, &mut file, &mut |_| true)?;
        Ok(file)
    }
}

/// What JavaScript is told of an event: the preview of a step is a `Uint8Array` of RGBA bytes under `preview`.
pub(crate) fn event(event: &Event) -> Result<JsValue, JsValue> {
    let object = to_js(event)?;
    if let Event::Step { preview: Some(rgba), .. } = event {
        Reflect::set(&object, &"preview".into(), &Uint8Array::from(rgba.as_slice()))?;
    }
    Ok(object)
}

pub(crate) fn clip(generated: &Generated) -> Result<JsValue, JsValue> {
    let object = Object::new();
    let set = |name: &str, value: JsValue| Reflect::set(&object, &name.into(), &value).map(drop);
    set("width", generated.width.into())?;
    set("height", generated.height.into())?;
    set("fps", generated.fps.into())?;
    set("frames", generated.frames.iter().map(|frame| Uint8Array::from(frame.as_slice())).collect::<Array>().into())?;
    Ok(object.into())
}

/// An error on its way to JavaScript.
#[derive(Serialize)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    hint: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }
}

impl From<kinora_runtime::Error> for Failure {
    fn from(error: kinora_runtime::Error) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

impl From<kinora_media::Error> for Failure {
    fn from(error: kinora_media::Error) -> Self {
        Self { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        to_js(&failure).unwrap_or_else(|error| error)
    }
}

// Objects go by way of JSON, whose reader and writer are here anyway.

pub(crate) fn to_js(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let text = serde_json::to_string(value).map_err(|error| JsValue::from(error.to_string()))?;
    JSON::parse(&text)
}

/// Reads what is called `name` in errors.
pub(crate) fn from_json<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Failure> {
    object(text).map_err(|error| Failure::new("invalid-request", format!("invalid {name}: {}", problem(&error))))
}

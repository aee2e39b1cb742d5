//! The one place that talks to the runtime: requests in, events and frames out, its errors as exit codes.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{
    args::{BenchArgs, DeviceArgs, EvalArgs, GenerateArgs},
    failure::{Exit, Failure},
    progress::Event,
};

/// A loaded model, ready to generate.
pub(crate) enum Pipeline {}

/// What a model does when nothing is asked for.
pub(crate) struct Defaults {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: u32,
    pub(crate) fps: f64,
    pub(crate) steps: u32,
    pub(crate) guidance: f32,
}

/// A complete request: every default filled in.
pub(crate) struct Request {
    pub(crate) prompt: String,
    pub(crate) negative: Option<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: u32,
    pub(crate) steps: u32,
    pub(crate) guidance: f32,
    pub(crate) shift: Option<f32>,
    pub(crate) seed: u64,
}

impl Request {
    pub(crate) fn new(args: &GenerateArgs, prompt: String, seed: u64, defaults: &Defaults) -> Self {
        let (width, height) = args.size.unwrap_or((args.width.unwrap_or(defaults.width), args.height.unwrap_or(defaults.height)));
        Self {
            prompt,
            negative: args.negative.clone(),
            width,
            height,
            frames: args.frames.unwrap_or(defaults.frames),
            steps: args.steps.unwrap_or(defaults.steps),
            guidance: args.guidance.unwrap_or(defaults.guidance),
            shift: args.shift,
            seed,
        }
    }

    /// What is stored in the file and printed with --json.
    pub(crate) fn to_json(&self, model: &str, fps: f64) -> Value {
        json!({
            "kinora": env!("CARGO_PKG_VERSION"),
            "model": model,
            "prompt": self.prompt,
            "negative": self.negative,
            "seed": self.seed,
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "fps": fps,
            "steps": self.steps,
            "guidance": self.guidance,
            "shift": self.shift,
        })
    }
}

/// A finished clip.
pub(crate) struct Generated {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `[height, width, 4]` bytes each.
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) timings_ms: Map<String, Value>,
}

fn no_runtime() -> Failure {
    Failure::new(Exit::Internal, "no-runtime", "this build of kinora has no runtime yet")
}

/// Opens the device and loads the model.
pub(crate) fn load(_device: &DeviceArgs, _folder: &Path) -> Result<Pipeline, Failure> {
    Err(no_runtime())
}

impl Pipeline {
    pub(crate) fn defaults(&self) -> Defaults {
        match *self {}
    }

    /// The device in one line.
    pub(crate) fn device(&self) -> String {
        match *self {}
    }

    /// Makes the clip; `keep_going` is told every event and stops the work by returning false.
    pub(crate) fn generate(
        &mut self,
        _request: &Request,
        _args: &GenerateArgs,
        _keep_going: &mut dyn FnMut(Event) -> bool,
    ) -> Result<Generated, Failure> {
        match *self {}
    }
}

/// Runs one component over the tensors of a file.
pub(crate) fn eval(_args: &EvalArgs) -> Result<(), Failure> {
    Err(no_runtime())
}

/// The adapters of this machine, in the order of --device.
pub(crate) fn adapters() -> Vec<Value> {
    Vec::new()
}

/// Measures the kernels.
pub(crate) fn bench(_args: &BenchArgs) -> Result<Value, Failure> {
    Err(no_runtime())
}

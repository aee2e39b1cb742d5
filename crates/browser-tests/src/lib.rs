//! The bodies of native tests, run in a browser by `web/test/bodies.test.mjs` and the page of `cargo xtask conformance`: same cases,
//! same comparison, same tolerances.

// Elsewhere there is no JavaScript to call this; the native tests include the same files.
#![cfg(target_arch = "wasm32")]

#[path = "../../kernels/tests/support/body.rs"]
mod body;
#[path = "../../kernels/tests/support/cases.rs"]
mod cases;
#[path = "../../runtime/tests/support/everywhere.rs"]
mod everywhere;
#[path = "../../runtime/tests/support/fixture.rs"]
mod fixture;
#[path = "../../runtime/tests/support/resolution.rs"]
mod resolution;
#[path = "../../runtime/tests/support/sized.rs"]
mod sized;
pub mod unicode;

use std::sync::Arc;

use js_sys::Uint8Array;
use kinora_kernels::{AdapterSelect, Device, Executable, Gpu, Preset, WeightFormat};
use kinora_runtime::manifest::Index;
use kinora_runtime::models::component::Component;
use kinora_runtime::weights::{Checkpoint, ModelFiles};
use kinora_runtime::{CancelToken, Error, GenerateRequest, VideoPipeline};
use wasm_bindgen::prelude::wasm_bindgen;

/// A device with the kernels of one preset, and what is compared on it.
#[wasm_bindgen]
pub struct Tester {
    device: Device,
    cases: Vec<cases::Case>,
}

#[wasm_bindgen]
impl Tester {
    /// Opens the browser's adapter with `soft` or `gpu` kernels, whose buffers are surrounded by guard words, or the processor: `cpu`.
    ///
    /// # Errors
    /// Those of opening a device.
    pub async fn open(preset: String) -> Result<Self, String> {
        let cases = cases::cases();
        if preset == "cpu" {
            return Ok(Self { device: Device::host(None), cases });
        }
        let preset = if preset == "gpu" { Preset::Gpu } else { Preset::Soft };
        let gpu = Gpu::open(&AdapterSelect::Auto, Some(preset)).await.map_err(|error| error.to_string())?;
        #[expect(clippy::arc_with_non_send_sync, reason = "a device is shared between threads everywhere but in browsers")]
        let gpu = Arc::new(gpu.with_guards());
        Ok(Self { device: Device::Gpu(gpu), cases })
    }

    /// What it runs on.
    #[must_use]
    pub fn name(&self) -> String {
        self.device.name()
    }

    /// How many cases there are: every variant of every kernel is in one.
    #[must_use]
    pub fn case_count(&self) -> usize {
        self.cases.len()
    }

    /// The kernels of a case.
    #[must_use]
    pub fn kernels_of(&self, case: usize) -> Vec<String> {
        let graph = &self.cases[case].graph;
        let preset = self.device.preset().unwrap_or(Preset::Soft);
        graph.kernels(preset).into_iter().map(|kernel| kernel.name.to_owned()).collect()
    }

    /// Compares the kernels of a case with their twins.
    ///
    /// # Errors
    /// What differs.
    pub async fn compare(&self, case: usize) -> Result<(), String> {
        let cases::Case { graph, terms, indices } = &self.cases[case];
        let expected = body::evaluate(&Device::cpu(), graph, indices, Executable::new).await?;
        body::compare(&self.device, graph, *terms, indices, &expected).await
    }

    /// Floating-point operations of a plan with 2³⁵ of them.
    #[must_use]
    pub fn large_work(&self) -> f64 {
        cases::large_product().cost().step_flops
    }

    /// The largest NMSE of a fixture of `tests/golden`: a model of f32 weights, its inputs and what the reference made of them.
    ///
    /// # Errors
    /// Those of reading and running it.
    pub async fn golden(
        &self,
        case: String,
        config: String,
        weights: Vec<Uint8Array>,
        inputs: Uint8Array,
        expected: Uint8Array,
    ) -> Result<f64, String> {
        let read = |files: &[Uint8Array]| {
            let files = files.iter().enumerate().map(|(i, bytes)| (format!("file {i}"), bytes.to_vec())).collect();
            Checkpoint::from_files(case.clone(), files).map_err(|error| error.to_string())
        };
        let weights = read(&weights)?;
        let model = Component::load(&config, &case, &weights, WeightFormat::F32, &Index::default()).map_err(|error| error.to_string())?;
        let errors = fixture::errors(&model, &case, &read(&[inputs])?, &read(&[expected])?, &self.device).await?;
        Ok(errors.iter().fold(0.0, |worst, (_, error)| error.max(worst)))
    }
}

/// The version that is tested.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// A random generation with the model of `tests/tiny-model` on a device of its own, and what is foretold of it.
#[wasm_bindgen]
pub struct Sized {
    pipeline: VideoPipeline,
    request: GenerateRequest,
    /// Bytes on the device.
    pub predicted: f64,
    /// Whether some weights are streamed.
    pub streams: bool,
    /// What it is, for messages.
    context: String,
}

#[wasm_bindgen]
impl Sized {
    /// The generation of this number, if the memory that it is given is enough.
    ///
    /// # Errors
    /// Those of reading the model and of opening a device.
    pub async fn open(paths: Vec<String>, files: Vec<Uint8Array>, run: usize) -> Result<Option<Self>, String> {
        let device = Device::gpu(&AdapterSelect::Auto, Some(Preset::Soft)).await.map_err(|error| error.to_string())?;
        let mut model = ModelFiles::new("the model of the tests");
        paths.into_iter().zip(&files).for_each(|(path, bytes)| model.insert(path, bytes.to_vec()));
        let mut pipeline = VideoPipeline::from_files(device, model, WeightFormat::F32).map_err(|error| error.to_string())?;
        let random = &mut sized::Random(run as u64 + 1);
        let request = sized::request(&pipeline, random);
        let whole = pipeline.requirements(&request).map_err(|error| error.to_string())?.device_bytes;
        let memory = sized::memory(run, whole, random);
        pipeline.set_memory(memory);
        let found = match pipeline.requirements(&request) {
            Err(Error::Memory { .. }) => return Ok(None),
            found => found.map_err(|error| error.to_string())?,
        };
        let GenerateRequest { width, height, frames, .. } = request;
        let context = format!("run {run}: {width}x{height}, {frames} frames in {memory:?} of {whole}");
        let streams = found.stages.iter().any(|stage| stage.streamed_bytes > 0);
        Ok(Some(Self { pipeline, request, predicted: found.device_bytes as f64, streams, context }))
    }

    /// What it is, for messages.
    #[must_use]
    #[wasm_bindgen(getter)]
    pub fn context(&self) -> String {
        self.context.clone()
    }

    /// Runs it.
    ///
    /// # Errors
    /// Those of generating.
    pub async fn run(&self) -> Result<(), String> {
        let made = self.pipeline.generate(&self.request, &CancelToken::default(), &mut |_| {}).await;
        made.map(drop).map_err(|error| error.to_string())
    }
}

/// The cases of `tests/requests.tsv` that come to something else here, with what that is. The files are those of `tests/tiny-model`.
///
/// # Errors
/// Those of reading the model and the cases.
#[wasm_bindgen]
#[expect(clippy::needless_pass_by_value, reason = "wasm-bindgen hands lists of objects over by value only")]
pub fn request_differences(paths: Vec<String>, files: Vec<Uint8Array>, cases: &str) -> Result<Vec<String>, String> {
    let pipeline = resolution::model(paths.into_iter().zip(files.iter().map(Uint8Array::to_vec)))?;
    let mut differences = Vec::new();
    for line in cases.lines() {
        let (case, expected) = line.split_once('\t').ok_or("a line without a tab")?;
        let found = resolution::resolved(case, &pipeline)?;
        if found != expected {
            differences.push(format!("{case}: found {found}, expected {expected}"));
        }
    }
    Ok(differences)
}

/// The lines of `tests/everywhere.tsv` as they are here. The files are those of `tests/tiny-model`.
///
/// # Errors
/// Those of reading the model and of planning.
#[wasm_bindgen]
#[expect(clippy::needless_pass_by_value, reason = "wasm-bindgen hands lists of objects over by value only")]
pub fn everywhere(paths: Vec<String>, files: Vec<Uint8Array>) -> Result<Vec<String>, String> {
    let model = resolution::model(paths.into_iter().zip(files.iter().map(Uint8Array::to_vec)))?;
    let cases = cases::cases();
    everywhere::lines(&cases.iter().map(|case| &case.graph).collect::<Vec<_>>(), &model)
}

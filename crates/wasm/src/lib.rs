//! The runtime as JavaScript sees it: a thin layer that turns objects into requests, and frames and errors back.
//!
//! What JavaScript asks for comes as JSON, what it is told as objects.
//!
//! Private to the npm package in `web/`; its hand-written types are the public interface. Every function either returns
//! a value or throws `{ code, message, hint }`.

// Elsewhere there is no JavaScript to talk to; `cargo xtask web` builds and lints it.
#![cfg(target_arch = "wasm32")]

mod convert;
mod files;
mod request;

use std::cell::RefCell;
use std::panic;
use std::pin::Pin;
use std::rc::Rc;
use std::slice;

use js_sys::{Array, Float32Array, Function, Promise, Uint8Array};
use kinora_runtime::models::FAMILIES;
use kinora_runtime::{AdapterSelect, CancelToken, Device, Error, Made, Options, Preset, VideoPipeline, WeightFormat};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use convert::{ClipSettings, DeviceKind, Failure, Info, PlainKernel, Settings, Words, clip, event, from_json, to_js};
use files::Files;
use request::{Resolved, resolve};

// A handler must be `Send` for some that keep it, which a JavaScript function is not; there is one thread, so a thread-local is the same.
thread_local!(static HANDLER: RefCell<Option<Function>> = const { RefCell::new(None) });

/// What the module asks of its thread: `handler(message)` hears of a panic before the instance dies, after which nothing of it may be
/// used; `handler()` returns a promise for when messages have arrived.
#[wasm_bindgen(js_name = attach)]
pub fn attach(handler: Function) {
    HANDLER.with(|slot| slot.replace(Some(handler)));
    // The handler only posts a message; if even that fails, nobody is left to tell.
    panic::set_hook(Box::new(|info| drop(tell(&info.to_string().into()))));
}

fn tell(message: &JsValue) -> Option<JsValue> {
    HANDLER.with(|slot| slot.borrow().as_ref()?.call1(&JsValue::NULL, message).ok())
}

/// Lets messages arrive: a worker that computes hears nothing, not even that it should stop.
fn turn() -> Pin<Box<dyn Future<Output = ()>>> {
    let promise = tell(&JsValue::UNDEFINED).map(Promise::from);
    Box::pin(async {
        if let Some(promise) = promise {
            // Nothing rejects it.
            drop(JsFuture::from(promise).await);
        }
    })
}

/// The pipeline classes that this module can run.
#[wasm_bindgen]
pub fn pipelines() -> Vec<String> {
    FAMILIES.iter().flat_map(|family| family.pipelines).map(|pipeline| pipeline.name.to_owned()).collect()
}

/// Ends a generation between two submissions.
#[wasm_bindgen]
#[derive(Default)]
pub struct Cancel(CancelToken);

#[wasm_bindgen]
impl Cancel {
    /// A switch that is off.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the generation to end.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// A loaded model on a device.
#[wasm_bindgen]
pub struct Model {
    pipeline: RefCell<Rc<VideoPipeline>>,
    /// What it is called where it has no name of its own.
    label: String,
    device: DeviceKind,
}

#[wasm_bindgen]
impl Model {
    /// Opens the device and loads a model from `files`. Settings are an object as JSON, like all that JavaScript asks for.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn load(files: Files, settings: String) -> Result<Self, JsValue> {
        let settings: Settings = from_json("settings", &settings)?;
        let device = open(settings.device).await?;
        let mut model = files.into_model(settings.label.clone());
        for lora in settings.loras {
            model.adapt(&lora.path, lora.strength, lora.alpha).map_err(Failure::from)?;
        }
        let format = if settings.f32 { WeightFormat::F32 } else { WeightFormat::F16 };
        let pipeline = VideoPipeline::from_files(device, model, format).map_err(Failure::from)?;
        Ok(Self { pipeline: RefCell::new(Rc::new(pipeline)), label: settings.label, device: settings.device })
    }

    /// Defaults and limits of the model.
    ///
    /// # Errors
    /// None in practice: the object is plain.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        to_js(&Info::of(&self.pipeline.borrow()))
    }

    /// The browser's `GPUDevice`; undefined on the CPU.
    pub fn device(&self) -> Option<JsValue> {
        self.pipeline.borrow().device().web_handle()
    }

    /// The kernels of a generation with the model's defaults: `[{ label, code, bindings }]`, to be compiled ahead of time.
    ///
    /// # Errors
    /// Those of the runtime.
    pub fn kernels(&self) -> Result<JsValue, JsValue> {
        let kernels = self.pipeline.borrow().kernels().map_err(Failure::from)?;
        to_js(&kernels.into_iter().map(PlainKernel::from).collect::<Vec<_>>())
    }

    /// What a language model is told that is to expand prompts for this model.
    #[wasm_bindgen(js_name = expansionTask)]
    pub fn expansion_task(&self) -> String {
        self.pipeline.borrow().expansion_task()
    }

    /// The words of a model that lists them, as `{ objects, colors }`; else `null`.
    ///
    /// # Errors
    /// None in practice: the object is plain.
    pub fn vocabulary(&self) -> Result<JsValue, JsValue> {
        to_js(&self.pipeline.borrow().vocabulary().map(Words::from))
    }

    /// What a prompt means in the words of the model, as the event `prompt` says it; `null` where it lists none.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn understand(&self, prompt: String, cancel: &Cancel) -> Result<JsValue, JsValue> {
        let pipeline = self.pipeline.borrow().clone();
        let mut options = Options { prompt: Some(prompt), ..Options::default() };
        let told = Options::understand(slice::from_mut(&mut options), &[false], &pipeline, &cancel.0).await;
        to_js(&told.map_err(Failure::from)?.into_iter().flatten().next())
    }

    /// What the text encoder made of all texts that came lately, as the file `text_states.safetensors` of a model without it.
    ///
    /// # Errors
    /// None in practice.
    #[wasm_bindgen(js_name = textStates)]
    pub fn text_states(&self) -> Result<Uint8Array, JsValue> {
        Ok(self.pipeline.borrow().text_states_file().map_err(Failure::from)?.as_slice().into())
    }

    /// Replaces a device that was lost.
    ///
    /// # Errors
    /// Those of opening a device, and `busy` while a generation runs.
    pub async fn reopen(&self) -> Result<(), JsValue> {
        let device = open(self.device).await?;
        let mut pipeline = self.pipeline.borrow_mut();
        let pipeline = Rc::get_mut(&mut pipeline).ok_or_else(|| Failure::new("busy", "a generation is still running"))?;
        pipeline.set_device(device);
        Ok(())
    }

    /// What a request `{ options, sources }` without images will take: `{ ms, gpuBytes }`. `now` tells milliseconds.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn estimate(&self, call: String, cancel: &Cancel, now: Function) -> Result<JsValue, JsValue> {
        let pipeline = self.pipeline.borrow().clone();
        let request = resolve(&call, &mut std::iter::empty(), &pipeline, &self.label, None).await?.request;
        let clock = || now.call0(&JsValue::NULL).ok().and_then(|ms| ms.as_f64()).unwrap_or(f64::NAN) / 1e3;
        to_js(&convert::Estimate::from(pipeline.estimate(&request, &clock, &cancel.0).await.map_err(Failure::from)?))
    }

    /// Makes clips, side by side if there are several: for each `{ width, height, fps, frames }` with one `Uint8Array` of RGBA
    /// bytes for each frame, or `{ code, message, hint }`. Requests are `{ options, sources }`; the arrays that they speak of come
    /// along in their order.
    /// `on_event` is called with the index of a request and what happened; only a single one has previews. The latents of a single one,
    /// with their extents, go to `on_latents` before they are decoded, and its frames to `on_frame` as they are; nothing goes on before
    /// the promise that these may return is settled.
    ///
    /// # Errors
    /// Those of reading the requests, and those that concern all of them.
    pub async fn generate(
        &self,
        requests: Vec<String>,
        arrays: Vec<Uint8Array>,
        cancel: &Cancel,
        on_event: Function,
        on_latents: Function,
        on_frame: Function,
    ) -> Result<Array, JsValue> {
        let pipeline = self.pipeline.borrow().clone();
        let send = |index: usize, event: JsValue| on_event.call2(&JsValue::NULL, &index.into(), &event).map(drop);
        let mut arrays = arrays.into_iter();
        let mut resolved = Vec::with_capacity(requests.len());
        for call in &requests {
            resolved.push(resolve(call, &mut arrays, &pipeline, &self.label, Some(&cancel.0)).await?);
        }
        let mut requests = Vec::with_capacity(resolved.len());
        for (index, Resolved { request, events }) in resolved.into_iter().enumerate() {
            for told in &events {
                send(index, event(told)?)?;
            }
            requests.push(request);
        }
        let mut failed = None;
        let mut on_event = |index, happened| {
            if let Err(error) = event(&happened).and_then(|object| send(index, object)) {
                cancel.cancel();
                failed = Some(error);
            }
        };
        let mut ended = Err(Error::Cancelled);
        let sink = &mut async |_, made| {
            let answer = match made {
                Made::Latents(values, shape) => {
                    let shape: Array = shape.into_iter().map(JsValue::from).collect();
                    on_latents.call2(&JsValue::NULL, &Float32Array::from(values.as_slice()), &shape)
                }
                Made::Frame(frame) => on_frame.call1(&JsValue::NULL, &Uint8Array::from(frame.as_slice())),
                Made::End(made) => {
                    ended = made;
                    return Ok(());
                }
            };
            let taken = match answer.map(JsCast::dyn_into::<Promise>) {
                Ok(Ok(promise)) => JsFuture::from(promise).await.is_ok(),
                answered => answered.is_ok(),
            };
            // Whoever takes none says so by failing, and is told of the end like others.
            if taken && !cancel.0.is_cancelled() { Ok(()) } else { Err(Error::Cancelled) }
        };
        let made = match requests.as_slice() {
            [_] => pipeline.generate_each(&requests, &cancel.0, &mut on_event, sink).await.and(ended).map(|clip| vec![Ok(clip)]),
            many => {
                if many.iter().any(|request| request.long.as_ref().is_some_and(|long| long.clip_frames.is_none())) {
                    let expected = "a number: clips side by side come once all are there".into();
                    return Err(Failure::from(Error::InvalidRequest { parameter: "frames".into(), found: "0".into(), expected }).into());
                }
                pipeline.generate_many(many, &cancel.0, &mut on_event).await
            }
        };
        match failed {
            Some(error) => Err(error),
            None => made
                .map_err(Failure::from)?
                .into_iter()
                .map(|made| made.map_or_else(|e| Ok(Failure::from(e).into()), |g| clip(&g)))
                .collect(),
        }
    }
}

async fn open(kind: DeviceKind) -> Result<Device, Failure> {
    let preset = match kind {
        DeviceKind::Cpu => return Ok(Device::host(Some(turn))),
        DeviceKind::Auto => None,
        DeviceKind::Soft => Some(Preset::Soft),
        DeviceKind::Gpu => Some(Preset::Gpu),
    };
    Ok(Device::gpu(&AdapterSelect::Auto, preset).await.map_err(Error::from)?)
}

/// Encodes `frames`, one array of RGBA bytes each, as `gif` or `apng`.
///
/// # Errors
/// Those of the encoders: sizes a format cannot hold, unknown formats.
#[wasm_bindgen]
#[expect(clippy::needless_pass_by_value, reason = "wasm-bindgen hands lists of objects over by value only")]
pub fn encode(frames: Vec<Uint8Array>, settings: &str) -> Result<Uint8Array, JsValue> {
    let settings: ClipSettings = from_json("settings", settings)?;
    Ok(settings.encode(frames.iter().map(Uint8Array::to_vec).collect()).map_err(Failure::from)?.as_slice().into())
}

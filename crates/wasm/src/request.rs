//! What JavaScript asks for as options and sources of the runtime, which decides what they come to.

use std::path::Path;
use std::slice;

use js_sys::{Object, Reflect, Uint8Array};
use kinora_media::{Clip, FrameRate, Need, Part, Source as Media};
use kinora_runtime::conditioning::{Given, ImagePlace};
use kinora_runtime::{CancelToken, Error, Event, GenerateRequest, Options, VideoPipeline};
use serde::Deserialize;
use wasm_bindgen::JsValue;

use crate::convert::Failure;

/// An image or a clip that comes along; its bytes are beside the request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    /// The part of the prompt that it is.
    part: String,
    /// As metadata call it.
    name: String,
    /// Where a keyframe stands.
    frame: Option<usize>,
    /// Width and height in pixels; without them the bytes are a file.
    width: Option<u32>,
    height: Option<u32>,
    /// Frames per second; by default those of the model.
    fps: Option<f64>,
    /// How many arrays of bytes there are: one for each frame, or one file.
    arrays: usize,
}

/// An image or a clip, with its name in messages and in metadata.
struct Picture {
    part: String,
    name: String,
    media: Media,
}

/// A request that can be run, and what is told of it before.
pub(crate) struct Resolved {
    pub(crate) request: GenerateRequest,
    pub(crate) events: Vec<Event>,
}

/// Reads `{ options, sources }`, whose images and clips are the next of `arrays`, and decides what it leaves open. The prompt is
/// read in the words of the model unless nobody is there to `cancel` that.
pub(crate) async fn resolve(
    call: &JsValue,
    arrays: &mut dyn Iterator<Item = Uint8Array>,
    pipeline: &VideoPipeline,
    label: &str,
    cancel: Option<&CancelToken>,
) -> Result<Resolved, Failure> {
    let mut options = options(&property(call, "options"))?;
    let rate = FrameRate::from_f64(pipeline.manifest().fps.into())?;
    let given = given(call, arrays, rate)?;
    let mut notes = Vec::new();
    if let Some(cancel) = cancel {
        let wording = Options::understand(slice::from_mut(&mut options), &[!given.is_empty()], pipeline, cancel).await?;
        notes.extend(wording.into_iter().flatten());
    }
    let named = |error: kinora_media::Error, part: &str| Failure::from(error.in_file(Path::new(part)));
    let length = |picture: &Picture, most| picture.media.frames_at(rate, most).map_err(|error| named(error, &picture.part));
    let draft = options.resolve(given, &length, pipeline, &mut |text| notes.push(Event::Note { text }))?;
    let metadata = draft.metadata(pipeline, label, &|picture| picture.name.clone())?;
    let request = draft.fit(pipeline, &mut |Picture { part, media, .. }, fit| {
        let [width, height] = [fit.width, fit.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let part_of_it = if fit.from_end { Part::Last(fit.frames) } else { Part::First(fit.frames) };
        let need = Need { width, height, rate, part: part_of_it, background: fit.background };
        let taken = media.take(&need).map_err(|error| named(error, part))?;
        let cut = taken.cut_note(part, &need).filter(|_| part == "video" || part == "connect");
        let texts = media.enlargement_note(part, width, height).into_iter().chain(cut);
        notes.extend(texts.map(|text| Event::Note { text }));
        Ok::<_, Failure>(taken.frames)
    })?;
    let events = [Event::Start(Box::new(metadata))].into_iter().chain(notes).collect();
    Ok(Resolved { request, events })
}

/// The options, or an error that names the one to blame.
fn options(value: &JsValue) -> Result<Options, Failure> {
    let known = Options::names();
    let names: Vec<String> = Object::keys(&Object::from(value.clone())).iter().filter_map(|name| name.as_string()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let expected = format!("one of {}", known.join(", "));
        return Err(Error::InvalidRequest { parameter: "option".into(), found: unknown.clone(), expected }.into());
    }
    serde_wasm_bindgen::from_value(value.clone()).map_err(|error| {
        let alone = |name: &String| {
            let one = Object::new();
            Reflect::set(&one, &name.as_str().into(), &property(value, name)).ok()?;
            Some(wrong(name, &serde_wasm_bindgen::from_value::<Options>(one.into()).err()?))
        };
        names.iter().find_map(alone).unwrap_or_else(|| wrong("options", &error))
    })
}

fn given(call: &JsValue, arrays: &mut dyn Iterator<Item = Uint8Array>, rate: FrameRate) -> Result<Given<Picture>, Failure> {
    let sources: Vec<Source> = serde_wasm_bindgen::from_value(property(call, "sources")).map_err(|error| wrong("sources", &error))?;
    let mut given = Given::default();
    for Source { part, name, frame, width, height, fps, arrays: count } in sources {
        let mut data: Vec<Vec<u8>> = arrays.take(count).map(|array| array.to_vec()).collect();
        let named = |error: kinora_media::Error| Failure::from(error.in_file(Path::new(&part)));
        let media = match (width, height, data.pop_if(|_| width.is_none())) {
            (Some(width), Some(height), _) => {
                let rate = fps.map_or(Ok(rate), FrameRate::from_f64)?;
                Clip::new(width, height, rate, data).map(Media::from).map_err(named)?
            }
            (_, _, Some(file)) => Media::decode(file).map_err(named)?,
            _ => return Err(named(kinora_media::Error::NoFrames)),
        };
        let place = match part.as_str() {
            "video" | "connect" | "mask" => None,
            "lastImage" => Some(ImagePlace::Last),
            _ => Some(frame.map_or(ImagePlace::First, ImagePlace::Frame)),
        };
        if place.is_some() {
            media.check_image().map_err(named)?;
        }
        let kind = part.clone();
        let picture = Picture { part, name, media };
        match (place, kind.as_str()) {
            (Some(place), _) => given.images.push((place, picture)),
            (None, "video") => given.video = Some(picture),
            (None, "connect") => given.connect = Some(picture),
            (None, _) => given.mask = Some(picture),
        }
    }
    Ok(given)
}

fn property(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or_default()
}

fn wrong(name: &str, error: &serde_wasm_bindgen::Error) -> Failure {
    let text = error.to_string();
    Failure::new("invalid-request", format!("invalid {name}: {}", text.trim_start_matches("Error: ")))
}

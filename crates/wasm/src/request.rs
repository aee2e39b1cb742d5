//! What JavaScript asks for as options and sources of the runtime, which decides what they come to.

use std::collections::BTreeMap;
use std::path::Path;
use std::slice;

use js_sys::Uint8Array;
use kinora_media::{Clip, FrameRate, Need, Part, Source as Media};
use kinora_runtime::conditioning::{Given, ImagePlace};
use kinora_runtime::json::object;
use kinora_runtime::{CancelToken, Error, Event, GenerateRequest, Options, VideoPipeline};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::convert::{Failure, from_json};

/// A request as JavaScript sends it.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    options: &'a RawValue,
    sources: Vec<Source>,
}

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

/// Reads `{ options, sources }` as JSON, whose images and clips are the next of `arrays`, and decides what it leaves open. The prompt is
/// read in the words of the model unless nobody is there to `cancel` that.
pub(crate) async fn resolve(
    call: &str,
    arrays: &mut dyn Iterator<Item = Uint8Array>,
    pipeline: &VideoPipeline,
    label: &str,
    cancel: Option<&CancelToken>,
) -> Result<Resolved, Failure> {
    let call: Call<'_> = object(call).map_err(|error| Failure::new("internal", error.to_string()))?;
    let mut options = options(call.options.get())?;
    let rate = FrameRate::from_f64(pipeline.manifest().fps.into())?;
    let given = given(call.sources, arrays, rate)?;
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
        let need = Need { width, height, rate, part: part_of_it, background: fit.background, whole: fit.whole };
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
fn options(text: &str) -> Result<Options, Failure> {
    let known = Options::names();
    let given: BTreeMap<String, &RawValue> = object(text).unwrap_or_default();
    if let Some(unknown) = given.keys().find(|name| !known.contains(name)) {
        let expected = format!("one of {}", known.join(", "));
        return Err(Error::InvalidRequest { parameter: "option".into(), found: unknown.clone(), expected }.into());
    }
    from_json("options", text).map_err(|error| {
        let alone = |(name, value): (&String, &&RawValue)| from_json::<Options>(name, &format!("{{\"{name}\":{value}}}")).err();
        given.iter().find_map(alone).unwrap_or(error)
    })
}

fn given(sources: Vec<Source>, arrays: &mut dyn Iterator<Item = Uint8Array>, rate: FrameRate) -> Result<Given<Picture>, Failure> {
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
            "video" | "connect" | "mask" | "references" => None,
            "lastImage" => Some(ImagePlace::Last),
            _ => Some(frame.map_or(ImagePlace::First, ImagePlace::Frame)),
        };
        if place.is_some() || part == "references" {
            media.check_image().map_err(named)?;
        }
        let kind = part.clone();
        let picture = Picture { part, name, media };
        match (place, kind.as_str()) {
            (Some(place), _) => given.images.push((place, picture)),
            (None, "video") => given.video = Some(picture),
            (None, "connect") => given.connect = Some(picture),
            (None, "references") => given.references.push(picture),
            (None, _) => given.mask = Some(picture),
        }
    }
    Ok(given)
}

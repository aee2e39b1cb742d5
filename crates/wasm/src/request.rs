//! What JavaScript asks for as a request of the runtime: the vocabulary and the rules are those of the command line.

use std::path::Path;

use js_sys::{Reflect, Uint8Array};
use kinora_media::{Clip, FrameRate, Need, Part, Source as Media};
use kinora_runtime::conditioning::{Conditioning, Direction, ImagePlace, OVERLAP_FRAMES, PromptParts, Windows};
use kinora_runtime::{Error, GenerateRequest, VideoPipeline};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use wasm_bindgen::JsValue;

use crate::convert::Failure;

/// sRGB behind what is transparent.
const BACKGROUND: [u8; 3] = [255; 3];
/// A day; longer clips are mistakes.
const MAX_SECONDS: f64 = 86_400.0;

/// An image or a clip that comes along; its bytes are beside the request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    /// The part of the prompt that it is.
    part: String,
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

/// An image or a clip under the name of its part.
type Named = (String, Media);

/// A request that can be run, and what it will make.
pub(crate) struct Resolved {
    pub(crate) request: GenerateRequest,
    pub(crate) start: Start,
    /// What may surprise.
    pub(crate) notes: Vec<String>,
}

/// What a clip is made from, once every default is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start {
    prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_prompt: Option<String>,
    negative: String,
    seed: u64,
    model: String,
    width: usize,
    height: usize,
    frames: usize,
    /// Frames of each window, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<usize>,
    fps: f64,
    steps: usize,
    guidance: f32,
    kinora: &'static str,
}

/// Reads the request `options`, whose images and clips are the next of `arrays`.
pub(crate) fn resolve(
    options: &JsValue,
    arrays: &mut dyn Iterator<Item = Uint8Array>,
    pipeline: &VideoPipeline,
) -> Result<Resolved, Failure> {
    let manifest = pipeline.manifest();
    let parts = parts(options, arrays, pipeline)?;
    parts.check()?;
    let text: Option<String> = field(options, "text")?;
    let given = !parts.images.is_empty() || parts.video.is_some();
    let text = text.or_else(|| given.then(String::new)).ok_or_else(|| invalid("prompt", "nothing", "a text, an image or a video"))?;
    let seed: u64 = field(options, "seed")?;
    let mut prompt = text.clone();
    if field::<Option<bool>>(options, "expand")?.unwrap_or_default() {
        prompt = pipeline.expand(&text, seed)?;
    }
    let fps: f64 = field::<Option<f64>>(options, "fps")?.unwrap_or_else(|| manifest.fps.into());
    FrameRate::from_f64(fps).map_err(|error| Failure::new("invalid-request", format!("invalid fps: {error}")))?;
    let rate = FrameRate::from_f64(manifest.fps.into())?;

    let mut request = pipeline.request(prompt);
    request.seed = seed;
    if let Some((_, edited)) = parts.edited() {
        request.frames = pipeline.frames_up_to(edited.frames_at(rate, request.frames)?);
    }
    let mut clip_frames: Option<usize> = field(options, "frames")?;
    if let Some(seconds) = field::<Option<f64>>(options, "durationSeconds")? {
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            return Err(invalid("durationSeconds", &seconds.to_string(), &format!("0 to {MAX_SECONDS}")));
        }
        let frames = ((seconds * fps).round() as usize).max(1);
        // Windows make clips of any length.
        clip_frames = clip_frames.or_else(|| Some(if parts.window.is_some() { frames } else { pipeline.frames_near(frames) }));
    }
    set(&mut request.negative, field(options, "negative")?);
    set(&mut request.width, field(options, "width")?);
    set(&mut request.height, field(options, "height")?);
    set(&mut request.frames, parts.window.or(clip_frames));
    set(&mut request.steps, field(options, "steps")?);
    set(&mut request.guidance.scale, field(options, "guidance")?);
    request.preview_every = field(options, "previewEvery")?;
    // Not after images were scaled to an absurd size.
    pipeline.validate(&request)?;
    let mut notes = Vec::new();
    request.conditioning = conditioning(&parts, &request, rate, pipeline, &mut notes)?;
    let timeline = pipeline.timeline(request.frames)?;
    request.long = parts.long(&request.prompt, timeline, clip_frames);
    pipeline.validate(&request)?;
    let windows = request.long.as_ref().map(|long| Windows { timeline, overlap: long.overlap, clip_frames: long.clip_frames });
    let original = field::<Option<String>>(options, "original")?.unwrap_or(text);
    let start = Start {
        prompt: request.prompt.clone(),
        original_prompt: (original != request.prompt).then_some(original),
        negative: request.negative.clone(),
        seed,
        model: manifest.name.clone(),
        width: request.width,
        height: request.height,
        frames: windows.map_or(request.frames, |windows| windows.clip_frames),
        window: windows.map(|_| request.frames),
        windows: windows.map(|windows| windows.count()).transpose()?,
        fps,
        steps: request.steps,
        guidance: request.guidance.scale,
        kinora: env!("CARGO_PKG_VERSION"),
    };
    Ok(Resolved { request, start, notes })
}

fn parts(options: &JsValue, arrays: &mut dyn Iterator<Item = Uint8Array>, pipeline: &VideoPipeline) -> Result<PromptParts<Named>, Failure> {
    let mut parts = PromptParts {
        extend: field(options, "extend")?,
        repeat: field::<Option<bool>>(options, "loop")?.unwrap_or_default(),
        strength: field(options, "strength")?,
        overlap: field::<Option<usize>>(options, "overlap")?.unwrap_or(OVERLAP_FRAMES),
        window: field(options, "window")?,
        scenes: field::<Option<Vec<String>>>(options, "then")?.unwrap_or_default(),
        ..PromptParts::default()
    };
    for source in field::<Vec<Source>>(options, "sources")? {
        let mut data: Vec<Vec<u8>> = arrays.take(source.arrays).map(|array| array.to_vec()).collect();
        let named = |error: kinora_media::Error| Failure::from(error.in_file(Path::new(&source.part)));
        let media = match (source.width, source.height, data.pop_if(|_| source.width.is_none())) {
            (Some(width), Some(height), _) => {
                let rate = FrameRate::from_f64(source.fps.unwrap_or_else(|| pipeline.manifest().fps.into()))?;
                Clip::new(width, height, rate, data).map(Media::from).map_err(named)?
            }
            (_, _, Some(file)) => Media::decode(file).map_err(named)?,
            _ => return Err(named(kinora_media::Error::NoFrames)),
        };
        if !matches!(source.part.as_str(), "video" | "connect" | "mask") {
            media.check_image().map_err(named)?;
        }
        let part = source.part.clone();
        match (part.as_str(), source.frame) {
            ("video", _) => parts.video = Some((part, media)),
            ("connect", _) => parts.connect = Some((part, media)),
            ("mask", _) => parts.mask = Some((part, media)),
            ("lastImage", _) => parts.images.push((ImagePlace::Last, (part, media))),
            (_, frame) => parts.images.push((ImagePlace::Frame(frame.unwrap_or(0)), (part, media))),
        }
    }
    Ok(parts)
}

fn conditioning(
    parts: &PromptParts<Named>,
    request: &GenerateRequest,
    rate: FrameRate,
    pipeline: &VideoPipeline,
    notes: &mut Vec<String>,
) -> Result<Conditioning, Failure> {
    let [width, height] = [request.width, request.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    parts.conditioning(pipeline.timeline(request.frames)?, &mut |(part, media): &Named, most| {
        notes.extend(media.enlargement_note(part, width, height));
        // What is to go on goes on from its end.
        let from_its_end = part == "video" && (parts.extend == Some(Direction::Forward) || parts.connect.is_some() || parts.repeat);
        let part_of_it = if from_its_end { Part::Last(most) } else { Part::First(most) };
        let need = Need { width, height, rate, part: part_of_it, background: BACKGROUND };
        let taken = media.take(&need).map_err(|error| error.in_file(Path::new(part)))?;
        notes.extend(taken.cut_note(part, &need).filter(|_| part == "video" || part == "connect"));
        Ok(taken.frames)
    })
}

fn set<T>(value: &mut T, asked: Option<T>) {
    if let Some(asked) = asked {
        *value = asked;
    }
}

/// A property by itself, so that the error names it.
fn field<T: DeserializeOwned>(options: &JsValue, name: &str) -> Result<T, Failure> {
    let value = Reflect::get(options, &name.into()).unwrap_or_default();
    serde_wasm_bindgen::from_value(value).map_err(|error| {
        let text = error.to_string();
        Failure::new("invalid-request", format!("invalid {name}: {}", text.trim_start_matches("Error: ")))
    })
}

fn invalid(parameter: &str, found: &str, expected: &str) -> Failure {
    Error::InvalidRequest { parameter: parameter.into(), found: found.into(), expected: expected.into() }.into()
}

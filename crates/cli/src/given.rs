//! Images and clips from files to what the runtime is given.

use std::path::{Path, PathBuf};

use kinora_media::{FrameRate, Need, Part, Source};
use kinora_runtime::{
    GenerateRequest, VideoPipeline,
    conditioning::{Conditioning, Direction, ImagePlace, Long, PromptParts},
};
use serde_json::{Map, Value, json};

use crate::{
    args::{ExtendDirection, GivenArgs},
    failure::Failure,
    generate::shown_path,
};

/// What was opened, before the size of the clip is known.
pub(crate) struct Given {
    parts: PromptParts<Opened>,
    args: GivenArgs,
}

/// A file, and which part of it counts where not all of it does.
struct Opened {
    path: PathBuf,
    source: Source,
    part: fn(usize) -> Part,
    /// Whether to say so.
    tells_cut: bool,
}

impl Opened {
    fn clip(path: &Path, part: fn(usize) -> Part) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), source: Source::open(path)?, part, tells_cut: true })
    }

    fn still(path: &Path) -> Result<Self, Failure> {
        let opened = Self { tells_cut: false, ..Self::clip(path, Part::First)? };
        opened.source.check_image().map_err(|error| error.in_file(path))?;
        Ok(opened)
    }
}

impl Given {
    /// Opens every file, so that a wrong one is found before the model is loaded; pixels are read once their size is known.
    pub(crate) fn open(args: &GivenArgs) -> Result<Self, Failure> {
        let first = args.image.iter().map(|path| (ImagePlace::Frame(0), path));
        let last = args.last_image.iter().map(|path| (ImagePlace::Last, path));
        let keys = args.keyframe.iter().map(|(frame, path)| (ImagePlace::Frame(*frame), path));
        let images = first.chain(last).chain(keys).map(|(place, path)| Ok((place, Opened::still(path)?)));
        let open = |path: &Option<PathBuf>, part| path.as_deref().map(|path| Opened::clip(path, part)).transpose();
        // What is to go on goes on from its end.
        let from_its_end = args.extend == Some(ExtendDirection::Forward) || args.connect.is_some() || args.repeat;
        let parts = PromptParts {
            images: images.collect::<Result<_, Failure>>()?,
            video: open(&args.video, if from_its_end { Part::Last } else { Part::First })?,
            extend: args.extend.map(|direction| match direction {
                ExtendDirection::Forward => Direction::Forward,
                ExtendDirection::Backward => Direction::Backward,
            }),
            connect: open(&args.connect, Part::First)?,
            repeat: args.repeat,
            mask: open(&args.mask, Part::First)?.map(|mask| Opened { tells_cut: false, ..mask }),
            strength: args.strength,
            overlap: args.overlap as usize,
            window: args.window.map(|frames| frames as usize),
            scenes: args.scenes.clone(),
        };
        Ok(Self { parts, args: args.clone() })
    }

    /// Frames of the result where none are asked for: as many as the clip that is changed has.
    pub(crate) fn frames(&self, pipeline: &VideoPipeline) -> Result<Option<usize>, Failure> {
        let Some(edited) = self.parts.edited() else { return Ok(None) };
        let frames = edited.source.frames_at(rate(pipeline)?, pipeline.manifest().default_frames)?;
        Ok(Some(pipeline.frames_up_to(frames)))
    }

    /// What the runtime is given for a request whose size is settled. `note` hears of what may surprise.
    pub(crate) fn conditioning(
        &self,
        request: &GenerateRequest,
        pipeline: &VideoPipeline,
        note: &mut dyn FnMut(String),
    ) -> Result<Conditioning, Failure> {
        let rate = rate(pipeline)?;
        let background = self.args.background.0;
        self.parts
            .conditioning(pipeline.timeline(request.frames)?, &mut |source, most| fitted(source, most, request, rate, background, note))
    }

    /// Whether the clip is made of windows, and of which. `request` is that of one window, `clip_frames` the whole length.
    pub(crate) fn long(
        &self,
        request: &GenerateRequest,
        clip_frames: Option<u32>,
        pipeline: &VideoPipeline,
    ) -> Result<Option<Long>, Failure> {
        let clip_frames = clip_frames.map(|frames| frames as usize);
        Ok(self.parts.long(&request.prompt, pipeline.timeline(request.frames)?, clip_frames))
    }

    /// For the description of `request` that is stored in the file; nothing if nothing was given.
    pub(crate) fn describe(&self, request: &GenerateRequest) -> Option<Value> {
        let args = &self.args;
        let mut given = Map::new();
        for (name, path) in [("image", &args.image), ("lastImage", &args.last_image), ("video", &args.video), ("connect", &args.connect)] {
            given.extend(path.iter().map(|path| (name.to_owned(), json!(shown_path(path)))));
        }
        given.extend(args.mask.iter().map(|path| ("mask".to_owned(), json!(shown_path(path)))));
        if !args.keyframe.is_empty() {
            let keyframes: Map<_, _> = args.keyframe.iter().map(|(frame, path)| (frame.to_string(), json!(shown_path(path)))).collect();
            given.insert("keyframes".to_owned(), keyframes.into());
        }
        if let Some(direction) = args.extend {
            given.insert("extend".to_owned(), json!(if direction == ExtendDirection::Forward { "forward" } else { "backward" }));
        }
        if args.repeat {
            given.insert("loop".to_owned(), json!(true));
        }
        if !args.scenes.is_empty() {
            given.insert("then".to_owned(), json!(args.scenes));
        }
        given.extend(request.long.as_ref().map(|_| ("window".to_owned(), json!(request.frames))));
        if !given.is_empty() {
            given.extend(args.strength.map(|strength| ("strength".to_owned(), json!(strength))));
        }
        (!given.is_empty()).then_some(Value::Object(given))
    }
}

fn rate(pipeline: &VideoPipeline) -> Result<FrameRate, Failure> {
    Ok(FrameRate::from_f64(pipeline.manifest().fps.into())?)
}

/// At most `most` frames of a source in the size of the result.
fn fitted(
    opened: &Opened,
    most: usize,
    request: &GenerateRequest,
    rate: FrameRate,
    background: [u8; 3],
    note: &mut dyn FnMut(String),
) -> Result<Vec<Vec<u8>>, Failure> {
    let Opened { path, source, part, tells_cut } = opened;
    let name = path.display().to_string();
    let [width, height] = [request.width, request.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    if let Some(text) = source.enlargement_note(&name, width, height) {
        note(text);
    }
    let need = Need { width, height, rate, part: part(most), background };
    let taken = source.take(&need)?;
    if let Some(text) = taken.cut_note(&name, &need).filter(|_| *tells_cut) {
        note(text);
    }
    Ok(taken.frames)
}

//! Images and clips from files to what the runtime is given.

use std::path::{Path, PathBuf};

use kinora_media::{Footage, FrameRate};
use kinora_runtime::{
    GenerateRequest, VideoPipeline,
    conditioning::{CLEAN, Conditioning, Direction, FramePlan, Keyframe, Mask, Timeline, Windows, noise_from_strength, tasks},
};
use serde_json::{Map, Value, json};

use crate::{
    args::{ExtendDirection, GivenArgs},
    failure::{Exit, Failure},
};

/// Strength of a clip that is changed, where none is given: its layout stays, its look follows the prompt.
const EDIT_STRENGTH: f32 = 0.4;

/// What was read, before the size of the clip is known.
pub(crate) struct Given {
    stills: Vec<(Place, Source)>,
    clips: Vec<Source>,
    mask: Option<Source>,
    args: GivenArgs,
}

/// A clip made of windows.
pub(crate) struct Long {
    pub(crate) prompts: Vec<String>,
    pub(crate) clip_frames: usize,
    /// Latent frames.
    pub(crate) overlap: usize,
}

/// Where an image stands in the clip.
enum Place {
    Frame(usize),
    Last,
}

struct Source {
    path: PathBuf,
    footage: Footage,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), footage: Footage::open(path)? })
    }

    fn still(path: &Path) -> Result<Self, Failure> {
        let source = Self::open(path)?;
        match source.footage.frames().len() {
            1 => Ok(source),
            frames => {
                let message = format!("`{}` has {frames} frames; expected one image", path.display());
                Err(Failure::new(Exit::Usage, "not-an-image", message).hint("give --video FILE to use a clip"))
            }
        }
    }
}

impl Given {
    /// Reads every file, so that a wrong one is found before the model is loaded.
    pub(crate) fn open(args: &GivenArgs) -> Result<Self, Failure> {
        let first = args.image.iter().map(|path| (Place::Frame(0), path));
        let last = args.last_image.iter().map(|path| (Place::Last, path));
        let keys = args.keyframe.iter().map(|(frame, path)| (Place::Frame(*frame), path));
        let stills = first.chain(last).chain(keys).map(|(place, path)| Ok((place, Source::still(path)?)));
        let clips = args.video.iter().chain(&args.connect).map(|path| Source::open(path));
        Ok(Self {
            stills: stills.collect::<Result<_, Failure>>()?,
            clips: clips.collect::<Result<_, Failure>>()?,
            mask: args.mask.as_deref().map(Source::open).transpose()?,
            args: args.clone(),
        })
    }

    /// Frames of the result where none are asked for: as many as the clip that is changed has.
    pub(crate) fn frames(&self, pipeline: &VideoPipeline) -> Option<usize> {
        let edited = self.clips.first().filter(|_| self.is_edit())?;
        let most = edited.footage.at_rate(rate(pipeline).ok()?).len();
        Some(pipeline.frames_up_to(most.min(pipeline.manifest().default_frames)))
    }

    fn is_edit(&self) -> bool {
        self.args.extend.is_none() && self.args.connect.is_none() && !self.args.repeat
    }

    /// What the runtime is given for a request whose size is settled. `note` hears of what may surprise.
    pub(crate) fn conditioning(
        &self,
        request: &GenerateRequest,
        pipeline: &VideoPipeline,
        note: &mut dyn FnMut(String),
    ) -> Result<Conditioning, Failure> {
        if self.stills.is_empty() && self.clips.is_empty() {
            return Ok(Conditioning::default());
        }
        let timeline = pipeline.timeline(request.frames)?;
        let plan = self.plan(timeline)?;
        let rate = rate(pipeline)?;
        let all = self.stills.iter().map(|(_, source)| source).chain(&self.clips);
        // A clip that is changed is cut to the length of the result; the plan says if it is too short.
        let most = if self.is_edit() { request.frames } else { usize::MAX };
        let mut fit = |source: &Source| fitted(source, most, request, rate, self.args.background.0, note);
        let sources = all.map(&mut fit).collect::<Result<Vec<_>, _>>()?;
        let mask = self.mask.as_ref().map(|mask| {
            let frames = fit(mask)?;
            let noise = noise_from_strength(self.args.strength.unwrap_or(0.0))?;
            Ok::<_, Failure>(Mask { frames: frames.iter().map(|frame| luminance(frame)).collect(), noise })
        });
        Ok(Conditioning { mask: mask.transpose()?, ..Conditioning::new(sources, plan) })
    }

    /// The one place where arguments become a task.
    fn plan(&self, timeline: Timeline) -> Result<FramePlan, Failure> {
        let Timeline { frames, step } = timeline;
        let noise = noise_from_strength(self.args.strength.unwrap_or(1.0))?;
        let overlap = self.overlap(step);
        let plan = match (&self.args.extend, &self.args.connect, self.args.repeat) {
            _ if self.clips.is_empty() => tasks::keyframes(timeline, &self.keyframes(timeline, noise)),
            (Some(ExtendDirection::Forward), ..) => tasks::extend(frames, overlap, Direction::Forward, noise),
            (Some(ExtendDirection::Backward), ..) => tasks::extend(frames, overlap, Direction::Backward, noise),
            (_, Some(_), _) => tasks::connect(frames, [overlap; 2], noise),
            (_, _, true) => tasks::repeat(frames, [overlap; 2], noise),
            // What a mask leaves out is kept; inside it the strength counts.
            _ if self.mask.is_some() => tasks::edit(frames, CLEAN),
            _ => tasks::edit(frames, noise_from_strength(self.args.strength.unwrap_or(EDIT_STRENGTH))?),
        };
        Ok(plan?)
    }

    /// Latent frames in common with a clip or with the window before.
    fn overlap(&self, step: usize) -> usize {
        1 + (self.args.overlap as usize - 1).div_ceil(step)
    }

    /// Whether the clip is made of windows, and of which: prompts, frames of the whole clip, overlap. `request` is that of
    /// one window. Without a whole length there is one window for each prompt.
    pub(crate) fn windows(&self, request: &GenerateRequest, whole: Option<u32>, pipeline: &VideoPipeline) -> Result<Option<Long>, Failure> {
        if self.args.window.is_none() && self.args.scenes.is_empty() {
            return Ok(None);
        }
        let timeline = pipeline.timeline(request.frames)?;
        let overlap = self.overlap(timeline.step);
        let prompts: Vec<String> = [&request.prompt].into_iter().chain(&self.args.scenes).cloned().collect();
        let shared = Timeline { frames: overlap, ..timeline }.clip_frames();
        let each = request.frames + (prompts.len() - 1) * request.frames.saturating_sub(shared);
        let clip_frames = whole.filter(|_| self.args.window.is_some()).map_or(each, |frames| frames as usize);
        let long = Long { prompts, clip_frames, overlap };
        Windows { timeline, overlap, clip_frames }.count()?;
        Ok(Some(long))
    }

    fn keyframes(&self, timeline: Timeline, noise: u16) -> Vec<Keyframe> {
        let frame = |place: &Place| match place {
            Place::Frame(frame) => *frame,
            Place::Last => timeline.clip_frames() - 1,
        };
        self.stills.iter().enumerate().map(|(clip, (place, _))| Keyframe { frame: frame(place), clip, noise }).collect()
    }

    /// For the description that is stored in the file; nothing if nothing was given.
    pub(crate) fn describe(&self) -> Option<Value> {
        let args = &self.args;
        let mut given = Map::new();
        for (name, path) in [("image", &args.image), ("lastImage", &args.last_image), ("video", &args.video), ("connect", &args.connect)] {
            given.extend(path.iter().map(|path| (name.to_owned(), json!(path))));
        }
        given.extend(args.mask.iter().map(|path| ("mask".to_owned(), json!(path))));
        if !args.keyframe.is_empty() {
            let keyframes: Map<_, _> = args.keyframe.iter().map(|(frame, path)| (frame.to_string(), json!(path))).collect();
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
        given.extend(args.window.map(|frames| ("window".to_owned(), json!(frames))));
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
    source: &Source,
    most: usize,
    request: &GenerateRequest,
    rate: FrameRate,
    background: [u8; 3],
    note: &mut dyn FnMut(String),
) -> Result<Vec<Vec<u8>>, Failure> {
    let Source { path, footage } = source;
    let [width, height] = [request.width, request.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    let enlargement = footage.enlargement(width, height);
    if enlargement > 1.0 {
        let (w, h) = (footage.width(), footage.height());
        note(format!("`{}` is {w}x{h}: enlarged {enlargement:.2} times to cover {width}x{height}", path.display()));
    }
    let mut indices = footage.at_rate(rate);
    indices.truncate(most);
    Ok(footage.fitted(&indices, width, height, background)?)
}

/// Luma of BT.601, rounded.
fn luminance(rgba: &[u8]) -> Vec<u8> {
    let luma = |p: &[u8]| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114 + 500) / 1000) as u8;
    rgba.chunks_exact(4).map(luma).collect()
}

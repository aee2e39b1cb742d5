//! [`Metadata`]: what a clip was made from, as files, `--json` and the npm package tell it.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::conditioning::{ImagePlace, Windows};
use crate::error::Result;
use crate::models::family::Doubles;
use crate::pipeline::VideoPipeline;
use crate::request::{CurveName, Draft};
use crate::sampling::guidance::Curve;
use crate::understanding::Unknown;

/// What a clip was made from, once every default is known. What plays no part is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// As it was given to the model.
    pub prompt: String,
    /// As it was written, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_prompt: Option<String>,
    /// The words of the model that were used for it, as in "cat face, nodding, white".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// What the model does not know, each with what is drawn for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Unknown>,
    /// Words of the prompt that the clip does not follow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Images and clips by name, and what was to become of them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub given: Map<String, Value>,
    /// What it must not show.
    pub negative: String,
    /// Chooses the noise.
    pub seed: u64,
    /// Name of the model.
    pub model: String,
    /// Pixels of the finished clip.
    pub width: usize,
    /// Pixels of the finished clip.
    pub height: usize,
    /// That are made, in all windows; a clip that continues another has more. 0 for one without an end.
    pub frames: usize,
    /// Factor of height and width, where it is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscale: Option<usize>,
    /// What did it: `model` or `catmull-rom`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscaled_by: Option<&'static str>,
    /// Factor of the frames per second, where it is not 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolate: Option<usize>,
    /// What did it: `model` or `matching`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolated_by: Option<&'static str>,
    /// Frames of each window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// How many windows there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<usize>,
    /// Frames per second.
    pub fps: f64,
    /// Denoising steps.
    pub steps: usize,
    /// Name of the solver, where it is not the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// Noise levels that the steps start from, where they are not the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigmas: Option<Vec<f32>>,
    /// Shift of the schedule, where it is not the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
    /// Classifier-free guidance; 1 is none.
    pub guidance: f32,
    /// How it grows, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_curve: Option<CurveName>,
    /// How late it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_power: Option<f32>,
    /// Noise levels that are guided, where not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<[f32; 2]>,
    /// Latent channels that are guided, where not all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_channels: Option<usize>,
    /// How strongly a second branch steers, where that is not the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditioning_scale: Option<f32>,
    /// Below which change steps were made from those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_cache: Option<f32>,
    /// How far contrast is given back, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_rescale: Option<f32>,
    /// Version of this program.
    pub kinora: &'static str,
}

impl<S> Draft<S> {
    /// What the clip will be made from; `name` tells the name of an image or clip, `label` that of a model that has none.
    ///
    /// # Errors
    /// Those of windows that cannot be made, which a draft does not have.
    pub fn metadata(&self, pipeline: &VideoPipeline, label: &str, name: &dyn Fn(&S) -> String) -> Result<Metadata> {
        let request = &self.request;
        let windows = match &request.long {
            Some(long) => {
                Some(Windows { timeline: pipeline.timeline(request.frames)?, overlap: long.overlap, clip_frames: long.clip_frames })
            }
            None => None,
        };
        let guidance = &request.guidance;
        let (guidance_curve, guidance_power) = match guidance.curve {
            Curve::Constant => (None, None),
            Curve::Linear => (Some(CurveName::Linear), None),
            Curve::PowerCosine { power } => (Some(CurveName::PowerCosine), Some(power)),
        };
        let refined = |factor: usize, doubles| (Some(factor).filter(|n| *n > 1), (factor > 1).then(|| pipeline.refiner(request, doubles)));
        let (upscale, upscaled_by) = refined(request.upscale, Doubles::Pixels);
        let (interpolate, interpolated_by) = refined(request.interpolate, Doubles::Frames);
        let frames = windows.map_or(Some(request.frames), |windows| windows.clip_frames);
        let own = &pipeline.manifest().name;
        let wording = self.options.wording.clone();
        Ok(Metadata {
            prompt: request.prompt.clone(),
            original_prompt: request.original_prompt.clone(),
            used: wording.as_ref().map(|wording| wording.used.clone()),
            unknown: wording.as_ref().map(|wording| wording.unknown.clone()).unwrap_or_default(),
            ignored: wording.map(|wording| wording.ignored).unwrap_or_default(),
            given: self.given(name),
            negative: request.negative.clone(),
            seed: request.seed,
            model: if own.is_empty() { label.into() } else { own.clone() },
            width: request.width * request.upscale,
            height: request.height * request.upscale,
            frames: frames.map_or(0, |frames| (frames - 1) * request.interpolate + 1),
            upscale,
            upscaled_by,
            interpolate,
            interpolated_by,
            window: windows.map(|_| request.frames),
            windows: windows.map(|windows| windows.count()).transpose()?.flatten(),
            fps: request.fps,
            steps: request.steps,
            sampler: request.sampler.clone(),
            sigmas: request.sigmas.clone(),
            shift: request.shift,
            guidance: guidance.scale,
            guidance_curve,
            guidance_power,
            guidance_interval: Some(guidance.interval).filter(|interval| *interval != [0.0, 1.0]),
            guidance_channels: guidance.channels,
            conditioning_scale: request.conditioning_scale,
            step_cache: request.step_cache,
            guidance_rescale: Some(guidance.rescale).filter(|share| *share != 0.0),
            kinora: env!("CARGO_PKG_VERSION"),
        })
    }

    fn given(&self, name: &dyn Fn(&S) -> String) -> Map<String, Value> {
        let (given, options) = (&self.parts.given, &self.options);
        let mut described = Map::new();
        let mut keyframes = Map::new();
        for (place, image) in &given.images {
            match place {
                ImagePlace::First => described.insert("image".into(), name(image).into()),
                ImagePlace::Last => described.insert("lastImage".into(), name(image).into()),
                ImagePlace::Frame(frame) => keyframes.insert(frame.to_string(), name(image).into()),
            };
        }
        if !keyframes.is_empty() {
            described.insert("keyframes".into(), keyframes.into());
        }
        for (part, source) in [("video", &given.video), ("connect", &given.connect), ("mask", &given.mask)] {
            described.extend(source.iter().map(|source| (part.to_owned(), name(source).into())));
        }
        if !given.references.is_empty() {
            described.insert("references".into(), given.references.iter().map(name).collect());
        }
        let tasks = [
            ("extend", json!(options.extend)),
            ("loop", json!(options.repeat.filter(|repeat| *repeat))),
            // As written: what became of them is among the words used.
            ("then", json!(options.original_then.as_ref().or(options.then.as_ref()).filter(|scenes| !scenes.is_empty()))),
            ("strength", json!(options.strength)),
            ("overlap", json!(options.overlap)),
        ];
        described.extend(tasks.into_iter().filter(|(_, value)| !value.is_null()).map(|(task, value)| (task.to_owned(), value)));
        described
    }
}

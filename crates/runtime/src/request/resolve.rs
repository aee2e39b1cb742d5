//! Options and what a model can do to a request.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Colour, CurveName, FRAME_RATES, GUIDANCE, GUIDANCE_POWERS, GenerateRequest, MAX_SECONDS, Options, SHIFTS, invalid};
use crate::conditioning::{Conditioning, Given, OVERLAP_FRAMES, PromptParts, SourceClip, Wanted};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::models::family::Doubles;
use crate::pipeline::VideoPipeline;
use crate::sampling::guidance::{Curve, Guidance};
use crate::sampling::step_cache;
use crate::shape::size_for_aspect;

/// Power of the cosine where none is given, as in `MDTv2`.
const COSINE_POWER: f32 = 4.0;
/// Beyond these a second branch drowns the first.
const CONDITIONING_SCALES: RangeInclusive<f32> = 0.0..=10.0;
/// Steps from one preview to the next, where nothing is said.
const PREVIEW_STEPS: usize = 2;

/// A request that lacks nothing but the pixels of what it is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft<S> {
    /// The request. Its plan is complete, its sources follow by [`fit`](Self::fit).
    pub request: GenerateRequest,
    pub(crate) options: Options,
    pub(crate) parts: PromptParts<S>,
}

/// How an image or a clip is to be handed over: scaled to cover the frame, unless all of it is wanted, sampled at the model's frame rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// At most so many frames.
    pub frames: usize,
    /// The last ones, not the first.
    pub from_end: bool,
    /// All of each frame, with margins in the colour of the background, instead of what covers the frame.
    pub whole: bool,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// What shows through where it is transparent, in sRGB.
    pub background: [u8; 3],
}

impl Options {
    /// Decides everything that was left open, and checks what can be known before any pixel is looked at and anything is
    /// computed. `length` counts the frames of a clip at the model's frame rate, up to a number; `note` hears of what may surprise.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::InvalidConditioning`], [`Error::Kernels`] for a size beyond
    /// the device, [`Error::InvalidConfig`] for a default that the model itself cannot make; those of `length`.
    pub fn resolve<S, E: From<Error>>(
        self,
        given: Given<S>,
        length: &dyn Fn(&S, usize) -> Result<usize, E>,
        pipeline: &VideoPipeline,
        note: &mut dyn FnMut(String),
    ) -> Result<Draft<S>, E> {
        let manifest = pipeline.manifest();
        let parts = self.parts(given);
        parts.check()?;
        let (prompt, original_prompt) = self.texts(parts.given.is_empty())?;
        let [width, height] = self.size(pipeline, note)?;
        let [upscale, interpolate] = [("upscale", self.upscale), ("interpolate", self.interpolate)].map(factor);
        let (upscale, interpolate) = (upscale?, interpolate?);
        let fps = within("fps", self.fps.unwrap_or_else(|| f64::from(manifest.fps) * interpolate as f64), FRAME_RATES)?;
        let clip_frames = if parts.endless { None } else { self.clip_frames(fps / interpolate as f64, pipeline)? };
        let frames = match (self.window.or(clip_frames), parts.edited()) {
            (Some(frames), _) => frames,
            (None, Some(edited)) => pipeline.compression().frames_up_to(length(edited, manifest.default_frames)?),
            (None, None) => manifest.default_frames,
        };
        let mut request = GenerateRequest {
            prompt,
            original_prompt,
            negative: self.negative.clone().unwrap_or_default(),
            width,
            height,
            frames,
            fps,
            steps: self.steps(manifest.default_steps)?,
            sampler: self.sampler.clone(),
            sigmas: self.sigmas.clone(),
            conditioning_scale: self.conditioning_scale.map(|scale| within("conditioningScale", scale, CONDITIONING_SCALES)).transpose()?,
            step_cache: self.step_cache.map(|threshold| within("stepCache", threshold, step_cache::THRESHOLDS)).transpose()?,
            guidance: self.guidance(manifest)?,
            shift: self.shift.map(|shift| within("shift", shift, SHIFTS)).transpose()?,
            seed: self.seed.unwrap_or_default(),
            latents: None,
            conditioning: Conditioning::default(),
            long: None,
            preview_every: self.preview_every.unwrap_or(PREVIEW_STEPS),
            preview_frames: self.preview_frames.unwrap_or(1),
            upscale,
            interpolate,
        };
        let shape = pipeline.check(&request).map_err(|error| self.blame(error))?;
        pipeline.schedule(&request, &shape)?;
        let timeline = pipeline.timeline(request.frames)?;
        if let Some(plan) = parts.planned(timeline, length)? {
            request.conditioning = Conditioning::new(Vec::new(), plan);
            pipeline.token_noise(&request, shape)?;
        }
        request.long = parts.long(&request.prompt, timeline, clip_frames);
        if let Some(long) = &request.long {
            pipeline.windows(&request, long)?;
        }
        Ok(Draft { request, options: self, parts })
    }

    fn parts<S>(&self, given: Given<S>) -> PromptParts<S> {
        PromptParts {
            given,
            extend: self.extend,
            repeat: self.repeat.unwrap_or_default(),
            strength: self.strength,
            overlap: self.overlap.unwrap_or(OVERLAP_FRAMES),
            window: self.window,
            endless: self.frames == Some(0),
            scenes: self.then.clone().unwrap_or_default(),
        }
    }

    /// The prompt, and what it was before it was worded anew.
    fn texts(&self, needs_text: bool) -> Result<(String, Option<String>)> {
        let written = match &self.prompt {
            Some(text) => text.clone(),
            None if needs_text => return Err(invalid("prompt", &"nothing", "a text, an image or a video")),
            None => String::new(),
        };
        let original = self.original_prompt.clone().filter(|original| *original != written);
        Ok((written, original))
    }

    fn size(&self, pipeline: &VideoPipeline, note: &mut dyn FnMut(String)) -> Result<[usize; 2]> {
        let manifest = pipeline.manifest();
        let Some(ratio) = self.aspect.map(super::Aspect::ratio) else {
            return Ok([self.width.unwrap_or(manifest.default_width), self.height.unwrap_or(manifest.default_height)]);
        };
        if self.width.is_some() || self.height.is_some() {
            return Err(invalid("aspect", &"an aspect beside a size", "one of them"));
        }
        let [_, unit_height, unit_width] = pipeline.compression().token();
        let area = manifest.default_width.saturating_mul(manifest.default_height);
        let [width, height] = size_for_aspect(ratio, area, [unit_width, unit_height]);
        if width * ratio[1] != height * ratio[0] {
            note(format!("{}:{} becomes {width}x{height}, the nearest size of this model", ratio[0], ratio[1]));
        }
        Ok([width, height])
    }

    /// Frames that are asked for, in all windows.
    fn clip_frames(&self, fps: f64, pipeline: &VideoPipeline) -> Result<Option<usize>> {
        let Some(seconds) = self.duration_seconds else { return Ok(self.frames) };
        let frames = ((within("durationSeconds", seconds, 0.0..=MAX_SECONDS)? * fps).round() as usize).max(1);
        // Windows make clips of any length.
        let nearest = if self.window.is_some() { frames } else { pipeline.compression().frames_near(frames) };
        Ok(Some(self.frames.unwrap_or(nearest)))
    }

    /// As many as there are levels of noise to start them from.
    fn steps(&self, default: usize) -> Result<usize> {
        let Some(sigmas) = &self.sigmas else { return Ok(self.steps.unwrap_or(default)) };
        let falls = sigmas.windows(2).all(|pair| pair[1] < pair[0]);
        if sigmas.is_empty() || !falls || !sigmas.iter().all(|sigma| *sigma > 0.0 && *sigma <= 1.0) {
            return Err(invalid("sigmas", &format!("{sigmas:?}"), "falling noise levels from 1 to above 0"));
        }
        match self.steps.filter(|steps| *steps != sigmas.len()) {
            Some(steps) => Err(invalid("sigmas", &format!("{} for {steps} steps", sigmas.len()), "one for each step")),
            None => Ok(sigmas.len()),
        }
    }

    fn guidance(&self, manifest: &Manifest) -> Result<Guidance> {
        let default = manifest.guidance(manifest.default_guidance);
        let curve = match (self.guidance_curve, self.guidance_power) {
            (Some(CurveName::PowerCosine), power) => {
                Curve::PowerCosine { power: within("guidancePower", power.unwrap_or(COSINE_POWER), GUIDANCE_POWERS)? }
            }
            (_, Some(power)) => return Err(invalid("guidancePower", &power, "none without the curve power-cosine")),
            (Some(CurveName::Linear), None) => Curve::Linear,
            (Some(CurveName::Constant), None) => Curve::Constant,
            (None, None) => default.curve,
        };
        Ok(Guidance {
            scale: within("guidance", self.guidance.unwrap_or(default.scale), GUIDANCE)?,
            curve,
            interval: self.guidance_interval.unwrap_or([0.0, 1.0]),
            channels: self.guidance_channels.or(default.channels),
            rescale: self.guidance_rescale.unwrap_or_default(),
        })
    }

    /// Who is to blame for a shape that cannot be made: where nothing was said about it, the model.
    fn blame(&self, error: Error) -> Error {
        let asked = [self.width, self.height, self.frames, self.window].iter().any(Option::is_some)
            || self.aspect.is_some()
            || self.duration_seconds.is_some();
        match error {
            Error::InvalidRequest { parameter, found, expected }
                if !asked && ["size", "width", "height", "frames"].contains(&&*parameter) =>
            {
                let problem = format!("the default {parameter} is {found}, expected {expected}");
                Error::InvalidConfig { file: "model_index.json".into(), problem }
            }
            error => error,
        }
    }
}

impl<S> Draft<S> {
    /// The request with the pixels of what it is given, which `fit` hands out.
    ///
    /// # Errors
    /// Those of `fit`, and [`Error::InvalidConditioning`] for a mask that paints nothing.
    pub fn fit<E: From<Error>>(
        self,
        pipeline: &VideoPipeline,
        fit: &mut dyn FnMut(&S, &Fit) -> Result<SourceClip, E>,
    ) -> Result<GenerateRequest, E> {
        let mut request = self.request;
        let Colour(background) = self.options.background.unwrap_or(Colour::WHITE);
        let [width, height] = [request.width, request.height];
        let timeline = pipeline.timeline(request.frames)?;
        let mut sized = |scale: usize| {
            self.parts.conditioning(timeline, &mut |source, wanted| {
                let Wanted { frames, from_end, whole } = wanted;
                fit(source, &Fit { frames, from_end, whole, width: scale * width, height: scale * height, background })
            })
        };
        let in_two_passes = request.conditioning.plan.is_some() && pipeline.is_in_latents(&request, Doubles::Pixels);
        let larger = if in_two_passes { Some(Box::new(sized(2)?)) } else { None };
        request.conditioning = Conditioning { larger, ..sized(1)? };
        pipeline.validate(&request)?;
        Ok(request)
    }
}

/// How many become of one.
fn factor((parameter, factor): (&str, Option<usize>)) -> Result<usize> {
    match factor.unwrap_or(1) {
        factor @ 1..=2 => Ok(factor),
        other => Err(invalid(parameter, &other, "1 or 2")),
    }
}

fn within<T: PartialOrd + Copy + Display>(parameter: &str, value: T, range: RangeInclusive<T>) -> Result<T> {
    // Not a number lies in no range.
    match range.contains(&value) {
        true => Ok(value),
        false => Err(invalid(parameter, &value, format!("{} to {}", range.start(), range.end()))),
    }
}

//! What a denoiser is given beside its tokens: features of frames that are known, and pictures that it looks at.

use kinora_kernels::{Cadence, CancelToken, Device, Graph, Plan};

use super::VideoPipeline;
use super::job::led;
use crate::conditioning::{CLEAN, FramePlan, PURE_NOISE, is_painted};
use crate::error::{Error, Result};
use crate::executables::Key;
#[cfg(feature = "families")]
use crate::models::causal::Causal;
use crate::models::family::{Direction, Given, ImageEncoder, Pictures};
use crate::request::GenerateRequest;
use crate::sampling::denoise::Expert;
use crate::sampling::tokens;
use crate::shape::LatentShape;

impl VideoPipeline {
    /// How its denoiser goes through a clip block by block, if it does.
    #[cfg(feature = "families")]
    pub(super) fn causal(&self) -> Option<Causal> {
        self.experts[0].denoiser.causal()
    }

    /// Whether a long clip needs no windows.
    pub(super) fn goes_on_alone(&self) -> bool {
        #[cfg(feature = "families")]
        return self.causal().is_some();
        #[cfg(not(feature = "families"))]
        false
    }

    /// How the denoisers are given frames, all in the same way.
    pub(super) fn given(&self) -> Given {
        // Families of the core module know no other way, and pages need not download what follows from one.
        if cfg!(feature = "families") { self.experts[0].denoiser.given() } else { Given::Tokens }
    }

    /// The pictures that are looked at, and what encodes them.
    fn looks_at(&self) -> Option<(Pictures, &dyn ImageEncoder)> {
        let own = |expert: &Expert| if cfg!(feature = "families") { expert.denoiser.pictures() } else { None };
        let pictures = self.experts.iter().find_map(own);
        pictures.zip(self.image_encoder.as_deref())
    }

    /// Refuses what a model that is given frames beside its tokens cannot be given, or needs and is not.
    pub(super) fn check_given(&self, request: &GenerateRequest) -> Result<()> {
        let refuse = |parameter: &str, found: &str, expected: &str, remedy| {
            let (parameter, found, expected) = (parameter.into(), found.into(), expected.into());
            Err(Error::InvalidConditioning { parameter, found, expected, remedy })
        };
        let control = matches!(self.given(), Given::Control(_));
        if !control && !request.conditioning.references.is_empty() {
            return refuse("reference", "images", "none: this model looks at no references", "leave them out, or use a VACE model");
        }
        if self.given() == Given::Tokens {
            return Ok(());
        }
        let Some(plan) = &request.conditioning.plan else {
            if control {
                return Ok(());
            }
            return refuse("image", "text alone", "an image or a clip", "give an image, or use a text-to-video model");
        };
        if request.conditioning.mask.as_ref().is_some_and(|mask| !control || mask.noise != PURE_NOISE) {
            if control {
                return refuse("strength", "above 0 inside the mask", "0: this model makes it anew", "leave strength out");
            }
            return refuse("mask", "a region", "whole frames, which is all this model can be given", "leave the mask out");
        }
        if plan.frames.iter().any(|frame| frame.source.is_some() && frame.noise != CLEAN) {
            return refuse("strength", "less than 1", "1: this model is told which frames it is given, not how far", "leave strength out");
        }
        let has = |frame: Option<&crate::conditioning::LatentFrame>| frame.is_some_and(|frame| frame.source.is_some());
        match self.looks_at() {
            Some((Pictures { count: 2, .. }, _)) if !(has(plan.frames.first()) && has(plan.frames.last())) => {
                refuse("image", "not both ends of the clip", "the first frame and the last", "give an image and a last image")
            }
            Some(_) if !has(plan.frames.first()) => {
                refuse("image", "no first frame", "the first frame, which this model looks at", "give an image to begin with")
            }
            _ => Ok(()),
        }
    }

    /// The frames that are known, each as the source and the frame of it.
    fn known(&self, request: &GenerateRequest) -> Result<Vec<Option<[usize; 2]>>> {
        let conditioning = &request.conditioning;
        let generated = FramePlan::generated(self.timeline(request.frames)?.frames);
        conditioning.plan.as_ref().unwrap_or(&generated).known(self.compression.latent[0], &conditioning.lengths())
    }

    /// What is given beside each token `[L, G]`.
    pub(super) async fn features(&self, request: &GenerateRequest, shape: LatentShape, cancel: &CancelToken) -> Result<Vec<f32>> {
        let known = self.known(request)?;
        let nothing = vec![0; 4 * request.width * request.height];
        let sources = &request.conditioning.sources;
        let frames: Vec<&[u8]> =
            known.iter().map(|known| known.map_or(nothing.as_slice(), |[clip, frame]| &sources[clip][frame])).collect();
        let mut parts: Vec<Vec<f32>> = Vec::new();
        if let Given::Control(_) = self.given() {
            let made = |frame: usize| known[frame].map(|_| request.conditioning.mask.as_ref().map(|mask| mask.frame(frame)));
            for replaced in [false, true] {
                let part = |(at, frame): (usize, &&[u8])| match made(at) {
                    Some(None) if replaced => nothing.clone(),
                    Some(Some(luminance)) => only(frame, |pixel| is_painted(luminance[pixel]) == replaced),
                    _ => frame.to_vec(),
                };
                let kept: Vec<Vec<u8>> = frames.iter().enumerate().map(part).collect();
                parts.push(self.encode_frames(&kept.iter().map(Vec::as_slice).collect::<Vec<_>>(), shape, cancel).await?);
            }
            parts.push(pixels_made(shape, self.compression.latent, known.len(), &|frame, pixel| match made(frame) {
                None => true,
                Some(luminance) => luminance.is_some_and(|luminance| is_painted(luminance[pixel])),
            }));
        } else {
            parts.push(frames_known(shape, self.compression.latent[0], &known.iter().map(Option::is_some).collect::<Vec<_>>()));
            parts.push(self.encode_frames(&frames, shape, cancel).await?);
        }
        let [length, height, width] = shape.grid;
        // References are kept, and come before the clip, the last one first.
        let mut lead = Vec::new();
        for image in &request.conditioning.references {
            let own = self.encode_frames(&[image.as_slice()], shape.first_frame(), cancel).await?;
            lead = if lead.is_empty() { own } else { led(&own, &lead, shape.channels) };
        }
        let length = length + request.conditioning.references.len();
        let features: Vec<f32> = if lead.is_empty() {
            parts.concat()
        } else {
            let frame = |part: &Vec<f32>| part.len() / (shape.grid[0] * height * width);
            let before = |(at, part): (usize, &Vec<f32>)| {
                let nothing = vec![0.0; lead.len() / shape.channels * frame(part)];
                led(if at == 0 { &lead } else { &nothing }, part, frame(part))
            };
            parts.iter().enumerate().flat_map(before).collect()
        };
        let channels = features.len() / (length * height * width);
        Ok(tokens::pack(&features, [channels, length, height, width], self.compression.packing))
    }

    /// Latents of frames, once more on another device if one is lost.
    async fn encode_frames(&self, frames: &[&[u8]], shape: LatentShape, cancel: &CancelToken) -> Result<Vec<f32>> {
        self.on_device(async |device: &Device| self.coder(Direction::Encode, device).encode(frames, shape, cancel).await).await
    }

    /// Features of the same size where nothing is known.
    pub(super) fn no_features(&self, shape: LatentShape) -> Vec<f32> {
        match self.given() {
            Given::Tokens => Vec::new(),
            Given::Channels(channels) | Given::Control(channels) => vec![0.0; channels * shape.grid.iter().product::<usize>()],
        }
    }

    /// States of the pictures that the denoisers look at: the first frame of what is given and, of two, the last.
    pub(super) async fn picture_states(&self, request: &GenerateRequest, cancel: &CancelToken) -> Result<Vec<f32>> {
        let Some((pictures, encoder)) = self.looks_at() else { return Ok(Vec::new()) };
        let known = self.known(request)?;
        let ends = [known.first(), known.last()].into_iter().take(pictures.count).flatten().flatten();
        let size = [request.height, request.width];
        let patches: Vec<f32> =
            ends.flat_map(|[clip, frame]| encoder.patches(&request.conditioning.sources[*clip][*frame], size)).collect();
        let encode = async |device: &Device| {
            let key = Key::Pictures(pictures.count);
            let mut exec = self.executables.take(key, device, cancel, || picture_plan(encoder, pictures.count))?;
            exec.write("patches", &patches)?;
            exec.run().await?;
            let states = exec.read("states").await?;
            if states.iter().any(|v| !v.is_finite()) {
                exec.find_non_finite().await?;
            } else {
                self.executables.keep(exec);
            }
            Ok(states)
        };
        self.on_device(encode).await
    }

    /// States of as many rows.
    pub(super) fn no_pictures(&self) -> Vec<f32> {
        self.looks_at().map_or(Vec::new(), |(pictures, encoder)| vec![0.0; pictures.count * encoder.tokens() * encoder.width()])
    }

    /// The plan that encodes the pictures, if any are looked at.
    pub(super) fn picture_stage(&self) -> Result<Option<(Key, Graph)>> {
        let stage = |(pictures, encoder): (Pictures, &dyn ImageEncoder)| {
            Ok((Key::Pictures(pictures.count), picture_plan(encoder, pictures.count)?))
        };
        self.looks_at().map(stage).transpose()
    }
}

/// Of each frame that a latent stands for whether it is known, `[step, F, H, W]`. The first latent frame stands for one frame alone,
/// which counts as all of its own.
fn frames_known(shape: LatentShape, step: usize, known: &[bool]) -> Vec<f32> {
    let [length, height, width] = shape.grid;
    let frame = |channel: usize, latent: usize| if latent == 0 { 0 } else { 1 + step * (latent - 1) + channel };
    let of = |channel: usize| (0..length).map(move |latent| frame(channel, latent));
    (0..step).flat_map(of).flat_map(|frame| std::iter::repeat_n(f32::from(u8::from(known[frame])), height * width)).collect()
}

/// Of each pixel that a latent stands for whether it is made, `[rows·columns, F, H, W]`, in the nearest of so many frames.
fn pixels_made(shape: LatentShape, [_, rows, columns]: [usize; 3], frames: usize, made: &dyn Fn(usize, usize) -> bool) -> Vec<f32> {
    let [length, height, width] = shape.grid;
    let mut out = Vec::with_capacity(rows * columns * length * height * width);
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        for latent in 0..length {
            // The middle of what the latent frame takes of the clip, if all take the same.
            let frame = ((latent as f32 + 0.5) * (frames as f32 / length as f32)) as usize;
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let pixel = (y * rows + row) * width * columns + x * columns + column;
                out.push(f32::from(u8::from(made(frame.min(frames - 1), pixel))));
            }
        }
    }
    out
}

/// The frame where `stays` says so, nothing elsewhere.
fn only(frame: &[u8], stays: impl Fn(usize) -> bool) -> Vec<u8> {
    frame
        .chunks_exact(4)
        .enumerate()
        .flat_map(|(at, pixel)| if stays(at) { [pixel[0], pixel[1], pixel[2], pixel[3]] } else { [0; 4] })
        .collect()
}

/// The plan from `patches` to `states` of so many pictures.
fn picture_plan(encoder: &dyn ImageEncoder, count: usize) -> Result<Graph> {
    let plan = Plan::new();
    let patches = plan.input("patches", &[count * encoder.tokens(), encoder.patch_features()], Cadence::Once);
    plan.output("states", plan.scope("image_encoder", || encoder.record(&plan, patches)));
    Ok(plan.finish()?)
}

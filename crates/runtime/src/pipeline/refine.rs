//! Finished frames to more and larger ones: the stages of a model's cascade, or what stands in for them.

use kinora_kernels::{Cadence, CancelToken, Device, Graph, Plan, WeightFormat};

use super::decode::read_rgba;
use super::load::second_stage;
use super::{Generated, VideoPipeline};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::executables::{Executables, Key};
use crate::manifest::Index;
use crate::matching::between;
use crate::models::component::Component;
#[cfg(feature = "families")]
use crate::models::family::LatentStage;
use crate::models::family::{Doubles, SecondStage};
use crate::nn::CatmullRom;
use crate::request::GenerateRequest;

/// Pixels of a window of frames, over all of them: more give larger plans, fewer compute more frames twice.
const WINDOW_PIXELS: usize = 1 << 20;

/// What doubles the frames and the pixels of a clip.
pub(super) struct Refiners {
    stages: Vec<Box<dyn SecondStage>>,
    #[cfg(feature = "families")]
    pub(super) latent_stages: Vec<Box<dyn LatentStage>>,
    larger: CatmullRom,
    window_pixels: usize,
}

impl Refiners {
    /// The stages in `folders`, loaded by `component`. Lists of a model's files may leave them out: it makes clips without them.
    pub(super) fn load(
        folders: &[String],
        component: &dyn Fn(&str) -> Result<Component>,
        format: WeightFormat,
        index: &Index,
    ) -> Result<Self> {
        let mut stages: Vec<Box<dyn SecondStage>> = Vec::new();
        #[cfg(feature = "families")]
        let mut latent_stages = Vec::new();
        for folder in folders {
            match component(folder) {
                Err(Error::NotFound { .. }) => {}
                #[cfg(feature = "families")]
                Ok(Component::LatentStage(stage)) => latent_stages.push(stage),
                found => stages.push(second_stage(found?, index)?),
            }
        }
        Ok(Self {
            stages,
            #[cfg(feature = "families")]
            latent_stages,
            larger: CatmullRom::new(format),
            window_pixels: WINDOW_PIXELS,
        })
    }

    /// Refuses a stage for latents of other channels than there are.
    pub(super) fn check_latents(&self, channels: usize, index: &Index) -> Result<()> {
        #[cfg(feature = "families")]
        if let Some(found) = self.latent_stages.iter().map(|stage| stage.latent_channels()).find(|found| *found != channels) {
            let problem = format!("`kinora.cascade`: expected a stage for the {channels} latent channels of vae, found one for {found}");
            return Err(index.invalid(problem));
        }
        #[cfg(not(feature = "families"))]
        let _ = (channels, index);
        Ok(())
    }

    /// The model's own stage.
    fn stage(&self, doubles: Doubles) -> Option<&dyn SecondStage> {
        self.stages.iter().map(AsRef::as_ref).find(|stage| stage.doubles() == doubles)
    }

    /// The plan from `frames [1, F, H, W, 3]`, and a `guess` of those between, to `rgba [F', H'·W']`.
    fn plan(&self, doubles: Doubles, [frames, height, width]: [usize; 3]) -> Result<Graph> {
        let plan = Plan::new();
        let x = plan.input("frames", &[1, frames, height, width, 3], Cadence::Once);
        let guess = (doubles == Doubles::Frames).then(|| plan.input("guess", &[1, frames - 1, height, width, 3], Cadence::Once));
        let y = plan.scope(doubles.name(), || match self.stage(doubles) {
            Some(stage) => stage.record(&plan, x, guess, plan.constant(&[1, 1], &[stage.level()])),
            None => guess.unwrap_or_else(|| self.larger.forward(x)),
        });
        plan.output("rgba", y.reshape(&y.shape().dims()[1..]).rgba());
        Ok(plan.finish()?)
    }

    /// Frames of a window of a clip of these extents.
    fn window(&self, doubles: Doubles, [frames, height, width]: [usize; 3]) -> usize {
        let reach = self.reach(doubles);
        (self.window_pixels / (height * width).max(1)).max(2 * reach + 2).min(frames)
    }

    /// How far from an end of a window its results are wrong.
    fn reach(&self, doubles: Doubles) -> usize {
        self.stage(doubles).map_or(0, SecondStage::reach)
    }

    /// The frames larger, or those between, in windows of equal length so that memory does not grow with the clip.
    async fn double(
        &self,
        doubles: Doubles,
        frames: &[Vec<u8>],
        [height, width]: [usize; 2],
        (device, executables): (&Device, &Executables),
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<u8>>> {
        let (fewer, area) = if doubles == Doubles::Frames { (1, 1) } else { (0, 4) };
        if doubles == Doubles::Frames && self.stage(doubles).is_none() {
            return Ok(frames.windows(2).map(|pair| mean_bytes(&between(&pair[0], &pair[1], [height, width]))).collect());
        }
        let extents = [self.window(doubles, [frames.len(), height, width]), height, width];
        let (length, reach) = (extents[0], self.reach(doubles));
        let mut made = Vec::with_capacity(frames.len() - fewer);
        while made.len() < frames.len() - fewer {
            let mut exec = executables.take(Key::Refine(doubles, extents), device, cancel, || self.plan(doubles, extents))?;
            let start = made.len().saturating_sub(reach).min(frames.len() - length);
            let given = &frames[start..start + length];
            exec.write("frames", &values(given))?;
            if fewer == 1 {
                exec.write("guess", &given.windows(2).flat_map(|pair| guess(&pair[0], &pair[1], [height, width])).collect::<Vec<_>>())?;
            }
            exec.run().await?;
            let window = read_rgba(&mut exec, area * height * width).await?;
            executables.keep(exec);
            // The clip's own end is seen as it is; another end of a window is not.
            let usable = if start + length == frames.len() { window.len() } else { window.len() - reach };
            made.extend(window.into_iter().take(usable).skip(made.len() - start));
        }
        Ok(made)
    }
}

impl VideoPipeline {
    /// What doubles the frames or pixels of the clip of `request`: `model`, or the name of what stands in for it.
    pub fn refiner(&self, request: &GenerateRequest, doubles: Doubles) -> &'static str {
        if self.is_in_latents(request, doubles) {
            return "model";
        }
        match (self.refiners.stage(doubles), doubles) {
            (Some(_), _) => "model",
            (None, Doubles::Frames) => "matching",
            (None, Doubles::Pixels) => "catmull-rom",
        }
    }

    /// What is asked for that is done to finished frames.
    fn wanted(&self, request: &GenerateRequest) -> impl Iterator<Item = Doubles> {
        asked(request).filter(|doubles| !self.is_in_latents(request, *doubles))
    }

    /// Whether anything is asked for that needs all finished frames.
    pub(super) fn is_refined(&self, request: &GenerateRequest) -> bool {
        self.wanted(request).next().is_some()
    }

    /// Refuses a size that a stage which is asked for cannot take.
    pub(super) fn check_refined(&self, request: &GenerateRequest) -> Result<()> {
        for doubles in self.wanted(request) {
            let multiple = self.refiners.stage(doubles).map_or(1, SecondStage::multiple);
            if ![request.width, request.height].iter().all(|side| side.is_multiple_of(multiple)) {
                let (found, expected) = (format!("{}x{}", request.width, request.height), format!("a size of multiples of {multiple}"));
                return Err(Error::InvalidRequest { parameter: doubles.name().into(), found, expected });
            }
        }
        Ok(())
    }

    /// What `clip` becomes by what `request` asks for besides.
    pub(super) async fn refined(
        &self,
        request: &GenerateRequest,
        mut clip: Generated,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Generated> {
        for doubles in self.wanted(request) {
            let frames = if doubles == Doubles::Frames { 2 * clip.frames.len() - 1 } else { clip.frames.len() };
            on_event(Event::Refine { stage: doubles.name(), by: self.refiner(request, doubles), frames });
            let size = [clip.height, clip.width];
            let double =
                async |device: &Device| self.refiners.double(doubles, &clip.frames, size, (device, &self.executables), cancel).await;
            let frames = self.on_device(double).await?;
            clip = clip.doubled(doubles, frames);
        }
        Ok(clip)
    }

    /// The plans of refining a clip of these extents, and how often each runs.
    pub(super) fn refine_plans(&self, request: &GenerateRequest, frames: usize) -> Result<Vec<(usize, Graph)>> {
        let stages = self.refine_stages(request, frames)?;
        let count = |key: &Key| {
            let Key::Refine(doubles, [length, ..]) = key else { return 1 };
            let frames = if *doubles == Doubles::Pixels && request.interpolate > 1 { 2 * frames - 1 } else { frames };
            (frames - length).div_ceil(length - (2 * self.refiners.reach(*doubles)).min(length - 1)) + 1
        };
        Ok(stages.into_iter().map(|(key, graph)| (count(&key), graph)).collect())
    }

    /// The plans that refine a clip of so many frames.
    pub(super) fn refine_stages(&self, request: &GenerateRequest, frames: usize) -> Result<Vec<(Key, Graph)>> {
        let [mut frames, height, width] = self.decoded_extents(request, frames);
        let mut plans = Vec::new();
        for doubles in self.wanted(request) {
            let length = self.refiners.window(doubles, [frames, height, width]);
            let extents = [length, height, width];
            // What matching finds is found on the host.
            if doubles == Doubles::Pixels || (frames > 1 && self.refiners.stage(doubles).is_some()) {
                plans.push((Key::Refine(doubles, extents), self.refiners.plan(doubles, extents)?));
            }
            frames = if doubles == Doubles::Frames { 2 * frames - 1 } else { frames };
        }
        Ok(plans)
    }
}

/// What is asked for, in the order of the least work: new frames are made while they are small.
pub(super) fn asked(request: &GenerateRequest) -> impl Iterator<Item = Doubles> {
    let interpolate = (request.interpolate > 1).then_some(Doubles::Frames);
    interpolate.into_iter().chain((request.upscale > 1).then_some(Doubles::Pixels))
}

/// RGBA bytes to colours in −1..1.
fn values(frames: &[Vec<u8>]) -> Vec<f32> {
    let pixels = frames.iter().flat_map(|frame| frame.chunks_exact(4));
    pixels.flat_map(|pixel| pixel[..3].iter().map(|value| f32::from(*value) / 127.5 - 1.0)).collect()
}

/// The frame between two, in −1..1.
fn guess(before: &[u8], after: &[u8], extents: [usize; 2]) -> Vec<f32> {
    between(before, after, extents).into_iter().flatten().map(|twice| f32::from(twice) / 255.0 - 1.0).collect()
}

/// RGBA bytes of colours of twice the range.
fn mean_bytes(pixels: &[[u16; 3]]) -> Vec<u8> {
    pixels.iter().flat_map(|pixel| pixel.map(|twice| twice.div_ceil(2) as u8).into_iter().chain([255])).collect()
}

impl Generated {
    fn doubled(self, doubles: Doubles, new: Vec<Vec<u8>>) -> Self {
        match doubles {
            Doubles::Pixels => Self { width: 2 * self.width, height: 2 * self.height, frames: new, ..self },
            Doubles::Frames => {
                let decoded = 2 * self.decoded.start..(2 * self.decoded.end).saturating_sub(1);
                let mut between = new.into_iter();
                let frames = self.frames.into_iter().flat_map(|frame| [Some(frame), between.next()]).flatten().collect();
                Self { fps: 2.0 * self.fps, frames, decoded, ..self }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The stages of the fixtures.
    fn refiners(window_pixels: usize) -> Refiners {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cascade");
        let component = |name: &str| Component::open(&folder.join(name), WeightFormat::F32);
        let folders = ["interpolate", "upscale"].map(String::from);
        let refiners = Refiners::load(&folders, &component, WeightFormat::F32, &Index::default()).expect("the fixtures");
        Refiners { window_pixels, ..refiners }
    }

    fn clip(frames: usize, pixels: usize) -> Vec<Vec<u8>> {
        let byte = |frame: usize, at: usize| ((frame * 37 + at * 11 + frame * at % 7) % 256) as u8;
        (0..frames).map(|frame| (0..4 * pixels).map(|at| byte(frame, at)).collect()).collect()
    }

    #[test]
    fn windows_make_what_a_whole_clip_is_made_into() {
        let (device, cancel, frames) = (Device::cpu(), CancelToken::default(), clip(17, 8 * 16));
        for doubles in [Doubles::Frames, Doubles::Pixels] {
            let made = |window_pixels: usize| {
                let executables = Executables::default();
                let (refiners, runner) = (refiners(window_pixels), (&device, &executables));
                let made = pollster::block_on(refiners.double(doubles, &frames, [8, 16], runner, &cancel));
                (made.expect("finite weights"), executables.made())
            };
            let ((whole, _), (windows, plans)) = (made(usize::MAX), made(1));
            assert_eq!(whole.len(), if doubles == Doubles::Frames { 16 } else { 17 }, "{doubles:?}");
            assert!(whole == windows, "{doubles:?}: windows differ from the whole clip");
            assert_eq!(plans, 1, "{doubles:?}: one plan serves all windows");
        }
    }

    #[test]
    fn short_clips_are_made_too() {
        let (device, cancel, executables) = (Device::cpu(), CancelToken::default(), Executables::default());
        let count = |doubles, frames| {
            let (refiners, frames) = (refiners(1), clip(frames, 64));
            let made = refiners.double(doubles, &frames, [8, 8], (&device, &executables), &cancel);
            pollster::block_on(made).expect("finite weights").len()
        };
        assert_eq!(count(Doubles::Frames, 1), 0, "nothing lies between");
        assert_eq!(count(Doubles::Frames, 2), 1);
        assert_eq!(count(Doubles::Pixels, 1), 1);
    }
}

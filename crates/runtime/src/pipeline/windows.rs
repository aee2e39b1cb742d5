//! Generations longer than one window: each window continues the frames of the one before.

use kinora_kernels::CancelToken;

use super::decode::each;
use super::{Generated, VideoPipeline};
use crate::conditioning::{Conditioning, Long, Windows};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::request::GenerateRequest;
use crate::sampling::noise;

impl VideoPipeline {
    /// The windows of a clip, if it can be made of them.
    pub(crate) fn windows(&self, request: &GenerateRequest, long: &Long) -> Result<Windows> {
        let invalid = |parameter: &str, found, expected: &str, remedy| {
            Err(Error::InvalidConditioning { parameter: parameter.into(), found, expected: expected.into(), remedy })
        };
        let Long { scenes, clip_frames, overlap } = long;
        if let Some(frames) = clip_frames.filter(|frames| *frames < request.frames) {
            let found = format!("{} frames for a clip of {frames}", request.frames);
            return invalid("window", found, "no more than the clip has", "make a longer clip, or shorter windows");
        }
        if clip_frames.is_none() && self.is_refined(request) {
            let found = "a clip without an end that is refined once it is whole".into();
            return invalid("frames", found, "a number of frames", "leave out upscale and interpolate, or say how many frames");
        }
        let windows = Windows { timeline: self.timeline(request.frames)?, overlap: *overlap, clip_frames: *clip_frames };
        let count = windows.count()?;
        if self.goes_on_alone() {
            return Ok(windows);
        }
        if count.is_none_or(|count| count > 1) {
            // Whether the model can go on is known before the first window is made.
            self.conditioned_noise(&Conditioning::new(Vec::new(), windows.continuation()?), self.check(request)?)?;
        }
        if let Some(count) = count.filter(|count| scenes.len() > *count) {
            let found = format!("{} scenes for {count} windows", scenes.len());
            return invalid("scenes", found, "at least one window for each", "make a longer clip, shorter windows or fewer scenes");
        }
        if request.conditioning.plan.as_ref().is_some_and(|plan| plan.joints.after.is_some()) {
            let expected = "nothing after it, since other windows follow";
            return invalid("windows", "a clip that follows the first".into(), expected, "connect, loop and extend backward in one window");
        }
        Ok(windows)
    }

    /// [`generate`](Self::generate), window by window, each of which is given to `sink` when it is there, but for what the next one
    /// replaces. What the request is given belongs to the first one; the latents returned are the last one's. A clip without an
    /// end goes on until it is stopped.
    pub(super) async fn generate_windows(
        &self,
        request: &GenerateRequest,
        long: &Long,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Generated> {
        if !self.is_refined(request) {
            return self.each_window(request, long, cancel, on_event, sink).await;
        }
        let mut frames = Vec::new();
        let keep = &mut async |frame| {
            frames.push(frame);
            Ok(())
        };
        let made = self.each_window(request, long, cancel, on_event, keep).await?;
        let mut refined = self.refined(request, Generated { frames, ..made }, cancel, on_event).await?;
        each(std::mem::take(&mut refined.frames), sink).await?;
        Ok(refined)
    }

    async fn each_window(
        &self,
        request: &GenerateRequest,
        long: &Long,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
        sink: &mut impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Generated> {
        let windows = self.windows(request, long)?;
        let (count, shared) = (windows.count()?, windows.shared_frames());
        let mut made = self.window(request, None, &long.scenes, (0, count), on_event, cancel).await?;
        let start = made.decoded.start;
        let end = long.clip_frames.map(|frames| start + frames);
        let mut given = 0;
        for window in 1.. {
            let is_last = count.is_some_and(|count| window >= count);
            let mut tail = made.frames.split_off(if is_last { made.frames.len() } else { made.frames.len() - shared });
            let most = end.map_or(usize::MAX, |end| end - given);
            made.frames.truncate(most);
            given += made.frames.len();
            each(std::mem::take(&mut made.frames), sink).await?;
            if is_last {
                break;
            }
            // Stream 0 is the first window's; equal noise would repeat its motion.
            let latents = Some(noise::normal(request.seed, window as u64, self.check(request)?.elements()));
            let references = request.conditioning.references.clone();
            let conditioning = Conditioning { references, ..Conditioning::new(vec![tail], windows.continuation()?) };
            let mut next = GenerateRequest { latents, conditioning, ..request.clone() };
            match self.window(&next, Some(&made), &long.scenes, (window, count), on_event, cancel).await {
                // That is how a clip without an end ends: with the frames that no other window replaces.
                Err(Error::Cancelled) if count.is_none() => {
                    tail = next.conditioning.sources.swap_remove(0);
                    given += tail.len();
                    each(tail, sink).await?;
                    break;
                }
                next => made = next?,
            }
        }
        Ok(Generated { decoded: start..given, ..made })
    }

    /// One window, under the prompt of its scene; its events count over all windows, where somebody knows how many there are.
    async fn window(
        &self,
        request: &GenerateRequest,
        before: Option<&Generated>,
        scenes: &[String],
        (window, count): (usize, Option<usize>),
        on_event: &mut dyn FnMut(Event),
        cancel: &CancelToken,
    ) -> Result<Generated> {
        let scene = scenes.get(Windows::scene(window, count, scenes.len())).unwrap_or(&request.prompt);
        let own = GenerateRequest { prompt: scene.clone(), ..request.clone() };
        let on_window = &mut |event| match event {
            Event::Step { step, steps, reused, preview } => {
                let (before, all) = count.map_or((0, steps), |count| (window * steps, count * steps));
                on_event(Event::Step { step: step + before, steps: all, reused, preview });
            }
            Event::Text { .. } if window == 0 => on_event(event),
            Event::Decode { .. } if count == Some(window + 1) => on_event(event),
            _ => {}
        };
        self.continued(&own, before, cancel, on_window).await
    }

    /// Frames of the finished clip, those of the clips that it continues included; nothing for one without an end.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] for sources that do not fit the plan.
    pub fn finished_frames(&self, request: &GenerateRequest) -> Result<Option<usize>> {
        let Some(made) = request.long.as_ref().map_or(Some(request.frames), |long| long.clip_frames) else { return Ok(None) };
        let outside = match &request.conditioning.plan {
            Some(plan) => plan.outside(self.compression.latent[0], &request.conditioning.lengths())?.map(|frames| frames.len()),
            None => [0; 2],
        };
        let frames = made + outside.iter().sum::<usize>();
        Ok(Some(if request.interpolate > 1 { 2 * frames - 1 } else { frames }))
    }
}

//! Generations longer than one window: each window continues the frames of the one before.

use kinora_kernels::CancelToken;

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
        if *clip_frames < request.frames {
            let found = format!("{} frames for a clip of {clip_frames}", request.frames);
            return invalid("window", found, "no more than the clip has", "make a longer clip, or shorter windows");
        }
        let windows = Windows { timeline: self.timeline(request.frames)?, overlap: *overlap, clip_frames: *clip_frames };
        let count = windows.count()?;
        if scenes.len() > count {
            let found = format!("{} scenes for {count} windows", scenes.len());
            return invalid("scenes", found, "at least one window for each", "make a longer clip, shorter windows or fewer scenes");
        }
        if request.conditioning.plan.as_ref().is_some_and(|plan| plan.joints.after.is_some()) {
            let expected = "nothing after it, since other windows follow";
            return invalid("windows", "a clip that follows the first".into(), expected, "connect, loop and extend backward in one window");
        }
        Ok(windows)
    }

    /// [`generate`](Self::generate), window by window. What the request is given belongs to the first one; the latents
    /// returned are the last one's.
    pub(super) async fn generate_windows(
        &self,
        request: &GenerateRequest,
        long: &Long,
        cancel: &CancelToken,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Generated> {
        let Long { scenes, clip_frames, .. } = long;
        let windows = self.windows(request, long)?;
        let count = windows.count()?;
        let mut whole = self.window(request, None, scenes, [0, count], on_event, cancel).await?;
        for window in 1..count {
            let tail = whole.frames[whole.frames.len() - windows.shared_frames()..].to_vec();
            // Stream 0 is the first window's; equal noise would repeat its motion.
            let latents = Some(noise::normal(request.seed, window as u64, self.check(request)?.elements()));
            let conditioning = Conditioning::new(vec![tail], windows.continuation()?);
            let next = GenerateRequest { latents, conditioning, ..request.clone() };
            let next = self.window(&next, Some(&whole), scenes, [window, count], on_event, cancel).await?;
            whole = whole.followed_by(next, windows.shared_frames());
        }
        let end = (whole.decoded.start + clip_frames).min(whole.frames.len());
        whole.frames.truncate(end);
        whole.decoded.end = end;
        Ok(whole)
    }

    /// One window, under the prompt of its scene; its events count over all windows.
    async fn window(
        &self,
        request: &GenerateRequest,
        before: Option<&Generated>,
        scenes: &[String],
        [window, count]: [usize; 2],
        on_event: &mut dyn FnMut(Event),
        cancel: &CancelToken,
    ) -> Result<Generated> {
        let scene = scenes.get(Windows::scene(window, count, scenes.len())).unwrap_or(&request.prompt);
        let own = GenerateRequest { prompt: scene.clone(), ..request.clone() };
        let on_window = &mut |event| match event {
            Event::Step { step, steps, preview } => on_event(Event::Step { step: step + window * steps, steps: count * steps, preview }),
            Event::Text { .. } if window == 0 => on_event(event),
            Event::Decode { .. } if window + 1 == count => on_event(event),
            _ => {}
        };
        self.continued(&own, before, cancel, on_window).await
    }
}

impl Generated {
    /// The clip with its last `shared` frames replaced by `next`, which begins with them.
    fn followed_by(mut self, next: Self, shared: usize) -> Self {
        self.frames.truncate(self.frames.len() - shared);
        self.frames.extend(next.frames);
        let decoded = self.decoded.start..self.frames.len();
        Self { frames: self.frames, decoded, ..next }
    }
}

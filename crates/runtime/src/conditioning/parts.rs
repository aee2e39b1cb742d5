//! The parts of a prompt besides text, in the words of the command line and of the npm package, and the task they mean.

use super::{CLEAN, Conditioning, Direction, FramePlan, Keyframe, Long, Mask, SourceClip, Timeline, invalid, noise_from_strength, tasks};
use crate::error::{Error, Result};

/// Strength of a clip that is changed, where none is given: its layout stays, its look follows the prompt.
const EDIT_STRENGTH: f32 = 0.4;

/// Where an image stands in the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePlace {
    /// At this frame, from 0.
    Frame(usize),
    /// Where the clip ends.
    Last,
}

/// What a prompt has besides text. `S` is an image or a clip in whatever form the caller has it; pixels are asked for when the
/// size of the result is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptParts<S> {
    /// Images and where they stand.
    pub images: Vec<(ImagePlace, S)>,
    /// The clip to work from.
    pub video: Option<S>,
    /// Into which time it goes on.
    pub extend: Option<Direction>,
    /// The clip to be reached from it.
    pub connect: Option<S>,
    /// Whether it is to repeat without a cut.
    pub repeat: bool,
    /// White where it may change.
    pub mask: Option<S>,
    /// How much of what is given stays: 1 all, 0 nothing. By default 1, where a clip is changed 0.4, inside a mask 0.
    pub strength: Option<f32>,
    /// Frames that new frames have in common with what they follow or lead to.
    pub overlap: usize,
    /// Frames of each window that a longer clip is made of.
    pub window: Option<usize>,
    /// What happens next, in order: prompts that go on where the one before ends.
    pub scenes: Vec<String>,
}

/// [`PromptParts::overlap`] where none is given.
pub const OVERLAP_FRAMES: usize = 5;

impl<S> PromptParts<S> {
    /// The clip that is changed itself, so that the result is as long as it.
    pub fn edited(&self) -> Option<&S> {
        self.video.as_ref().filter(|_| self.extend.is_none() && self.connect.is_none() && !self.repeat)
    }

    /// Latent frames in common with a clip, or with the window before, of `step` frames each.
    pub fn overlap(&self, step: usize) -> usize {
        1 + self.overlap.saturating_sub(1).div_ceil(step)
    }

    /// Whether the clip is made of windows, and of which; `window` is the timeline of one. `clip_frames` are those of the whole
    /// clip where windows have a length of their own; else there is one window for each prompt.
    pub fn long(&self, prompt: &str, window: Timeline, clip_frames: Option<usize>) -> Option<Long> {
        if self.window.is_none() && self.scenes.is_empty() {
            return None;
        }
        let overlap = self.overlap(window.step);
        let each = window.clip_frames();
        let shared = Timeline { frames: overlap, ..window }.clip_frames();
        let one_for_each = each + self.scenes.len() * each.saturating_sub(shared);
        let clip_frames = clip_frames.filter(|_| self.window.is_some()).unwrap_or(one_for_each);
        let scenes = [prompt].into_iter().chain(self.scenes.iter().map(String::as_str)).map(str::to_owned).collect();
        Some(Long { scenes, clip_frames, overlap })
    }

    /// What the runtime is given for a clip of this length. `fit` hands out at most so many frames of a source, as RGBA bytes
    /// in the size of the result.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] for parts that contradict each other or do not fit the clip, and those of `fit`.
    pub fn conditioning<E: From<Error>>(
        &self,
        timeline: Timeline,
        fit: &mut dyn FnMut(&S, usize) -> Result<SourceClip, E>,
    ) -> Result<Conditioning, E> {
        self.check()?;
        if self.images.is_empty() && self.video.is_none() {
            return Ok(Conditioning::default());
        }
        let plan = self.plan(timeline)?;
        // A clip that is changed is cut to the length of the result; the plan says if it is too short.
        let most = if self.edited().is_some() { timeline.clip_frames() } else { usize::MAX };
        let all = self.images.iter().map(|(_, image)| image).chain(&self.video).chain(&self.connect);
        let sources = all.map(|source| fit(source, most)).collect::<Result<Vec<_>, E>>()?;
        let mask = match &self.mask {
            Some(mask) => Some(Mask::from_rgba(&fit(mask, most)?, noise_from_strength(self.strength.unwrap_or(0.0))?)),
            None => None,
        };
        Ok(Conditioning { mask, ..Conditioning::new(sources, plan) })
    }

    /// The one place where the parts become a task.
    fn plan(&self, timeline: Timeline) -> Result<FramePlan> {
        let Timeline { frames, step } = timeline;
        let noise = noise_from_strength(self.strength.unwrap_or(1.0))?;
        let overlap = self.overlap(step);
        match self.extend {
            _ if self.video.is_none() => tasks::keyframes(timeline, &self.keyframes(timeline, noise)),
            Some(direction) => tasks::extend(frames, overlap, direction, noise),
            None if self.connect.is_some() => tasks::connect(frames, [overlap; 2], noise),
            None if self.repeat => tasks::repeat(frames, [overlap; 2], noise),
            // What a mask leaves out is kept; inside it the strength counts.
            None if self.mask.is_some() => tasks::edit(frames, CLEAN),
            None => tasks::edit(frames, noise_from_strength(self.strength.unwrap_or(EDIT_STRENGTH))?),
        }
    }

    fn keyframes(&self, timeline: Timeline, noise: u16) -> Vec<Keyframe> {
        let frame = |place: &ImagePlace| match place {
            ImagePlace::Frame(frame) => *frame,
            ImagePlace::Last => timeline.clip_frames() - 1,
        };
        self.images.iter().enumerate().map(|(clip, (place, _))| Keyframe { frame: frame(place), clip, noise }).collect()
    }

    /// Parts that contradict each other, or miss the clip that they are about.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] saying which.
    pub fn check(&self) -> Result<()> {
        let tasks =
            [("extend", self.extend.is_some()), ("connect", self.connect.is_some()), ("loop", self.repeat), ("mask", self.mask.is_some())];
        let asked: Vec<&str> = tasks.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
        let contradiction = |found: &str, expected: &str, remedy| Err(invalid("prompt", found.into(), expected.into(), remedy));
        match asked.as_slice() {
            [first, second, ..] => {
                let found = format!("both {first} and {second}");
                return contradiction(&found, "one of extend, connect, loop and mask", "make one clip after the other");
            }
            [one] if self.video.is_none() => {
                return contradiction(&format!("{one} without a video"), "the clip that it is about", "give the clip as `video`");
            }
            _ if self.video.is_some() && !self.images.is_empty() => {
                return contradiction("both images and a video", "either of them", "leave one of them out");
            }
            _ => {}
        }
        match self.overlap {
            0 => Err(invalid("overlap", "0 frames".into(), "1 or more".into(), "a clip goes on from at least one frame")),
            _ => Ok(()),
        }
    }
}

impl<S> Default for PromptParts<S> {
    fn default() -> Self {
        Self {
            images: Vec::new(),
            video: None,
            extend: None,
            connect: None,
            repeat: false,
            mask: None,
            strength: None,
            overlap: OVERLAP_FRAMES,
            window: None,
            scenes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMELINE: Timeline = Timeline { frames: 5, step: 4 };

    /// Sources are white clips of so many frames.
    fn conditioning(parts: &PromptParts<usize>) -> Result<Conditioning> {
        parts.conditioning(TIMELINE, &mut |frames, most| Ok(vec![vec![255; 4]; most.min(*frames)]))
    }

    fn with_video() -> PromptParts<usize> {
        PromptParts { video: Some(20), ..PromptParts::default() }
    }

    #[test]
    fn every_task_has_its_plan_and_sources() {
        let noise = |strength: f32| noise_from_strength(strength).expect("within range");
        for (name, parts, plan, lengths) in [
            (
                "first and last",
                PromptParts { images: vec![(ImagePlace::Frame(0), 1), (ImagePlace::Last, 1)], ..PromptParts::default() },
                tasks::keyframes(TIMELINE, &[(0, 0), (16, 1)].map(|(frame, clip)| Keyframe { frame, clip, noise: CLEAN })),
                vec![1, 1],
            ),
            (
                "keyframe",
                PromptParts { images: vec![(ImagePlace::Frame(8), 1)], strength: Some(0.9), ..PromptParts::default() },
                tasks::keyframes(TIMELINE, &[Keyframe { frame: 8, clip: 0, noise: 100 }]),
                vec![1],
            ),
            (
                "extend",
                PromptParts { extend: Some(Direction::Backward), overlap: 6, ..with_video() },
                tasks::extend(5, 3, Direction::Backward, CLEAN),
                vec![20],
            ),
            ("connect", PromptParts { connect: Some(9), ..with_video() }, tasks::connect(5, [2, 2], CLEAN), vec![20, 9]),
            ("loop", PromptParts { repeat: true, ..with_video() }, tasks::repeat(5, [2, 2], CLEAN), vec![20]),
            ("edit", with_video(), tasks::edit(5, noise(0.4)), vec![17]),
            ("mask", PromptParts { mask: Some(1), strength: Some(0.3), ..with_video() }, tasks::edit(5, CLEAN), vec![17]),
        ] {
            let found = conditioning(&parts).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.plan.as_ref(), Some(&plan.expect("possible")), "{name}");
            assert_eq!(found.lengths(), lengths, "{name}");
            assert_eq!(found.mask.map(|mask| (mask.noise, mask.frames)), parts.mask.map(|_| (700, vec![vec![255]])), "{name}");
        }
        assert_eq!(conditioning(&PromptParts::default()).expect("text alone"), Conditioning::default(), "nothing given");
    }

    #[test]
    fn windows_are_asked_for_by_their_length_or_by_further_prompts() {
        let long = |window, scenes: &[&str], clip_frames| {
            let parts = PromptParts::<usize> { window, scenes: scenes.iter().copied().map(str::to_owned).collect(), ..Default::default() };
            parts.long("a", TIMELINE, clip_frames).map(|long| (long.scenes.join(" "), long.clip_frames, long.overlap))
        };
        assert_eq!(long(None, &[], Some(17)), None, "one window");
        // 17 frames of which 5, two latent frames, are those of the window before.
        assert_eq!(long(None, &["b", "c"], Some(17)), Some(("a b c".into(), 17 + 12 + 12, 2)), "one window for each prompt");
        assert_eq!(long(Some(17), &["b"], Some(64)), Some(("a b".into(), 64, 2)), "as long as asked for");
        assert_eq!(long(Some(17), &[], None), Some(("a".into(), 17, 2)), "no longer than a window");
    }

    #[test]
    fn contradictions_say_what_they_are() {
        let image = vec![(ImagePlace::Last, 1)];
        for (parts, expected) in [
            (PromptParts { mask: Some(1), ..PromptParts::default() }, "mask without a video"),
            (PromptParts { extend: Some(Direction::Forward), images: image.clone(), ..PromptParts::default() }, "extend without a video"),
            (PromptParts { images: image, ..with_video() }, "both images and a video"),
            (PromptParts { connect: Some(9), repeat: true, ..with_video() }, "both connect and loop"),
            (PromptParts { repeat: true, mask: Some(1), ..with_video() }, "both loop and mask"),
            (PromptParts { overlap: 0, ..with_video() }, "overlap"),
            (PromptParts { strength: Some(1.5), ..with_video() }, "strength"),
            (PromptParts { images: vec![(ImagePlace::Frame(17), 1)], ..PromptParts::default() }, "keyframe"),
        ] {
            let error = conditioning(&parts).expect_err(expected);
            assert_eq!(error.code(), "invalid-conditioning", "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

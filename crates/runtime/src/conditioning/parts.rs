//! The parts of a prompt besides text, in the words of the command line and of the npm package, and the task they mean.

use super::{CLEAN, Conditioning, Direction, FramePlan, Keyframe, Long, Mask, SourceClip, Timeline, invalid, noise_from_strength, tasks};
use crate::error::{Error, Result};

/// Strength of a clip that is changed, where none is given: its layout stays, its look follows the prompt.
const EDIT_STRENGTH: f32 = 0.4;

/// Where an image stands in the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePlace {
    /// Where the clip begins.
    First,
    /// At this frame, from 0.
    Frame(usize),
    /// Where the clip ends.
    Last,
}

/// Images and clips that a prompt has besides text. `S` is one of them in whatever form the caller has it; pixels are asked for
/// when the size of the result is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<S> {
    /// Images and where they stand.
    pub images: Vec<(ImagePlace, S)>,
    /// The clip to work from.
    pub video: Option<S>,
    /// The clip to be reached from it.
    pub connect: Option<S>,
    /// White where it may change.
    pub mask: Option<S>,
    /// Images of what is to appear in the clip.
    pub references: Vec<S>,
}

/// What a prompt has besides text, and what is to become of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptParts<S> {
    /// The images and clips.
    pub given: Given<S>,
    /// Into which time the clip goes on.
    pub extend: Option<Direction>,
    /// Whether it is to repeat without a cut.
    pub repeat: bool,
    /// How much of what is given stays: 1 all, 0 nothing. By default 1, where a clip is changed 0.4, inside a mask 0.
    pub strength: Option<f32>,
    /// Frames that new frames have in common with what they follow or lead to.
    pub overlap: usize,
    /// Frames of each window that a longer clip is made of.
    pub window: Option<usize>,
    /// Windows follow each other until they are stopped.
    pub endless: bool,
    /// What happens next, in order: prompts that go on where the one before ends.
    pub scenes: Vec<String>,
}

/// Which frames of a source are wanted, at the model's frame rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// At most so many.
    pub frames: usize,
    /// The last ones, not the first.
    pub from_end: bool,
    /// All of each frame, with margins, not what covers the size of the result.
    pub whole: bool,
}

/// [`PromptParts::overlap`] where none is given.
pub const OVERLAP_FRAMES: usize = 5;

impl<S> Given<S> {
    /// Whether there is nothing to work from.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.video.is_none()
    }

    /// The same of borrowed sources.
    pub fn as_ref(&self) -> Given<&S> {
        Given {
            images: self.images.iter().map(|(place, image)| (*place, image)).collect(),
            video: self.video.as_ref(),
            connect: self.connect.as_ref(),
            mask: self.mask.as_ref(),
            references: self.references.iter().collect(),
        }
    }
}

impl<S> PromptParts<S> {
    /// The clip that is changed itself, so that the result is as long as it.
    pub fn edited(&self) -> Option<&S> {
        self.given.video.as_ref().filter(|_| self.extend.is_none() && self.given.connect.is_none() && !self.repeat)
    }

    /// Latent frames in common with a clip, or with the window before, of `step` frames each.
    pub fn overlap(&self, step: usize) -> usize {
        1 + self.overlap.saturating_sub(1).div_ceil(step)
    }

    /// Whether the clip is made of windows, and of which; `window` is the timeline of one. `clip_frames` are those of the whole
    /// clip where windows have a length of their own; else there is one window for each prompt.
    pub fn long(&self, prompt: &str, window: Timeline, clip_frames: Option<usize>) -> Option<Long> {
        if self.window.is_none() && self.scenes.is_empty() && !self.endless {
            return None;
        }
        let overlap = self.overlap(window.step);
        let each = window.clip_frames();
        let shared = Timeline { frames: overlap, ..window }.clip_frames();
        let one_for_each = each + self.scenes.len() * each.saturating_sub(shared);
        let clip_frames = clip_frames.filter(|_| self.window.is_some()).unwrap_or(one_for_each);
        let clip_frames = (!self.endless).then_some(clip_frames);
        let scenes = [prompt].into_iter().chain(self.scenes.iter().map(String::as_str)).map(str::to_owned).collect();
        Some(Long { scenes, clip_frames, overlap })
    }

    /// The plan of a clip of this length; nothing for text alone. `length` tells how many frames a clip has, counted up to a number.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] for parts that contradict each other or do not fit the clip, and those of `length`.
    pub(crate) fn planned<E: From<Error>>(
        &self,
        timeline: Timeline,
        length: &dyn Fn(&S, usize) -> Result<usize, E>,
    ) -> Result<Option<FramePlan>, E> {
        self.check()?;
        if self.given.is_empty() {
            return Ok(None);
        }
        let plan = self.plan(timeline)?;
        // How long a clip is that is continued only reading it all would tell.
        if let Some(edited) = self.edited() {
            plan.outside(timeline.step, &[length(edited, timeline.clip_frames())?])?;
        }
        Ok(Some(plan))
    }

    /// What the runtime is given for a clip of this length. `fit` hands out what is wanted of a source, as RGBA bytes in the size of
    /// the result.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] for parts that contradict each other or do not fit the clip, and those of `fit`.
    pub fn conditioning<E: From<Error>>(
        &self,
        timeline: Timeline,
        fit: &mut dyn FnMut(&S, Wanted) -> Result<SourceClip, E>,
    ) -> Result<Conditioning, E> {
        self.check()?;
        let first = Wanted { frames: usize::MAX, from_end: false, whole: false };
        let mut references = Vec::new();
        for reference in &self.given.references {
            references.extend(fit(reference, Wanted { frames: 1, whole: true, ..first })?);
        }
        if self.given.is_empty() {
            return Ok(Conditioning { references, ..Conditioning::default() });
        }
        let plan = self.plan(timeline)?;
        // A clip that is changed is cut to the length of the result; the plan says if it is too short.
        let frames = if self.edited().is_some() { timeline.clip_frames() } else { usize::MAX };
        let first = Wanted { frames, ..first };
        // What is to go on goes on from its end.
        let goes_on = self.extend == Some(Direction::Forward) || self.given.connect.is_some() || self.repeat;
        let Given { images, video, connect, mask, .. } = &self.given;
        let images = images.iter().map(|(_, image)| (image, first));
        let clips =
            video.iter().map(|video| (video, Wanted { from_end: goes_on, ..first })).chain(connect.iter().map(|clip| (clip, first)));
        // What the frames of a plan count, in this order.
        let sources = images.chain(clips).map(|(source, wanted)| fit(source, wanted)).collect::<Result<Vec<_>, E>>()?;
        let mask = match mask {
            Some(mask) => Some(Mask::from_rgba(&fit(mask, first)?, noise_from_strength(self.strength.unwrap_or(0.0))?)),
            None => None,
        };
        Ok(Conditioning { mask, references, ..Conditioning::new(sources, plan) })
    }

    /// The one place where the parts become a task.
    fn plan(&self, timeline: Timeline) -> Result<FramePlan> {
        let Timeline { frames, step } = timeline;
        let noise = noise_from_strength(self.strength.unwrap_or(1.0))?;
        let overlap = self.overlap(step);
        match self.extend {
            _ if self.given.video.is_none() => tasks::keyframes(timeline, &self.keyframes(timeline, noise)),
            Some(direction) => tasks::extend(frames, overlap, direction, noise),
            None if self.given.connect.is_some() => tasks::connect(frames, [overlap; 2], noise),
            None if self.repeat => tasks::repeat(frames, [overlap; 2], noise),
            // What a mask leaves out is kept; inside it the strength counts.
            None if self.given.mask.is_some() => tasks::edit(frames, CLEAN),
            None => tasks::edit(frames, noise_from_strength(self.strength.unwrap_or(EDIT_STRENGTH))?),
        }
    }

    fn keyframes(&self, timeline: Timeline, noise: u16) -> Vec<Keyframe> {
        let frame = |place: &ImagePlace| match place {
            ImagePlace::First => 0,
            ImagePlace::Frame(frame) => *frame,
            ImagePlace::Last => timeline.clip_frames() - 1,
        };
        self.given.images.iter().enumerate().map(|(clip, (place, _))| Keyframe { frame: frame(place), clip, noise }).collect()
    }

    /// Parts that contradict each other, or miss the clip that they are about.
    ///
    /// # Errors
    /// [`Error::InvalidConditioning`] saying which.
    pub fn check(&self) -> Result<()> {
        let Given { images, video, connect, mask, .. } = &self.given;
        let tasks = [("extend", self.extend.is_some()), ("connect", connect.is_some()), ("loop", self.repeat), ("mask", mask.is_some())];
        let asked: Vec<&str> = tasks.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
        let contradiction = |found: &str, expected: &str, remedy| Err(invalid("prompt", found.into(), expected.into(), remedy));
        match asked.as_slice() {
            [first, second, ..] => {
                let found = format!("both {first} and {second}");
                return contradiction(&found, "one of extend, connect, loop and mask", "make one clip after the other");
            }
            [one] if video.is_none() => {
                return contradiction(&format!("{one} without a video"), "the clip that it is about", "give the clip as `video`");
            }
            _ if video.is_some() && !images.is_empty() => {
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

impl<S> Default for Given<S> {
    fn default() -> Self {
        Self { images: Vec::new(), video: None, connect: None, mask: None, references: Vec::new() }
    }
}

impl<S> Default for PromptParts<S> {
    fn default() -> Self {
        Self {
            given: Given::default(),
            extend: None,
            repeat: false,
            strength: None,
            overlap: OVERLAP_FRAMES,
            window: None,
            endless: false,
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
        parts.conditioning(TIMELINE, &mut |frames, wanted| Ok(vec![vec![255; 4]; wanted.frames.min(*frames)]))
    }

    fn with(given: Given<usize>) -> PromptParts<usize> {
        PromptParts { given, ..PromptParts::default() }
    }

    fn images(images: &[(ImagePlace, usize)]) -> PromptParts<usize> {
        with(Given { images: images.to_vec(), ..Given::default() })
    }

    fn video() -> Given<usize> {
        Given { video: Some(20), ..Given::default() }
    }

    #[test]
    fn every_task_has_its_plan_and_sources() {
        let noise = |strength: f32| noise_from_strength(strength).expect("within range");
        for (name, parts, plan, lengths) in [
            (
                "first and last",
                images(&[(ImagePlace::First, 1), (ImagePlace::Last, 1)]),
                tasks::keyframes(TIMELINE, &[(0, 0), (16, 1)].map(|(frame, clip)| Keyframe { frame, clip, noise: CLEAN })),
                vec![1, 1],
            ),
            (
                "keyframe",
                PromptParts { strength: Some(0.9), ..images(&[(ImagePlace::Frame(8), 1)]) },
                tasks::keyframes(TIMELINE, &[Keyframe { frame: 8, clip: 0, noise: 100 }]),
                vec![1],
            ),
            (
                "extend",
                PromptParts { extend: Some(Direction::Backward), overlap: 6, ..with(video()) },
                tasks::extend(5, 3, Direction::Backward, CLEAN),
                vec![20],
            ),
            ("connect", with(Given { connect: Some(9), ..video() }), tasks::connect(5, [2, 2], CLEAN), vec![20, 9]),
            ("loop", PromptParts { repeat: true, ..with(video()) }, tasks::repeat(5, [2, 2], CLEAN), vec![20]),
            ("edit", with(video()), tasks::edit(5, noise(0.4)), vec![17]),
            ("mask", PromptParts { strength: Some(0.3), ..with(Given { mask: Some(1), ..video() }) }, tasks::edit(5, CLEAN), vec![17]),
        ] {
            let found = conditioning(&parts).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(found.plan.as_ref(), Some(&plan.expect("possible")), "{name}");
            assert_eq!(found.lengths(), lengths, "{name}");
            let planned = parts.planned(TIMELINE, &|frames, most| Ok::<_, Error>(most.min(*frames)));
            assert_eq!(planned.unwrap_or_else(|error| panic!("{name}: {error}")), found.plan, "{name}, without pixels");
            assert_eq!(found.mask.map(|mask| (mask.noise, mask.frames)), parts.given.mask.map(|_| (700, vec![vec![255]])), "{name}");
        }
        assert_eq!(conditioning(&PromptParts::default()).expect("text alone"), Conditioning::default(), "nothing given");
    }

    #[test]
    fn windows_are_asked_for_by_their_length_or_by_further_prompts() {
        let long = |window, scenes: &[&str], clip_frames| {
            let parts = PromptParts::<usize> { window, scenes: scenes.iter().copied().map(str::to_owned).collect(), ..Default::default() };
            parts.long("a", TIMELINE, clip_frames).map(|long| (long.scenes.join(" "), long.clip_frames, long.overlap))
        };
        let long = |window, scenes: &[&str], clip_frames| long(window, scenes, clip_frames).map(|(a, b, c)| (a, b.unwrap_or(0), c));
        assert_eq!(long(None, &[], Some(17)), None, "one window");
        // 17 frames of which 5, two latent frames, are those of the window before.
        assert_eq!(long(None, &["b", "c"], Some(17)), Some(("a b c".into(), 17 + 12 + 12, 2)), "one window for each prompt");
        assert_eq!(long(Some(17), &["b"], Some(64)), Some(("a b".into(), 64, 2)), "as long as asked for");
        assert_eq!(long(Some(17), &[], None), Some(("a".into(), 17, 2)), "no longer than a window");
        let endless = PromptParts::<usize> { endless: true, ..Default::default() }.long("a", TIMELINE, None);
        assert_eq!(endless.map(|long| long.clip_frames), Some(None), "until it is stopped");
    }

    #[test]
    fn contradictions_say_what_they_are() {
        let image = vec![(ImagePlace::Last, 1)];
        for (parts, expected) in [
            (with(Given { mask: Some(1), ..Given::default() }), "mask without a video"),
            (PromptParts { extend: Some(Direction::Forward), ..images(&image) }, "extend without a video"),
            (with(Given { images: image, ..video() }), "both images and a video"),
            (PromptParts { repeat: true, ..with(Given { connect: Some(9), ..video() }) }, "both connect and loop"),
            (PromptParts { repeat: true, ..with(Given { mask: Some(1), ..video() }) }, "both loop and mask"),
            (PromptParts { overlap: 0, ..with(video()) }, "overlap"),
            (PromptParts { strength: Some(1.5), ..with(video()) }, "strength"),
            (images(&[(ImagePlace::Frame(17), 1)]), "keyframe"),
        ] {
            let error = conditioning(&parts).expect_err(expected);
            assert_eq!(error.code(), "invalid-conditioning", "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

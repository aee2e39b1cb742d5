//! Which frames of the sources are encoded for a plan, and which frames of the sources the result goes on with.

use std::ops::Range;

use super::{CLEAN, FramePlan, Timeline, invalid};
use crate::error::Result;

/// A run of latent frames that is encoded at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which source.
    pub clip: usize,
    /// Its frames to encode, `1 + step·n` of them.
    pub clip_frames: Vec<usize>,
    /// Encoded latent frames to leave out: the encoder treats the first frame alone, so a segment that starts later in the
    /// plan is led by the frame before it.
    pub lead: usize,
    /// Latent frames of the plan that the rest becomes.
    pub latent_frames: Range<usize>,
}

impl Segment {
    /// Latent frames that are encoded: one of an image that takes the place of none.
    pub(crate) fn encoded_frames(&self) -> usize {
        (self.lead + self.latent_frames.len()).max(1)
    }

    /// Whether its frames are those of the finished clip.
    pub(crate) fn is_kept(&self, plan: &FramePlan) -> bool {
        !self.latent_frames.is_empty() && plan.frames[self.latent_frames.clone()].iter().all(|frame| frame.noise == CLEAN)
    }
}

impl FramePlan {
    /// What to encode, of sources with so many frames each, at `step` frames per latent frame.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) for a source that is missing or too short.
    pub fn segments(&self, step: usize, lengths: &[usize]) -> Result<Vec<Segment>> {
        self.runs().into_iter().map(|run| self.segment(run, step, lengths)).collect()
    }

    /// For each frame of the clip the source and the frame of it that are given there, if any are. A still image is given at one frame,
    /// the last of those that its latent frame stands for.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) as [`segments`](Self::segments).
    pub fn known(&self, step: usize, lengths: &[usize]) -> Result<Vec<Option<[usize; 2]>>> {
        let timeline = Timeline { frames: self.frames.len(), step };
        let mut known = vec![None; timeline.clip_frames()];
        for Segment { clip, clip_frames, lead, latent_frames } in self.segments(step, lengths)? {
            if lengths.get(clip) == Some(&1) {
                latent_frames.for_each(|latent| known[timeline.span(latent).end - 1] = Some([clip, 0]));
            } else {
                let places = known[timeline.span(latent_frames.start).start..].iter_mut();
                places.zip(&clip_frames[lead..]).for_each(|(place, frame)| *place = Some([clip, *frame]));
            }
        }
        Ok(known)
    }

    /// Frames of the source before the plan and of the one after it that the result goes on with.
    ///
    /// # Errors
    /// [`InvalidConditioning`](crate::Error::InvalidConditioning) as [`segments`](Self::segments).
    pub fn outside(&self, step: usize, lengths: &[usize]) -> Result<[Range<usize>; 2]> {
        let segments = self.segments(step, lengths)?;
        let bound = |segment: Option<&Segment>, pick: fn(&Segment) -> Option<usize>| segment.and_then(pick).unwrap_or(0);
        let first = bound(segments.first(), |s| s.clip_frames.first().copied());
        let last = bound(segments.last(), |s| s.clip_frames.last().map(|frame| frame + 1));
        // A loop goes on with its source once: before the plan, from where the plan ends.
        let repeats = self.joints.before.is_some() && self.joints.before == self.joints.after;
        let start = if repeats { last } else { 0 };
        if start > first {
            let expected = "a clip longer than both overlaps together".into();
            return Err(invalid("source 0", format!("{} frames", lengths[0]), expected, "give a longer clip or lower the overlap"));
        }
        let before = self.joints.before.map_or(0..0, |_| start..first);
        let after = self.joints.after.filter(|_| !repeats).map_or(0..0, |clip| last..lengths.get(clip).copied().unwrap_or(last));
        Ok([before, after])
    }

    /// Maximal runs of latent frames that follow each other in one source.
    fn runs(&self) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (i, frame) in self.frames.iter().enumerate().filter(|(_, f)| f.source.is_some()) {
            let follows = i > 0
                && self.frames[i - 1].source.zip(frame.source).is_some_and(|(a, b)| {
                    // Groups −1 and 0 are the two ends of a clip, not neighbours.
                    (a.clip, a.group + 1) == (b.clip, b.group) && b.group != 0
                });
            match runs.last_mut().filter(|_| follows) {
                Some(run) => run.end = i + 1,
                None => runs.push(i..i + 1),
            }
        }
        runs
    }

    fn segment(&self, run: Range<usize>, step: usize, lengths: &[usize]) -> Result<Segment> {
        let Some(source) = self.frames[run.start].source else {
            return Err(invalid("given frames", "a frame without source".into(), "a source".into(), "this is a bug; please report it"));
        };
        let length = lengths.get(source.clip).copied().unwrap_or(0);
        let own = Timeline { frames: run.len(), step }.clip_frames();
        let lead = usize::from(run.start > 0);
        // A run at the start of the plan begins with one frame, others with a whole group.
        let needed = if lead == 0 { own } else { step * run.len() };
        if length == 1 {
            return Ok(Segment { clip: source.clip, clip_frames: vec![0; own + lead * step], lead, latent_frames: run });
        }
        let from_end = source.group < 0;
        let skipped = step * if from_end { source.group.unsigned_abs() - run.len() } else { source.group.unsigned_abs() };
        if needed + skipped > length {
            let (found, expected) = (format!("{length} frames"), format!("at least {} frames, or one still image", needed + skipped));
            return Err(invalid(&format!("source {}", source.clip), found, expected, "give a longer clip or lower the overlap"));
        }
        let first = if from_end { length - skipped - needed } else { skipped };
        let before = (lead == 1).then(|| first.saturating_sub(1));
        Ok(Segment { clip: source.clip, clip_frames: before.into_iter().chain(first..first + needed).collect(), lead, latent_frames: run })
    }
}

//! A decoded clip and the clips it continues, as one.

use std::ops::Range;

use super::Conditioning;
use crate::error::Result;

/// `decoded` with what its sources have left on either side, and where it lies in the result. In the overlap the source's
/// own frames fade into decoded ones, so that what the autoencoder changes is never seen as a cut.
///
/// # Errors
/// [`InvalidConditioning`](crate::Error::InvalidConditioning) for sources that do not fit the plan.
pub(crate) fn join(mut decoded: Vec<Vec<u8>>, conditioning: &Conditioning, step: usize) -> Result<(Vec<Vec<u8>>, Range<usize>)> {
    let Some(plan) = conditioning.plan.as_ref().filter(|plan| plan.joints != super::Joints::default()) else {
        let all = 0..decoded.len();
        return Ok((decoded, all));
    };
    let lengths = conditioning.lengths();
    let segments = plan.segments(step, &lengths)?;
    let count = decoded.len();
    if let (Some(clip), Some(first)) = (plan.joints.before, segments.first()) {
        let own = &first.clip_frames[first.lead * step..];
        for (i, frame) in own.iter().enumerate() {
            cross_fade(&mut decoded[i], &conditioning.sources[clip][*frame], i + 1, own.len() + 1);
        }
    }
    if let (Some(clip), Some(last)) = (plan.joints.after, segments.last()) {
        let own = &last.clip_frames[last.lead..];
        for (i, frame) in own.iter().rev().enumerate() {
            cross_fade(&mut decoded[count - 1 - i], &conditioning.sources[clip][*frame], i + 1, own.len() + 1);
        }
    }
    let [before, after] = plan.outside(step, &lengths)?;
    let outside = |clip: Option<usize>, frames: Range<usize>| clip.map_or(Vec::new(), |clip| conditioning.sources[clip][frames].to_vec());
    let place = before.len()..before.len() + count;
    let mut frames = outside(plan.joints.before, before);
    frames.extend(decoded);
    frames.extend(outside(plan.joints.after, after));
    Ok((frames, place))
}

/// `decoded` becomes `part / of` of itself and the rest of `source`.
fn cross_fade(decoded: &mut [u8], source: &[u8], part: usize, of: usize) {
    for (d, s) in decoded.iter_mut().zip(source) {
        *d = ((usize::from(*d) * part + usize::from(*s) * (of - part) + of / 2) / of) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::tasks::{connect, extend, repeat};
    use crate::conditioning::{CLEAN, Direction, FramePlan, SourceClip, SourceFrame};

    /// A clip of frames of one pixel, numbered from `first`.
    fn clip(first: u8, count: u8) -> Vec<Vec<u8>> {
        (first..first + count).map(|value| vec![value; 4]).collect()
    }

    fn joined(plan: FramePlan, sources: Vec<SourceClip>, decoded: Vec<Vec<u8>>) -> (Vec<u8>, Range<usize>) {
        let conditioning = Conditioning { sources, plan: Some(plan), ..Conditioning::default() };
        let (frames, place) = join(decoded, &conditioning, 2).expect("fits");
        (frames.iter().map(|frame| frame[0]).collect(), place)
    }

    #[test]
    fn a_clip_goes_on_where_its_extension_begins() {
        // Seven frames, the last three of them given; decoded frames equal them, then go on.
        let plan = extend(4, 2, Direction::Forward, CLEAN).expect("possible");
        let (frames, place) = joined(plan, vec![clip(10, 7)], clip(14, 7));
        assert_eq!((frames, place), ((10..21).collect(), 4..11), "no frame lost, none doubled");
        let plan = extend(4, 2, Direction::Backward, CLEAN).expect("possible");
        let (frames, place) = joined(plan, vec![clip(13, 7)], clip(10, 7));
        assert_eq!((frames, place), ((10..20).collect(), 0..7), "before the clip");
    }

    #[test]
    fn both_ends_meet_in_a_connection_and_in_a_loop() {
        let plan = connect(4, [1, 1], CLEAN).expect("possible");
        let (frames, _) = joined(plan, vec![clip(0, 5), clip(9, 4)], clip(4, 7));
        assert_eq!(frames, (0..13).collect::<Vec<_>>(), "first clip, decoded, second clip");
        // The decoded frames lead from the end of the clip, 20, to its start, 10 and 11.
        let plan = repeat(4, [1, 1], CLEAN).expect("possible");
        let decoded = [20, 50, 50, 50, 50, 10, 11].map(|v| vec![v; 4]).to_vec();
        let (frames, _) = joined(plan, vec![clip(10, 11)], decoded);
        assert_eq!(frames, [12, 13, 14, 15, 16, 17, 18, 19, 20, 50, 50, 50, 50, 10, 11], "each frame of the clip once");
    }

    #[test]
    fn overlaps_fade_and_other_tasks_stay_as_decoded() {
        let plan = extend(3, 2, Direction::Forward, CLEAN).expect("possible");
        let (frames, _) = joined(plan, vec![vec![vec![0; 4]; 3]], vec![vec![100; 4]; 5]);
        assert_eq!(frames, [25, 50, 75, 100, 100], "three frames of overlap");
        let plan = FramePlan::generated(3).give(0, 1, SourceFrame { clip: 0, group: 0 }, CLEAN).expect("possible");
        let (frames, place) = joined(plan, vec![clip(9, 1)], clip(0, 5));
        assert_eq!((frames, place), (vec![0, 1, 2, 3, 4], 0..5), "an image is part of the clip, not continued by it");
    }
}

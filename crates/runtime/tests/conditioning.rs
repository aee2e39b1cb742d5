//! Plans of latent frames: what each task gives, how plans mirror each other, and what is refused.

mod support;

use kinora_runtime::conditioning::tasks::{connect, edit, extend, keyframes, repeat};
use kinora_runtime::conditioning::{CLEAN, Direction, FramePlan, Joints, Keyframe, LatentFrame, PURE_NOISE, SourceFrame, Timeline};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use support::images_at;

const STEP: usize = 4;

/// `clip` and group of each latent frame.
fn sources(plan: &FramePlan) -> Vec<Option<(usize, isize)>> {
    plan.frames.iter().map(|f| f.source.map(|SourceFrame { clip, group }| (clip, group))).collect()
}

/// The plan played backwards, of sources played backwards.
fn reversed(plan: &FramePlan) -> FramePlan {
    // Group g from the start is group −1 − g from the end.
    let turned = |f: &LatentFrame| LatentFrame { source: f.source.map(|s| SourceFrame { group: !s.group, ..s }), ..*f };
    FramePlan {
        frames: plan.frames.iter().rev().map(turned).collect(),
        joints: Joints { before: plan.joints.after, after: plan.joints.before },
        keyframes: plan.keyframes.clone(),
    }
}

#[test]
fn each_task_gives_the_frames_it_is_named_after() {
    let give = |plan: kinora_runtime::Result<FramePlan>| sources(&plan.expect("possible"));
    assert_eq!(give(extend(4, 2, Direction::Forward, CLEAN)), [Some((0, -2)), Some((0, -1)), None, None], "forward");
    assert_eq!(give(extend(4, 2, Direction::Backward, CLEAN)), [None, None, Some((0, 0)), Some((0, 1))], "backward");
    assert_eq!(give(connect(4, [2, 1], CLEAN)), [Some((0, -2)), Some((0, -1)), None, Some((1, 0))], "connect");
    assert_eq!(give(repeat(4, [1, 2], CLEAN)), [Some((0, -1)), None, Some((0, 0)), Some((0, 1))], "loop");
    assert_eq!(give(edit(2, 600)), [Some((0, 0)), Some((0, 1))], "edit");
    let timeline = Timeline { frames: 5, step: STEP };
    let keys = [(0, 1), (8, 0), (9, 2)].map(|(frame, clip)| Keyframe { frame, clip, noise: CLEAN });
    assert_eq!(give(keyframes(timeline, &keys)), [Some((1, 0)), None, Some((0, 0)), Some((2, 0)), None], "8 ends a group, 9 starts one");
    assert_eq!(sources(&FramePlan::generated(1)), [None], "a still image from text");
}

#[test]
fn segments_begin_with_one_frame_or_are_led_by_one() {
    let clip_frames = |plan: kinora_runtime::Result<FramePlan>, lengths: &[usize]| {
        let segments = plan.and_then(|plan| plan.segments(STEP, lengths)).expect("possible");
        segments.into_iter().map(|s| (s.clip, s.clip_frames, s.lead, s.latent_frames)).collect::<Vec<_>>()
    };
    assert_eq!(clip_frames(Ok(images_at(5, &[0])), &[1]), [(0, vec![0], 0, 0..1)], "one frame alone");
    assert_eq!(clip_frames(Ok(images_at(5, &[4])), &[1]), [(0, vec![0; 5], 1, 4..5)], "a still as a whole group, led by itself");
    let forward = extend(5, 2, Direction::Forward, CLEAN);
    assert_eq!(clip_frames(forward, &[17]), [(0, (12..17).collect(), 0, 0..2)], "the last five frames");
    let backward = extend(5, 2, Direction::Backward, CLEAN);
    assert_eq!(clip_frames(backward, &[17]), [(0, vec![0, 0, 1, 2, 3, 4, 5, 6, 7], 1, 3..5)], "the first eight");
    let joined = clip_frames(connect(5, [1, 1], CLEAN), &[17, 9]);
    assert_eq!(joined, [(0, vec![16], 0, 0..1), (1, vec![0, 0, 1, 2, 3], 1, 4..5)], "one of each");
    // Two ends of one clip side by side are two segments although the groups −1 and 0 are consecutive numbers.
    let ends = FramePlan::generated(2).give(0, 1, SourceFrame { clip: 0, group: -1 }, CLEAN);
    let ends = ends.and_then(|plan| plan.give(1, 1, SourceFrame { clip: 0, group: 0 }, CLEAN));
    assert_eq!(clip_frames(ends, &[9]).len(), 2, "not one run");
}

#[test]
fn every_frame_that_is_given_is_known_and_a_still_at_one() {
    let known = |plan: kinora_runtime::Result<FramePlan>, lengths: &[usize]| {
        let known = plan.and_then(|plan| plan.known(STEP, lengths)).expect("possible");
        known.into_iter().enumerate().filter_map(|(at, given)| given.map(|[clip, frame]| (at, clip, frame))).collect::<Vec<_>>()
    };
    assert_eq!(known(Ok(images_at(3, &[0, 2])), &[1, 1]), [(0, 0, 0), (8, 1, 0)], "the last frame that a still stands for");
    let forward: Vec<_> = (0..5).map(|at| (at, 0, 12 + at)).collect();
    assert_eq!(known(extend(3, 2, Direction::Forward, CLEAN), &[17]), forward, "the end of a clip");
    let backward: Vec<_> = (0..8).map(|frame| (9 + frame, 0, frame)).collect();
    assert_eq!(known(extend(5, 2, Direction::Backward, CLEAN), &[17]), backward, "its beginning, without the frame that leads it");
}

#[test]
fn results_go_on_with_what_their_sources_have_left() {
    let outside =
        |plan: kinora_runtime::Result<FramePlan>, lengths: &[usize]| plan.and_then(|p| p.outside(STEP, lengths)).expect("possible");
    assert_eq!(outside(extend(5, 2, Direction::Forward, CLEAN), &[17]), [0..12, 0..0], "all before the overlap");
    assert_eq!(outside(extend(5, 2, Direction::Backward, CLEAN), &[17]), [0..0, 8..17], "all after it");
    assert_eq!(outside(connect(5, [2, 1], CLEAN), &[17, 9]), [0..12, 4..9], "both");
    assert_eq!(outside(repeat(5, [2, 1], CLEAN), &[17]), [4..12, 0..0], "the middle, once");
    assert_eq!(outside(Ok(images_at(5, &[0])), &[1]), [0..0, 0..0], "nothing joined");
}

#[test]
fn impossible_requests_say_what_would_be_possible() {
    let timeline = Timeline { frames: 5, step: STEP };
    let key = |frame| Keyframe { frame, clip: 0, noise: CLEAN };
    let short = |plan: kinora_runtime::Result<FramePlan>| plan.and_then(|plan| plan.segments(STEP, &[7, 7]).map(|_| plan));
    for (plan, expected) in [
        (keyframes(timeline, &[key(17)]), "keyframe: found 17, expected a frame from 0 to 16"),
        (keyframes(timeline, &[key(5), key(8)]), "latent frame 2 twice"),
        (extend(5, 5, Direction::Forward, CLEAN), "overlap: found 5 latent frames, expected fewer than the 5"),
        (connect(5, [3, 2], CLEAN), "overlap: found 5 latent frames"),
        (extend(5, 0, Direction::Forward, CLEAN), "given frames: found latent frames 0 to 0 of 5"),
        (edit(5, 1001), "noise: found 1001"),
        (short(extend(5, 3, Direction::Forward, CLEAN)), "source 0: found 7 frames, expected at least 9 frames"),
        (short(extend(5, 2, Direction::Backward, CLEAN)), "at least 8 frames"),
        (short(edit(5, 500)), "at least 17 frames"),
        (repeat(5, [2, 1], CLEAN).and_then(|plan| plan.outside(STEP, &[8]).map(|_| plan)), "longer than both overlaps"),
    ] {
        let error = plan.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.code() == "invalid-conditioning" && error.hint().is_some(), "{error} has a remedy");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn extending_forward_reversed_is_extending_backward(frames in 2usize..40, overlap in 1usize..39, noise in 0u16..=PURE_NOISE) {
        if overlap < frames {
            let forward = extend(frames, overlap, Direction::Forward, noise).expect("possible");
            let backward = extend(frames, overlap, Direction::Backward, noise).expect("possible");
            prop_assert_eq!(&reversed(&forward), &backward);
            prop_assert_eq!(reversed(&backward), forward);
        }
    }

    #[test]
    fn connecting_keeps_both_ends(frames in 2usize..40, left in 1usize..20, right in 1usize..20) {
        if left + right < frames {
            let plan = connect(frames, [left, right], CLEAN).expect("possible");
            let forward = extend(frames, left, Direction::Forward, CLEAN).expect("possible");
            let backward = extend(frames, right, Direction::Backward, CLEAN).expect("possible");
            prop_assert_eq!(&plan.frames[..left], &forward.frames[..left]);
            for (both, one) in plan.frames[frames - right..].iter().zip(&backward.frames[frames - right..]) {
                prop_assert_eq!(both.source.map(|s| (s.clip, s.group)), one.source.map(|s| (1, s.group)));
            }
            prop_assert!(plan.frames[left..frames - right].iter().all(|f| f.source.is_none()));
        }
    }

    #[test]
    fn segments_encode_exactly_what_the_plan_gives(frames in 2usize..20, left in 0usize..8, right in 0usize..8, extra in 0usize..9) {
        if left + right < frames && left > 0 && right > 0 {
            let lengths = [1 + STEP * left + extra, 1 + STEP * right + extra];
            let plan = connect(frames, [left, right], CLEAN).expect("possible");
            let segments = plan.segments(STEP, &lengths).expect("long enough");
            for segment in &segments {
                let encoded = 1 + (segment.clip_frames.len() - 1) / STEP;
                prop_assert_eq!((segment.clip_frames.len() - 1) % STEP, 0);
                prop_assert_eq!(encoded - segment.lead, segment.latent_frames.len());
                prop_assert!(segment.clip_frames.iter().all(|frame| *frame < lengths[segment.clip]));
            }
            // Nothing of either clip is lost or doubled: what stands outside and what is encoded meet.
            let [before, after] = plan.outside(STEP, &lengths).expect("possible");
            prop_assert_eq!(before.end, segments[0].clip_frames[0]);
            prop_assert_eq!(segments[0].clip_frames.last().copied(), Some(lengths[0] - 1));
            prop_assert_eq!(segments[1].clip_frames[1], 0);
            prop_assert_eq!(after, STEP * right..lengths[1]);
        }
    }
}

//! A plan whose weights do not fit the memory they are given, cut into segments: while one runs, the weights of the next are
//! packed into the other of two slots, from where quantised ones are on the device if there is room for them, else from their
//! files. Knows no device.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::footprint::buffer_bytes;
use crate::lower::Dispatch;
use crate::pack::{PARAMS_BYTES, WINDOW_BYTES, window_bytes};
use crate::plan::Cadence;
use crate::raw::{ALIGNMENT, Layout};
use crate::weight::Weight;

/// Bytes of a slot, if memory allows and no dispatch needs more: enough to keep the way to the device busy.
const SLOT_BYTES: u64 = 64 << 20;

/// The share of the memory for weights that the window may take through which they come.
const WINDOW_SHARE: u64 = 8;

/// Dispatches, one after another, whose weights are in a slot together.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Which of the dispatches of its cadence.
    pub(crate) range: Range<usize>,
    /// The weights that are not resident, and where in the slot each begins.
    pub(crate) weights: Vec<(Weight, u64)>,
}

/// The segments of a plan.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Weights that are not resident.
    pub(crate) streamed: BTreeSet<u64>,
    /// Those of them that are on the device as they are in their files.
    kept: BTreeSet<u64>,
    /// Bytes of each of the two slots.
    pub(crate) slot_bytes: u64,
    /// Bytes of the window through which weights come.
    pub(crate) window_bytes: u64,
    prelude: Vec<Segment>,
    step: Vec<Segment>,
}

/// The matrices and convolutions that a dispatch reads. Vectors are small and always resident.
fn matrices(dispatch: &Dispatch) -> impl Iterator<Item = &Weight> {
    dispatch.weights().filter(|weight| weight.shape().rank() > 1)
}

/// Bytes that a weight occupies in a slot.
fn slot_size(weight: &Weight) -> u64 {
    weight.stored_bytes().next_multiple_of(ALIGNMENT)
}

/// Bytes of the window at most if weights get `budget` bytes.
pub(crate) fn window_of(budget: u64) -> u64 {
    WINDOW_BYTES.min(budget / WINDOW_SHARE)
}

impl Segments {
    /// The segments of dispatches whose weights get `budget` bytes, with the window through which they come; `None` if all of them fit.
    ///
    /// # Errors
    /// [`Error::Limit`] if not even two slots fit.
    pub(crate) fn new(prelude: &[&Dispatch], step: &[&Dispatch], budget: u64) -> Result<Option<Self>> {
        let all = || prelude.iter().chain(step).flat_map(|dispatch| dispatch.weights());
        let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
        sizes.extend(all().map(|weight| (weight.id(), weight.stored_bytes())));
        if sizes.values().sum::<u64>() <= budget {
            return Ok(None);
        }
        let mut vectors: BTreeMap<u64, u64> = BTreeMap::new();
        vectors.extend(all().filter(|weight| weight.shape().rank() == 1).map(|weight| (weight.id(), weight.stored_bytes())));
        let window_bytes = window_bytes(all(), window_of(budget));
        let fixed = vectors.values().sum::<u64>() + window_bytes + PARAMS_BYTES;
        let largest = prelude.iter().chain(step).map(|dispatch| matrices(dispatch).map(slot_size).sum()).fold(0, u64::max);
        let needed = fixed + 2 * largest;
        let Some(room) = budget.checked_sub(fixed).filter(|room| *room >= 2 * largest) else {
            let remedy = "allow more memory";
            return Err(Error::Limit { what: "two segments of streamed weights".into(), needed, limit: budget, remedy });
        };
        let slot = largest.max(SLOT_BYTES.min(room / 4));
        let Share { streamed, kept } = share(prelude, step, room - 2 * slot);
        let [prelude, step] = [prelude, step].map(|dispatches| cut(dispatches, &streamed, slot));
        let of = |segment: &Segment| segment.weights.last().map_or(0, |(weight, offset)| offset + slot_size(weight));
        let slot_bytes = prelude.iter().chain(&step).map(of).fold(0, u64::max);
        Ok(Some(Self { streamed, kept, slot_bytes, window_bytes, prelude, step }))
    }

    /// The segments of one cadence.
    pub(crate) fn of(&self, cadence: Cadence) -> &[Segment] {
        match cadence {
            Cadence::Once => &self.prelude,
            Cadence::EveryStep => &self.step,
        }
    }

    /// The weights that come from their files each time, as often as they are read in another segment.
    pub(crate) fn read_again(&self) -> impl Iterator<Item = &Weight> {
        let all = self.prelude.iter().chain(&self.step).flat_map(|segment| segment.weights.iter().map(|(weight, _)| weight));
        all.filter(|weight| !self.is_kept(weight))
    }

    /// Whether a weight that is not resident is on the device as it is in its file.
    pub(crate) fn is_kept(&self, weight: &Weight) -> bool {
        self.kept.contains(&weight.id())
    }

    /// The weights that are kept, as often as they are read in another segment: the segment, and where in its slot they belong.
    pub(crate) fn kept_uses(&self) -> Vec<(Cadence, usize, &Weight, u64)> {
        let of = |cadence| {
            let segments = self.of(cadence).iter().enumerate();
            segments.flat_map(move |(number, segment)| segment.weights.iter().map(move |(weight, at)| (cadence, number, weight, *at)))
        };
        [Cadence::Once, Cadence::EveryStep].into_iter().flat_map(of).filter(|(_, _, weight, _)| self.is_kept(weight)).collect()
    }

    /// The segment of a dispatch, by its number within its cadence.
    pub(crate) fn containing(&self, cadence: Cadence, dispatch: usize) -> usize {
        self.of(cadence).partition_point(|segment| segment.range.end <= dispatch)
    }
}

/// Which matrices are not resident.
struct Share {
    streamed: BTreeSet<u64>,
    /// Those of them that are on the device as they are in their files.
    kept: BTreeSet<u64>,
}

/// Shares `room` bytes among the matrices. What runs once comes from files. Of the rest, quantised ones are kept as they are as far as
/// there is room; what is left makes others resident, those first that would have to come from files.
fn share(prelude: &[&Dispatch], step: &[&Dispatch], room: u64) -> Share {
    let mut streamed: BTreeSet<u64> = BTreeSet::new();
    streamed.extend(prelude.iter().flat_map(|dispatch| matrices(dispatch)).map(Weight::id));
    let (mut seen, mut repeated) = (BTreeSet::new(), Vec::new());
    for weight in step.iter().flat_map(|dispatch| matrices(dispatch)) {
        if seen.insert(weight.id()) {
            let kept = Layout::of(weight).quantised_bytes(weight).map(buffer_bytes).filter(|bytes| *bytes < weight.stored_bytes());
            repeated.push((weight, kept));
        }
    }
    let ids = |wanted: &BTreeMap<u64, u64>| wanted.keys().copied().collect::<BTreeSet<u64>>();
    let mut left = room;
    let kept: Vec<(u64, u64)> = repeated.iter().filter_map(|(weight, kept)| Some((weight.id(), (*kept)?))).collect();
    let mut kept = spread(&kept, &mut left);
    let of = |kept: bool| {
        let own = repeated.iter().filter(move |(_, bytes)| bytes.is_some() == kept);
        own.map(|(weight, bytes)| (weight.id(), weight.stored_bytes() - bytes.unwrap_or(0))).collect::<Vec<(u64, u64)>>()
    };
    let mut resident = spread(&of(false), &mut left);
    if kept.len() == of(true).len() {
        resident.extend(spread(&of(true), &mut left));
    }
    kept.retain(|id, _| !resident.contains_key(id));
    streamed.extend(repeated.iter().map(|(weight, _)| weight.id()));
    streamed.retain(|id| !resident.contains_key(id));
    Share { streamed, kept: ids(&kept) }
}

/// As many of the weights with these costs as `room` holds, spread evenly, so that the way to the device is never idle for long.
fn spread(weights: &[(u64, u64)], room: &mut u64) -> BTreeMap<u64, u64> {
    let total: u64 = weights.iter().map(|(_, bytes)| bytes).sum();
    let (share, mut owed) = ((*room as f64 / total.max(1) as f64).min(1.0), 0.0);
    let mut chosen = BTreeMap::new();
    for &(id, bytes) in weights {
        owed += bytes as f64 * share;
        // The last owed byte may be lost to rounding.
        if bytes <= *room && owed + 0.5 >= bytes as f64 {
            *room -= bytes;
            owed -= bytes as f64;
            chosen.insert(id, bytes);
        }
    }
    chosen
}

/// Cuts where the weights of the next dispatch no longer fit the slot.
fn cut(dispatches: &[&Dispatch], streamed: &BTreeSet<u64>, slot: u64) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0;
    for (at, dispatch) in dispatches.iter().enumerate() {
        let own = || matrices(dispatch).filter(|weight| streamed.contains(&weight.id()));
        let is_new = |segment: &Segment, weight: &Weight| segment.weights.iter().all(|(known, _)| known.id() != weight.id());
        let fits =
            segments.last().is_some_and(|segment| end + own().filter(|weight| is_new(segment, weight)).map(slot_size).sum::<u64>() <= slot);
        if !fits {
            segments.push(Segment { range: at..at, weights: Vec::new() });
            end = 0;
        }
        let Some(segment) = segments.last_mut() else { continue };
        segment.range.end = at + 1;
        for weight in own() {
            if is_new(segment, weight) {
                segment.weights.push((weight.clone(), end));
                end += slot_size(weight);
            }
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{lowered, segments};
    use crate::{Plan, Preset, Shape, WeightFormat};

    #[test]
    fn matrices_are_streamed_and_vectors_are_not() {
        const SIDE: usize = 64;
        let plan = Plan::new();
        let weight = |dims: &[usize]| {
            let shape = Shape::new(dims);
            Weight::from_f32("w", shape, &vec![0.5; shape.elements()], WeightFormat::F32)
        };
        let x = plan.input("x", &[4, SIDE], Cadence::EveryStep);
        plan.output("y", (0..4).fold(x, |x, _| x.linear(&weight(&[SIDE, SIDE]), Some(&weight(&[SIDE])))));
        let graph = plan.finish().expect("valid");
        for preset in Preset::ALL {
            let lowered = lowered(&graph, preset);
            let all: Vec<&Weight> = lowered.iter().flat_map(|(_, dispatch)| dispatch.weights()).collect();
            let segments = segments(&graph, &lowered, Some(60_000)).expect("two fit").expect("four do not");
            assert!(!segments.streamed.is_empty(), "something comes again");
            for weight in all.into_iter().filter(|weight| segments.streamed.contains(&weight.id())) {
                assert_eq!(weight.shape().rank(), 2, "{preset:?}");
            }
        }
    }
}

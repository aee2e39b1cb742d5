//! What a plan takes on a device, without one: the same planners that put it there say how much that is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::error::Result;
use crate::lower::{Binding, Dispatch, lower};
use crate::memory::{MemoryPlan, execution_order};
use crate::pack::{PARAMS_BYTES, WINDOW_BYTES, window_bytes};
use crate::plan::{Cadence, Graph};
use crate::preset::Preset;
use crate::replay::params_bytes;
use crate::segments::{Segments, window_of};
use crate::weight::Weight;

/// Bytes of the buffers of a plan by what they are for.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Values: activations, inputs and states.
    pub values: u64,
    /// Parameters of its dispatches.
    pub params: u64,
    /// Lists of what some of its dispatches work on.
    pub lists: u64,
    /// Slots of weights that are streamed, and the window that they come through; 0 if all are resident.
    pub ring: u64,
    /// The largest copy for reading a result.
    pub reading: u64,
    /// Weights that are streamed, each time that they are needed.
    pub streamed: u64,
    /// Bytes of the window at most through which resident weights come.
    window: u64,
    /// The resident weights, shared with other plans.
    weights: BTreeMap<u64, Weight>,
    /// Vectors of equal values, shared with other plans.
    fills: BTreeMap<(u32, usize), u64>,
}

/// What is on a device and shared by plans.
#[derive(Clone, Debug, Default)]
pub struct SharedBuffers {
    weights: BTreeMap<u64, u64>,
    fills: BTreeMap<(u32, usize), u64>,
}

impl SharedBuffers {
    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.weights.values().chain(self.fills.values()).sum()
    }

    /// Forgets the weights that `keep` does not want.
    pub fn retain_weights(&mut self, keep: impl Fn(u64) -> bool) {
        self.weights.retain(|id, _| keep(*id));
    }
}

impl Footprint {
    /// Bytes of its resident weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.values().map(Weight::stored_bytes).sum()
    }

    /// Whether it reads this weight, resident.
    pub fn has_weight(&self, id: u64) -> bool {
        self.weights.contains_key(&id)
    }

    /// Bytes of what is its own as long as it exists.
    pub fn own(&self) -> u64 {
        self.values + self.params + self.lists + self.ring
    }

    /// Adds to `shared` what it shares. Returns the bytes that this adds for good, and those that it takes while it is put on
    /// the device, its own among them.
    pub fn place(&self, shared: &mut SharedBuffers) -> [u64; 2] {
        let before = shared.bytes();
        let new: Vec<&Weight> = self.weights.values().filter(|weight| !shared.weights.contains_key(&weight.id())).collect();
        let window = match window_bytes(new.iter().copied(), self.window) {
            0 => 0,
            bytes => buffer_bytes(bytes) + PARAMS_BYTES,
        };
        shared.weights.extend(new.into_iter().map(|weight| (weight.id(), buffer_bytes(weight.stored_bytes()))));
        // The window is gone before vectors, slots and lists are made.
        let loading = shared.bytes() - before + self.values + self.params + window;
        shared.fills.extend(self.fills.iter().map(|(fill, bytes)| (*fill, *bytes)));
        let added = shared.bytes() - before;
        [added, loading.max(added + self.own())]
    }
}

/// Bytes of a storage buffer for so many.
pub(crate) fn buffer_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(16).max(16)
}

/// All dispatches of a plan in the order they run, with the steps they belong to.
pub(crate) fn lowered(graph: &Graph, preset: Preset) -> Vec<(usize, Dispatch)> {
    let lower = |i: usize| lower(graph, &graph.steps[i], preset).into_iter().map(move |dispatch| (i, dispatch));
    execution_order(graph).into_iter().flat_map(lower).collect()
}

/// The segments of dispatches if their weights may take so many bytes, windows included; `None` if all are resident.
pub(crate) fn segments(graph: &Graph, lowered: &[(usize, Dispatch)], weight_bytes: Option<u64>) -> Result<Option<Segments>> {
    let Some(budget) = weight_bytes else { return Ok(None) };
    let of = |cadence: Cadence| {
        lowered.iter().filter(move |(step, _)| graph.cadence(&graph.steps[*step]) == cadence).map(|(_, d)| d).collect::<Vec<_>>()
    };
    Segments::new(&of(Cadence::Once), &of(Cadence::EveryStep), budget)
}

impl Graph {
    /// What it takes on a device with the kernels of `preset`, if its weights get `weight_bytes`, or all that they need.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if no two segments fit `weight_bytes`.
    pub fn footprint(&self, preset: Preset, weight_bytes: Option<u64>) -> Result<Footprint> {
        let lowered = lowered(self, preset);
        let segments = segments(self, &lowered, weight_bytes)?;
        let mut footprint = Footprint {
            values: MemoryPlan::new(self).buffers.into_iter().map(buffer_bytes).sum(),
            params: params_bytes(lowered.len()),
            reading: self.outputs.iter().map(|(_, operand)| self.values[operand.value].shape.bytes()).max().unwrap_or(0),
            window: weight_bytes.map_or(WINDOW_BYTES, window_of),
            ..Footprint::default()
        };
        let mut lists = HashSet::new();
        let is_streamed = |weight: &Weight| segments.as_ref().is_some_and(|segments| segments.streamed.contains(&weight.id()));
        for binding in lowered.iter().flat_map(|(_, dispatch)| &dispatch.bindings) {
            match binding {
                Binding::Weight(weight) if !is_streamed(weight) => {
                    footprint.weights.insert(weight.id(), weight.clone());
                }
                Binding::Fill { value, len } => {
                    footprint.fills.insert((value.to_bits(), *len), buffer_bytes(4 * len.next_multiple_of(4) as u64));
                }
                Binding::Data(words) if lists.insert(words) => footprint.lists += buffer_bytes(4 * words.len() as u64),
                _ => {}
            }
        }
        if let Some(segments) = &segments {
            let window = buffer_bytes(window_bytes(segments.weights(), segments.window_bytes));
            footprint.ring = 2 * buffer_bytes(segments.slot_bytes) + window + PARAMS_BYTES;
            let mut seen = BTreeSet::new();
            footprint.streamed = segments.weights().filter(|weight| seen.insert(weight.id())).map(Weight::stored_bytes).sum();
        }
        Ok(footprint)
    }
}

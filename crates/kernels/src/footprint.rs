//! What a plan takes on a device, without one: the same planners that put it there say how much that is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::buffers::MOST_STAGED;
use crate::error::Result;
use crate::lower::{Binding, Dispatch};
use crate::memory::{GroupPlan, execution_order, last_uses};
use crate::ops::lower;
use crate::pack::{PARAMS_BYTES, WINDOW_BYTES, window_bytes};
use crate::plan::{Cadence, Graph, Source};
use crate::preset::Preset;
use crate::raw::{ALIGNMENT, Layout};
use crate::replay::params_bytes;
use crate::segments::{Segments, window_of};
use crate::weight::Weight;

/// Bytes of the buffers of plans that run one after another, by what they are for.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// Values: activations, inputs and states.
    pub values: u64,
    /// Parameters of the dispatches.
    pub params: u64,
    /// Lists of what some dispatches work on.
    pub lists: u64,
    /// Slots of weights that are streamed, and the window that they come through; 0 if all are resident.
    pub ring: u64,
    /// Weights that stay quantised, as they are in their files.
    pub kept: u64,
    /// The largest copy for reading a result.
    pub reading: u64,
    /// Weights that are streamed, each time that they are needed.
    pub streamed: u64,
    parts: Vec<Part>,
}

/// One of the plans.
#[derive(Clone, Debug, Default)]
struct Part {
    params: u64,
    lists: u64,
    ring: u64,
    kept: u64,
    streamed: u64,
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
    readback: u64,
}

impl SharedBuffers {
    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.weights.values().chain(self.fills.values()).sum::<u64>() + self.readback
    }

    /// Reads a result of so many bytes. Returns those that everything here takes meanwhile.
    pub fn read(&mut self, bytes: u64) -> u64 {
        self.readback = self.readback.max(bytes);
        let most = self.bytes();
        if self.readback > MOST_STAGED {
            self.readback = 0;
        }
        most
    }

    /// Whether this weight is there.
    pub fn has_weight(&self, id: u64) -> bool {
        self.weights.contains_key(&id)
    }

    /// Forgets the weights that `keep` does not want; whether there were any.
    pub fn retain_weights(&mut self, keep: impl Fn(u64) -> bool) -> bool {
        let before = self.weights.len();
        self.weights.retain(|id, _| keep(*id));
        self.weights.len() < before
    }
}

impl Footprint {
    /// What `graphs`, which run one after another, take on a device with the kernels of `preset`, if the weights get
    /// `weight_bytes`, or all that they need.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if no two segments fit `weight_bytes`.
    pub fn of(graphs: &[Graph], preset: Preset, weight_bytes: Option<u64>) -> Result<Self> {
        let parts = graphs.iter().map(|graph| Part::of(graph, preset, weight_bytes)).collect::<Result<Vec<Part>>>()?;
        let results = graphs.iter().flat_map(|graph| graph.outputs.iter().map(|(_, operand)| graph.values[operand.value].shape.bytes()));
        Ok(Self {
            values: GroupPlan::of(graphs).buffers.into_iter().map(buffer_bytes).sum(),
            params: parts.iter().map(|part| part.params).sum(),
            lists: parts.iter().map(|part| part.lists).sum(),
            ring: parts.iter().map(|part| part.ring).sum(),
            kept: parts.iter().map(|part| part.kept).sum(),
            reading: results.max().unwrap_or(0),
            streamed: parts.iter().map(|part| part.streamed).sum(),
            parts,
        })
    }

    /// Bytes of the resident weights.
    pub fn weight_bytes(&self) -> u64 {
        let mut all: BTreeMap<u64, u64> = BTreeMap::new();
        all.extend(self.parts.iter().flat_map(|part| &part.weights).map(|(id, w)| (*id, w.stored_bytes())));
        all.values().sum()
    }

    /// Whether this weight is read, resident.
    pub fn has_weight(&self, id: u64) -> bool {
        self.parts.iter().any(|part| part.weights.contains_key(&id))
    }

    /// Bytes of what is their own as long as they exist.
    pub fn own(&self) -> u64 {
        self.values + self.params + self.lists + self.ring + self.kept
    }

    /// Adds to `shared` what they share. Returns the bytes that this adds for good, and those that they take at most while they are
    /// put on the device, their own among them.
    pub fn place(&self, shared: &mut SharedBuffers) -> [u64; 2] {
        let before = shared.bytes();
        let (mut own, mut most) = (self.values, 0);
        for part in &self.parts {
            let new: Vec<&Weight> = part.weights.values().filter(|weight| !shared.has_weight(weight.id())).collect();
            let window = match window_bytes(new.iter().copied(), part.window) {
                0 => 0,
                bytes => buffer_bytes(bytes) + PARAMS_BYTES,
            };
            shared.weights.extend(new.into_iter().map(|weight| (weight.id(), buffer_bytes(weight.stored_bytes()))));
            // The window is gone before vectors, slots and lists are made.
            most = most.max(shared.bytes() - before + own + part.params + window);
            shared.fills.extend(part.fills.iter().map(|(fill, bytes)| (*fill, *bytes)));
            own += part.params + part.lists + part.ring + part.kept;
            most = most.max(shared.bytes() - before + own);
        }
        [shared.bytes() - before, most]
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

impl Part {
    fn of(graph: &Graph, preset: Preset, weight_bytes: Option<u64>) -> Result<Self> {
        let lowered = lowered(graph, preset);
        let segments = segments(graph, &lowered, weight_bytes)?;
        let window = weight_bytes.map_or(WINDOW_BYTES, window_of);
        let mut part = Self { params: params_bytes(lowered.len()), window, ..Self::default() };
        let mut lists = HashSet::new();
        let is_streamed = |weight: &Weight| segments.as_ref().is_some_and(|segments| segments.streamed.contains(&weight.id()));
        for binding in lowered.iter().flat_map(|(_, dispatch)| &dispatch.bindings) {
            match binding {
                Binding::Weight(weight) if !is_streamed(weight) => {
                    part.weights.insert(weight.id(), weight.clone());
                }
                Binding::Fill { value, len } => {
                    part.fills.insert((value.to_bits(), *len), buffer_bytes(4 * len.next_multiple_of(4) as u64));
                }
                Binding::Data(words) if lists.insert(words) => part.lists += buffer_bytes(4 * words.len() as u64),
                _ => {}
            }
        }
        if let Some(segments) = &segments {
            let window = match window_bytes(segments.read_again(), segments.window_bytes) {
                0 => 0,
                bytes => buffer_bytes(bytes) + PARAMS_BYTES,
            };
            let uses = segments.kept_uses();
            let mut kept = BTreeMap::new();
            kept.extend(uses.iter().map(|(_, _, weight, _)| (weight.id(), Layout::of(weight).quantised_bytes(weight).unwrap_or(0))));
            part.ring = 2 * buffer_bytes(segments.slot_bytes) + window + uses.len() as u64 * ALIGNMENT;
            part.kept = kept.into_values().map(buffer_bytes).sum();
            let mut seen = BTreeSet::new();
            part.streamed = segments.read_again().filter(|weight| seen.insert(weight.id())).map(Weight::stored_bytes).sum();
        }
        Ok(part)
    }
}

impl Graph {
    /// Bytes that running it by the CPU twins takes, but for weights where they are in files.
    pub fn host_bytes(&self) -> u64 {
        let order = execution_order(self);
        let last_use = last_uses(self, &order);
        let bytes = |id: usize| self.values[id].shape.bytes();
        let is_made = |id: usize| matches!(self.values[id].source, Source::Step(_));
        let mut live: u64 = (0..self.values.len()).filter(|id| !is_made(*id)).map(bytes).sum();
        let mut most = live;
        for (at, &index) in order.iter().enumerate() {
            let step = &self.steps[index];
            // A twin reads its weights as f32, and may make its result from a copy.
            let weights: u64 = step.op.weights().map(|weight| 4 * weight.shape().elements() as u64).sum();
            most = most.max(live + 2 * bytes(step.output) + weights);
            live += bytes(step.output);
            live -= (0..self.values.len()).filter(|id| last_use[*id] == Some(at) && is_made(*id)).map(bytes).sum::<u64>();
        }
        most
    }

    /// [`Footprint::of`] this one.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if no two segments fit `weight_bytes`.
    pub fn footprint(&self, preset: Preset, weight_bytes: Option<u64>) -> Result<Footprint> {
        Footprint::of(std::slice::from_ref(self), preset, weight_bytes)
    }
}

//! Which values share a buffer. WebGPU forbids one buffer to be read and written within a dispatch, whatever the
//! ranges, so whole buffers are shared, not ranges of one arena.

use crate::order::sort_by_numbers;
use crate::plan::{Cadence, Graph, Source, ValueId};

/// The buffer of every value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// Index into `buffers` for each value that is used, in the order of the plan's values.
    pub slot: Vec<Option<usize>>,
}

impl MemoryPlan {
    /// Assigns buffers so that no two values that are alive at the same time share one.
    pub fn new(graph: &Graph) -> Self {
        let order = execution_order(graph);
        let last_use = last_uses(graph, &order);
        let mut plan = Self { buffers: Vec::new(), slot: vec![None; graph.values.len()] };
        for (id, value) in graph.values.iter().enumerate() {
            let read = graph.steps.iter().flat_map(|s| &s.inputs).chain(graph.outputs.iter().map(|(_, o)| o)).any(|o| o.value == id);
            if read && !matches!(value.source, Source::Step(_)) {
                plan.slot[id] = Some(plan.add(value.shape.bytes()));
            }
        }
        let mut free: Vec<usize> = Vec::new();
        for (at, &index) in order.iter().enumerate() {
            let step = &graph.steps[index];
            let bytes = graph.values[step.output].shape.bytes();
            plan.slot[step.output] = if step.op.in_place() { plan.slot[step.inputs[0].value] } else { Some(plan.take(&mut free, bytes)) };
            for (value, last) in last_use.iter().enumerate() {
                let ends_here = *last == Some(at) && matches!(graph.values[value].source, Source::Step(_));
                if let Some(slot) = plan.slot[value].filter(|_| ends_here) {
                    free.push(slot);
                }
            }
        }
        plan
    }

    /// Bytes of all buffers together.
    pub fn total_bytes(&self) -> u64 {
        self.buffers.iter().sum()
    }

    /// What each buffer is for.
    fn uses<'a>(&self, graph: &'a Graph) -> Vec<Use<'a>> {
        let mut uses = vec![Use::Passing; self.buffers.len()];
        for (value, slot) in graph.values.iter().zip(&self.slot) {
            match (slot, &value.source) {
                (Some(slot), Source::State(name)) => uses[*slot] = Use::State(name),
                (Some(slot), Source::Constant(_)) => uses[*slot] = Use::Own,
                _ => {}
            }
        }
        uses
    }

    fn add(&mut self, bytes: u64) -> usize {
        self.buffers.push(bytes);
        self.buffers.len() - 1
    }

    /// The smallest free buffer that is large enough, else the largest one grown, else a new one.
    fn take(&mut self, free: &mut Vec<usize>, bytes: u64) -> usize {
        let fitting = (0..free.len()).filter(|&i| self.buffers[free[i]] >= bytes).min_by_key(|&i| self.buffers[free[i]]);
        let chosen = fitting.or_else(|| (0..free.len()).max_by_key(|&i| self.buffers[free[i]]));
        match chosen {
            Some(i) => {
                let slot = free.swap_remove(i);
                self.buffers[slot] = self.buffers[slot].max(bytes);
                slot
            }
            None => self.add(bytes),
        }
    }
}

/// What becomes of a buffer when another plan of the same group runs.
#[derive(Clone, Copy, PartialEq)]
enum Use<'a> {
    /// It may be overwritten: what it holds is made anew in every run.
    Passing,
    /// It stays: it was filled once.
    Own,
    /// It is the other's too, under this name.
    State(&'a str),
}

/// The buffers of plans that run one after another: states of equal names are one, and what one run leaves behind otherwise may
/// be overwritten by the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// For each plan the index into `buffers` of each of its own.
    pub slots: Vec<Vec<usize>>,
    /// The first buffers are the states, so many.
    pub num_states: usize,
}

impl GroupPlan {
    /// Shares the buffers of `plans`, each of the graph beside it.
    pub fn new(graphs: &[Graph], plans: &[MemoryPlan]) -> Self {
        let uses: Vec<Vec<Use<'_>>> = graphs.iter().zip(plans).map(|(graph, plan)| plan.uses(graph)).collect();
        let mut group = Self { buffers: Vec::new(), slots: plans.iter().map(|plan| vec![0; plan.buffers.len()]).collect(), num_states: 0 };
        let mut names: Vec<&str> = Vec::new();
        for (p, (plan, uses)) in plans.iter().zip(&uses).enumerate() {
            for (at, used) in uses.iter().enumerate() {
                let Use::State(name) = used else { continue };
                let state = names.iter().position(|known| known == name).unwrap_or(names.len());
                if state == names.len() {
                    names.push(name);
                    group.buffers.push(0);
                }
                group.buffers[state] = group.buffers[state].max(plan.buffers[at]);
                group.slots[p][at] = state;
            }
        }
        group.num_states = names.len();
        // Large ones first, so that what is left for small ones fits.
        let mut order: Vec<usize> = (0..plans.len()).collect();
        sort_by_numbers(&mut order, |&p| [u64::MAX - plans[p].total_bytes(), 0]);
        let mut passing: Vec<usize> = Vec::new();
        for p in order {
            let mut spare = passing.clone();
            let mut own: Vec<usize> = (0..plans[p].buffers.len()).filter(|&at| !matches!(uses[p][at], Use::State(_))).collect();
            sort_by_numbers(&mut own, |&at| [u64::MAX - plans[p].buffers[at], 0]);
            for at in own {
                let bytes = plans[p].buffers[at];
                let fits = (0..spare.len()).filter(|&i| group.buffers[spare[i]] >= bytes).min_by_key(|&i| group.buffers[spare[i]]);
                group.slots[p][at] = match fits.filter(|_| uses[p][at] == Use::Passing) {
                    Some(i) => spare.swap_remove(i),
                    None => {
                        group.buffers.push(bytes);
                        if uses[p][at] == Use::Passing {
                            passing.push(group.buffers.len() - 1);
                        }
                        group.buffers.len() - 1
                    }
                };
            }
        }
        group
    }

    /// [`new`](Self::new) with the memory plan of each graph.
    pub fn of(graphs: &[Graph]) -> Self {
        Self::new(graphs, &graphs.iter().map(MemoryPlan::new).collect::<Vec<_>>())
    }

    /// Bytes of all buffers together.
    pub fn total_bytes(&self) -> u64 {
        self.buffers.iter().sum()
    }
}

/// Indices of the steps: the prelude first, then the replayed part.
pub fn execution_order(graph: &Graph) -> Vec<usize> {
    let of = |cadence| (0..graph.steps.len()).filter(move |&i| graph.cadence(&graph.steps[i]) == cadence);
    of(Cadence::Once).chain(of(Cadence::EveryStep)).collect()
}

/// For each value the position in `order` after which its buffer may be reused; `None` if never read by a step or if it
/// must survive the plan: outputs, and what the prelude makes for the replayed part.
pub(crate) fn last_uses(graph: &Graph, order: &[usize]) -> Vec<Option<usize>> {
    let mut last = vec![None; graph.values.len()];
    let mut pinned = vec![false; graph.values.len()];
    for (at, &index) in order.iter().enumerate() {
        let step = &graph.steps[index];
        last[step.output] = Some(at);
        for input in &step.inputs {
            last[input.value] = Some(at);
            pinned[input.value] |= graph.values[input.value].cadence != graph.cadence(step);
        }
        pinned[step.output] |= step.op.in_place();
    }
    for (_, operand) in &graph.outputs {
        pinned[operand.value] = true;
    }
    (0..last.len()).map(|v: ValueId| last[v].filter(|_| !pinned[v])).collect()
}

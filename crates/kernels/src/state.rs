//! Tensors that outlive a run, known by name to all executables of a group.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::plan::{Graph, Source};
use crate::reference::Data;
use crate::shape::Shape;

/// Refuses states of one name and several shapes.
pub(crate) fn check_states(graphs: &[Graph]) -> Result<()> {
    let mut known: BTreeMap<&str, Shape> = BTreeMap::new();
    for value in graphs.iter().flat_map(|graph| &graph.values) {
        let Source::State(name) = &value.source else { continue };
        let shape = *known.entry(name).or_insert(value.shape);
        if shape != value.shape {
            return Err(Error::Data { name: name.clone(), expected: format!("a state {shape}"), found: value.shape.to_string() });
        }
    }
    Ok(())
}

/// The states of a group on the CPU, between its runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostStates(Arc<Mutex<BTreeMap<String, Data>>>);

impl HostStates {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Data>> {
        // Data goes in and out whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces a state by what the host writes; anything else concerns one plan alone.
    pub(crate) fn write(&self, written: &Source, data: &Data) {
        if let Source::State(name) = written {
            self.kept().insert(name.clone(), data.clone());
        }
    }

    /// Puts what is kept into the values of a plan.
    pub(crate) fn take(&self, graph: &Graph, values: &mut [Option<Data>]) {
        for (value, data) in graph.values.iter().zip(values) {
            if let Source::State(name) = &value.source
                && let Some(kept) = self.kept().remove(name)
            {
                *data = Some(kept);
            }
        }
    }

    /// Keeps those of a plan.
    pub(crate) fn leave(&self, graph: &Graph, values: &[Option<Data>]) {
        for (value, data) in graph.values.iter().zip(values) {
            if let (Source::State(name), Some(data)) = (&value.source, data) {
                self.kept().insert(name.clone(), data.clone());
            }
        }
    }
}

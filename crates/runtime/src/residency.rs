//! What is on the device when: the account that decides which executables and weights stay, which leave for a stage that needs
//! their memory, and which weights are streamed. Knows no device: a run keeps it, and an estimate keeps another one alike.

use std::sync::{Arc, Weak};

use kinora_kernels::{Footprint, Graph, Preset, SharedBuffers};

use crate::error::{Error, Result};
use crate::executables::Key;

/// Bytes of activations that are kept between uses, in all stages together. Models whose clips need more give their memory
/// back after each stage, as its peak would otherwise be the sum of all stages instead of the largest.
pub(crate) const KEPT_BYTES: u64 = 256 << 20;

/// The share of what is left that is tried next if weights that are streamed take more while they are put there.
const LESS: f64 = 0.9;

/// How often less is tried.
const TRIES: usize = 4;

/// Something for a stage that waits for its next use.
pub(crate) struct Kept<T> {
    pub(crate) key: Key,
    /// Bytes of its activations.
    pub(crate) bytes: u64,
    /// Everything it takes; nothing on the CPU.
    pub(crate) footprint: Arc<Footprint>,
    pub(crate) held: T,
}

/// How a stage is put on the device.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) footprint: Arc<Footprint>,
    /// For its weights, if not all that they need.
    pub(crate) weight_bytes: Option<u64>,
}

/// What is on the device.
pub(crate) struct Account<T> {
    /// Bytes that everything together may take.
    budget: Option<u64>,
    /// From the least to the most recently used.
    kept: Vec<Kept<T>>,
    /// Of what is in use.
    out: Vec<Weak<Footprint>>,
    shared: SharedBuffers,
    peak: u64,
}

impl<T> Default for Account<T> {
    fn default() -> Self {
        Self { budget: None, kept: Vec::new(), out: Vec::new(), shared: SharedBuffers::default(), peak: 0 }
    }
}

impl<T> Account<T> {
    /// An empty one of so many bytes.
    pub(crate) fn with_budget(budget: Option<u64>) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Takes what is kept for `key` into use.
    pub(crate) fn take(&mut self, key: &Key) -> Option<Kept<T>> {
        let at = self.kept.iter().position(|kept| kept.key == *key)?;
        let kept = self.kept.remove(at);
        self.out.push(Arc::downgrade(&kept.footprint));
        Some(kept)
    }

    /// Makes room for `graphs` with activations of `value_bytes` on a device with the kernels of `preset`: first by what is kept,
    /// then by weights that nothing else uses, then by streaming their own.
    ///
    /// # Errors
    /// [`Error::Memory`] if all that is not enough.
    pub(crate) fn admit(&mut self, key: &Key, graphs: &[Graph], value_bytes: u64, preset: Preset) -> Result<Admission> {
        self.shrink(value_bytes);
        let whole = Footprint::of(graphs, preset, None)?;
        let Some(budget) = self.budget else { return Ok(self.put(whole, None)) };
        while self.peak_with(&whole) > budget {
            if !self.kept.is_empty() {
                self.kept.remove(0);
            } else if !self.evict(&|id| whole.has_weight(id)) {
                return self.stream(key, graphs, &whole, budget, preset);
            }
        }
        Ok(self.put(whole, None))
    }

    /// With as many weights as fit, and the others in segments. Only what is one plan is run so.
    fn stream(&mut self, key: &Key, graphs: &[Graph], whole: &Footprint, budget: u64, preset: Preset) -> Result<Admission> {
        self.evict(&|_| false);
        let [added, _] = whole.place(&mut self.shared.clone());
        // Values, tables and vectors of equal values; what is read is copied.
        let fixed = self.live() + whole.own() + added.saturating_sub(whole.weight_bytes()) + whole.reading;
        let refused = |needed: u64| Error::Memory { stage: key.name(), needed, allowed: budget };
        let most = self.peak_with(whole);
        if most <= budget {
            return Ok(self.put(whole.clone(), None));
        }
        if graphs.len() > 1 {
            return Err(refused(most));
        }
        let (mut room, mut least) = (budget.saturating_sub(fixed), None);
        for _ in 0..TRIES {
            let footprint = match Footprint::of(graphs, preset, Some(room)) {
                Ok(footprint) => footprint,
                Err(kinora_kernels::Error::Limit { needed, .. }) => return Err(refused(least.unwrap_or(fixed + needed))),
                Err(other) => return Err(other.into()),
            };
            let most = self.peak_with(&footprint);
            if most <= budget {
                return Ok(self.put(footprint, Some(room)));
            }
            least = Some(most);
            room = (room as f64 * LESS) as u64;
        }
        Err(refused(least.unwrap_or(most)))
    }

    fn put(&mut self, footprint: Footprint, weight_bytes: Option<u64>) -> Admission {
        let live = self.live();
        let [_, most] = footprint.place(&mut self.shared);
        let footprint = Arc::new(footprint);
        self.out.push(Arc::downgrade(&footprint));
        let own = self.live() - self.shared.bytes();
        self.peak = self.peak.max(live + most).max(own + self.shared.read(footprint.reading));
        Admission { footprint, weight_bytes }
    }

    /// Puts something back for its next use, if it is small.
    pub(crate) fn keep(&mut self, kept: Kept<T>) {
        self.shrink(kept.bytes);
        self.out.retain(|out| !std::ptr::eq(out.as_ptr(), Arc::as_ptr(&kept.footprint)));
        if kept.bytes <= KEPT_BYTES {
            self.kept.push(kept);
        }
    }

    /// Forgets everything: the device is gone.
    pub(crate) fn clear(&mut self) {
        *self = Self::with_budget(self.budget);
    }

    /// Whether something is kept for `key`.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.kept.iter().any(|kept| kept.key == *key)
    }

    /// Whether a weight is on the device.
    pub(crate) fn has_weight(&self, id: u64) -> bool {
        self.shared.has_weight(id)
    }

    /// Bytes on the device at most since this was asked last.
    pub(crate) fn take_peak(&mut self) -> u64 {
        let live = self.live();
        std::mem::replace(&mut self.peak, live)
    }

    /// Bytes on the device.
    fn live(&self) -> u64 {
        let out = self.out.iter().filter_map(Weak::upgrade).map(|footprint| footprint.own());
        self.shared.bytes() + self.kept.iter().map(|kept| kept.footprint.own()).chain(out).sum::<u64>()
    }

    fn peak_with(&self, footprint: &Footprint) -> u64 {
        let mut shared = self.shared.clone();
        let [_, most] = footprint.place(&mut shared);
        let own = self.live() - self.shared.bytes() + footprint.own();
        (self.live() + most).max(own + shared.read(footprint.reading))
    }

    /// Forgets weights that nothing in use reads and `keep` does not want; whether there were any.
    fn evict(&mut self, keep: &dyn Fn(u64) -> bool) -> bool {
        let used: Vec<Arc<Footprint>> = self.out.iter().filter_map(Weak::upgrade).collect();
        self.shared.retain_weights(|id| keep(id) || used.iter().any(|footprint| footprint.has_weight(id)))
    }

    /// Drops the least recently used until there is room for so many bytes of activations, or nothing is left.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        self.out.retain(|out| out.strong_count() > 0);
        while !self.kept.is_empty() && self.kept.iter().map(|kept| kept.bytes).sum::<u64>() + bytes > KEPT_BYTES {
            self.kept.remove(0);
        }
    }
}

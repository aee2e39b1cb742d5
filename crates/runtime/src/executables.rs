//! What a pipeline has ready to run: executables by stage and sizes, for clips, windows and previews like those before.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use kinora_kernels::memory::GroupPlan;
use kinora_kernels::{CancelToken, Device, Executable, Graph};

use crate::error::Result;
use crate::layout::{Chosen, Layout};
use crate::models::family::Doubles;
use crate::sampling::denoise::Sizes;
use crate::shape::LatentShape;

/// Bytes of activations that are kept between uses, in all stages together. Models whose clips need more give their memory
/// back after each stage, as its peak would otherwise be the sum of all stages instead of the largest.
pub const KEPT_BYTES: u64 = 256 << 20;

/// A stage, and the sizes that its plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Text of sequences of these lengths.
    Text(Vec<[usize; 2]>),
    /// Frames to these latents.
    Encode(LatentShape),
    /// Noise to latents.
    Denoise(Box<Sizes>),
    /// These latents to frames.
    Decode(LatentShape),
    /// So many frames, rows and columns to more of them.
    Refine(Doubles, [usize; 3]),
}

/// An executable in use. One that is [kept](Executables::keep) afterwards is found again; one that failed is dropped.
pub struct Lease {
    key: Key,
    bytes: u64,
    execs: Vec<Executable>,
    /// What they are pieces of, if they are.
    layout: Arc<Layout>,
}

impl Lease {
    /// What its [pieces](Self::piece) make up.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        self.layout.clone()
    }

    /// The executable of a piece of the layout.
    pub(crate) fn piece(&mut self, at: usize) -> &mut Executable {
        &mut self.execs[at]
    }
}

impl Deref for Lease {
    type Target = Executable;

    fn deref(&self) -> &Executable {
        &self.execs[0]
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Executable {
        &mut self.execs[0]
    }
}

/// Executables that wait for their next use.
#[derive(Default)]
pub struct Executables(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// From the least to the most recently used.
    kept: Vec<Lease>,
    made: usize,
}

impl Executables {
    /// The executable of `key`, made from `record` if none is kept.
    ///
    /// # Errors
    /// Those of `record`, [`Kernels`](crate::Error::Kernels).
    pub fn take(&self, key: Key, device: &Device, cancel: &CancelToken, record: impl FnOnce() -> Result<Graph>) -> Result<Lease> {
        let chosen = || {
            let graphs = vec![record()?];
            Ok(Chosen { value_bytes: GroupPlan::of(&graphs).total_bytes(), graphs, ..Chosen::default() })
        };
        self.take_pieces(key, device, cancel, chosen)
    }

    /// The executables of `key`, made from what `choose` returns if none are kept.
    ///
    /// # Errors
    /// Those of `choose`, [`Kernels`](crate::Error::Kernels).
    pub(crate) fn take_pieces(
        &self,
        key: Key,
        device: &Device,
        cancel: &CancelToken,
        choose: impl FnOnce() -> Result<Chosen>,
    ) -> Result<Lease> {
        let with_cancel = |execs: Vec<Executable>| execs.into_iter().map(|exec| exec.with_cancel(cancel.clone())).collect();
        let kept = self.with(|shelf| shelf.kept.iter().position(|lease| lease.key == key).map(|at| shelf.kept.remove(at)));
        if let Some(lease) = kept {
            return Ok(Lease { execs: with_cancel(lease.execs), ..lease });
        }
        let Chosen { layout, graphs, value_bytes: bytes, .. } = choose()?;
        // Before the new ones are allocated.
        self.with(|shelf| shelf.shrink(bytes));
        let execs: Vec<Executable> = with_cancel(Executable::group(device, graphs)?);
        self.with(|shelf| shelf.made += execs.len());
        Ok(Lease { key, bytes, execs, layout: Arc::new(layout) })
    }

    /// Puts an executable back for its next use.
    pub fn keep(&self, lease: Lease) {
        self.with(|shelf| {
            shelf.shrink(lease.bytes);
            if lease.bytes <= KEPT_BYTES {
                shelf.kept.push(lease);
            }
        });
    }

    /// Whether there is one for `key`.
    pub fn has(&self, key: &Key) -> bool {
        self.with(|shelf| shelf.kept.iter().any(|lease| lease.key == *key))
    }

    /// How many were made so far.
    pub fn made(&self) -> usize {
        self.with(|shelf| shelf.made)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shelf) -> T) -> T {
        // What is kept stays consistent if a holder panics: leases move in and out whole.
        act(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Shelf {
    /// Drops the least recently used until there is room for so many bytes, or nothing is left.
    fn shrink(&mut self, bytes: u64) {
        while !self.kept.is_empty() && self.kept.iter().map(|lease| lease.bytes).sum::<u64>() + bytes > KEPT_BYTES {
            self.kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use kinora_kernels::{Cadence, Plan};

    use super::*;

    fn graph(rows: usize) -> Result<Graph> {
        let plan = Plan::new();
        plan.output("y", plan.input("x", &[rows, 4], Cadence::Once).silu());
        Ok(plan.finish()?)
    }

    #[test]
    fn what_is_kept_is_found_by_its_sizes() {
        let (all, device, cancel) = (Executables::default(), Device::cpu(), CancelToken::default());
        let take = |rows: usize| all.take(Key::Text(vec![[rows, rows]]), &device, &cancel, || graph(rows)).expect("runs");
        all.keep(take(1));
        assert!(all.has(&Key::Text(vec![[1, 1]])) && !all.has(&Key::Text(vec![[2, 2]])), "one of them");
        all.keep(take(2));
        all.keep(take(1));
        assert_eq!(all.made(), 2, "the third was kept");
        drop(take(1));
        assert!(!all.has(&Key::Text(vec![[1, 1]])), "what is not put back is gone");
    }

    #[test]
    fn what_is_too_large_makes_room_and_is_not_kept() {
        let (all, device, cancel) = (Executables::default(), Device::cpu(), CancelToken::default());
        let take = |rows: usize| all.take(Key::Text(vec![[rows, rows]]), &device, &cancel, || graph(rows)).expect("runs");
        all.keep(take(1));
        // An input and an output of 16 bytes a row.
        let large = usize::try_from(KEPT_BYTES).expect("a 64-bit or 32-bit machine") / 16;
        let lease = take(large);
        assert!(!all.has(&Key::Text(vec![[1, 1]])), "dropped before the large one was made");
        all.keep(lease);
        assert!(!all.has(&Key::Text(vec![[large, large]])), "given back");
    }
}

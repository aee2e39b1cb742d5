//! What a pipeline has ready to run: executables by stage and sizes, for clips, windows and previews like those before.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use kinora_kernels::{CancelToken, Device, Executable, Graph};

use crate::error::Result;
use crate::layout::{Chosen, Layout};
use crate::models::family::Doubles;
use crate::residency::{Account, Admission, Kept};
#[cfg(feature = "families")]
use crate::sampling::denoise::rollout;
use crate::sampling::denoise::{MovingSizes, Sizes};
use crate::shape::LatentShape;

/// A stage, and the sizes that its plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Text of sequences of these lengths.
    Text(Vec<[usize; 2]>),
    /// So many pictures.
    Pictures(usize),
    /// Frames to these latents.
    Encode(LatentShape),
    /// Noise to latents.
    Denoise(Box<Sizes>),
    /// A step from what the model said before.
    Reuse(Box<MovingSizes>),
    /// Noise to latents, block by block.
    #[cfg(feature = "families")]
    Rollout(Box<rollout::Sizes>),
    /// These latents to frames.
    Decode(LatentShape),
    /// The same, one latent frame after another as they are made.
    #[cfg(feature = "families")]
    Stream(LatentShape),
    /// So many frames, rows and columns to more of them.
    Refine(Doubles, [usize; 3]),
    /// These latents to more of them.
    #[cfg(feature = "families")]
    Enlarge(Doubles, LatentShape),
}

impl Key {
    /// What the stage does, for errors and plans.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text encoder",
            Self::Pictures(_) => "image encoder",
            Self::Encode(_) => "encoder",
            Self::Denoise(_) | Self::Reuse(_) => "denoiser",
            #[cfg(feature = "families")]
            Self::Rollout(_) => "denoiser",
            Self::Decode(_) => "decoder",
            #[cfg(feature = "families")]
            Self::Stream(_) => "decoder",
            Self::Refine(..) => "refiner",
            #[cfg(feature = "families")]
            Self::Enlarge(..) => "upsampler",
        }
    }
}

/// What a stage runs.
pub(crate) struct Ready {
    execs: Vec<Executable>,
    /// What they are pieces of, if they are.
    layout: Arc<Layout>,
}

/// An executable in use. One that is [kept](Executables::keep) afterwards is found again; one that failed is dropped.
pub struct Lease(Kept<Ready>);

impl Lease {
    /// What its [pieces](Self::piece) make up.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        self.0.held.layout.clone()
    }

    /// The executable of a piece of the layout.
    pub(crate) fn piece(&mut self, at: usize) -> &mut Executable {
        &mut self.0.held.execs[at]
    }
}

impl Deref for Lease {
    type Target = Executable;

    fn deref(&self) -> &Executable {
        &self.0.held.execs[0]
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Executable {
        self.piece(0)
    }
}

/// Executables that wait for their next use.
#[derive(Default)]
pub struct Executables(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    account: Account<Ready>,
    made: usize,
}

impl Executables {
    /// None yet, on a device of which all of them together may take so many bytes.
    pub(crate) fn with_budget(budget: Option<u64>) -> Self {
        Self(Mutex::new(Shelf { account: Account::with_budget(budget), made: 0 }))
    }

    /// The executable of `key`, made from `record` if none is kept.
    ///
    /// # Errors
    /// Those of `record`, [`Kernels`](crate::Error::Kernels), [`Memory`](crate::Error::Memory).
    pub fn take(&self, key: Key, device: &Device, cancel: &CancelToken, record: impl FnOnce() -> Result<Graph>) -> Result<Lease> {
        self.take_pieces(key, device, cancel, || Ok(Chosen::of(record()?)))
    }

    /// The executables of `key`, made from what `choose` returns if none are kept.
    ///
    /// # Errors
    /// Those of `choose`, [`Kernels`](crate::Error::Kernels), [`Memory`](crate::Error::Memory).
    pub(crate) fn take_pieces(
        &self,
        key: Key,
        device: &Device,
        cancel: &CancelToken,
        choose: impl FnOnce() -> Result<Chosen>,
    ) -> Result<Lease> {
        let with_cancel = |execs: Vec<Executable>| execs.into_iter().map(|exec| exec.with_cancel(cancel.clone())).collect();
        if let Some(Kept { held: Ready { execs, layout }, key, bytes, footprint }) = self.with(|shelf| shelf.account.take(&key)) {
            return Ok(Lease(Kept { held: Ready { execs: with_cancel(execs), layout }, key, bytes, footprint }));
        }
        let Chosen { layout, graphs, value_bytes: bytes, .. } = choose()?;
        // Before the new ones are allocated.
        let Admission { footprint, weight_bytes } = self.with(|shelf| shelf.admit(&key, &graphs, bytes, device))?;
        let execs: Vec<Executable> = with_cancel(Executable::group(device, graphs, weight_bytes)?);
        self.with(|shelf| shelf.made += execs.len());
        Ok(Lease(Kept { held: Ready { execs, layout: Arc::new(layout) }, key, bytes, footprint }))
    }

    /// Puts an executable back for its next use.
    pub fn keep(&self, lease: Lease) {
        self.with(|shelf| shelf.account.keep(lease.0));
    }

    /// Whether there is one for `key`.
    pub fn has(&self, key: &Key) -> bool {
        self.with(|shelf| shelf.account.has(key))
    }

    /// Drops those that wait: their device is gone.
    pub(crate) fn clear(&self) {
        self.with(|shelf| shelf.account.clear());
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
    fn admit(&mut self, key: &Key, graphs: &[Graph], bytes: u64, device: &Device) -> Result<Admission> {
        // The CPU twins read weights where they are.
        let Some(preset) = device.preset() else {
            self.account.shrink(bytes);
            return Ok(Admission { footprint: Arc::default(), weight_bytes: None });
        };
        let admission = self.account.admit(key, graphs, bytes, preset)?;
        device.evict(|id| self.account.has_weight(id));
        Ok(admission)
    }
}

#[cfg(test)]
mod tests {
    use kinora_kernels::{Cadence, Plan};

    use super::*;
    use crate::residency::KEPT_BYTES;

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

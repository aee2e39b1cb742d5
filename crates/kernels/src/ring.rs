//! The two slots of a plan that is run in segments, on a device.

use crate::allocation::Buffer;
use crate::buffers::Memory;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::kept::Kept;
use crate::pack::{Packer, Pending};
use crate::plan::Cadence;
use crate::segments::Segments;
use crate::weight::Weight;

/// Weights on their way through two slots. Everything is in the order of one queue, so that a slot is packed anew only after
/// what reads it.
pub(crate) struct Ring {
    segments: Segments,
    slots: [Buffer; 2],
    kept: Kept,
    packer: Option<Packer>,
    /// What is in each slot.
    loaded: [Option<(Cadence, usize)>; 2],
}

impl Ring {
    pub(crate) fn new(gpu: &Gpu, segments: Segments) -> Result<Self> {
        let slot = || gpu.storage("slot", segments.slot_bytes);
        let slots = [slot()?, slot()?];
        let kept = Kept::new(gpu, &segments, &slots)?;
        let packer = Packer::new(gpu, segments.read_again(), segments.window_bytes)?;
        Ok(Self { segments, slots, kept, packer, loaded: [None; 2] })
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Where a dispatch finds a weight that is not resident; `None` if it is.
    pub(crate) fn memory(&self, cadence: Cadence, dispatch: usize, weight: &Weight) -> Option<Memory> {
        let number = self.segments.containing(cadence, dispatch);
        let known = &self.segments.of(cadence).get(number)?.weights;
        let (_, offset) = known.iter().find(|(known, _)| known.id() == weight.id())?;
        Some(Memory { buffer: self.slots[number % 2].clone(), offset: *offset, bytes: weight.stored_bytes() })
    }

    /// Has the weights of a segment packed into its slot, if they are not there: what is submitted afterwards finds them.
    pub(crate) async fn load(&mut self, gpu: &Gpu, cadence: Cadence, number: usize) -> Result<()> {
        let (slot, Some(segment)) = (number % 2, self.segments.of(cadence).get(number)) else { return Ok(()) };
        if self.loaded[slot] == Some((cadence, number)) {
            return Ok(());
        }
        self.loaded[slot] = None;
        self.kept.unpack(gpu, cadence, number);
        let place = |offset: u64, weight: &Weight| Memory { buffer: self.slots[slot].clone(), offset, bytes: weight.stored_bytes() };
        let coming = || segment.weights.iter().filter(|(weight, _)| !self.segments.is_kept(weight));
        coming().try_for_each(|(weight, _)| weight.check())?;
        let mut pending = Pending::new(coming().map(|(weight, offset)| (weight.clone(), place(*offset, weight))).collect());
        match &mut self.packer {
            None => pending.upload(gpu)?,
            Some(packer) => {
                while !pending.is_empty() {
                    packer.room(gpu).await?;
                    packer.step(gpu, &mut pending)?;
                }
            }
        }
        self.loaded[slot] = Some((cadence, number));
        Ok(())
    }
}

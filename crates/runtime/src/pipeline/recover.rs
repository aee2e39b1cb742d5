//! A device that is lost is replaced, and the stage that ran on it goes on.

use std::cell::Cell;
use std::sync::{MutexGuard, PoisonError};

use kinora_kernels::Device;

use super::VideoPipeline;
use crate::error::{Error, Result};

impl VideoPipeline {
    /// Where it runs, now.
    pub fn device(&self) -> Device {
        self.current_device().clone()
    }

    fn current_device(&self) -> MutexGuard<'_, Device> {
        // It is replaced as a whole.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a stage, and once more on another device if its own is lost.
    pub(super) async fn on_device<T>(&self, stage: impl AsyncFnMut(&Device) -> Result<T>) -> Result<T> {
        self.going_on(&Cell::new(0), stage).await
    }

    /// [`on_device`](Self::on_device) for a stage that goes on where it was: as long as more of it is `done` from one loss to the
    /// next. Two at the same place are its own fault, and a system that resets a device over and over takes it away.
    pub(super) async fn going_on<T>(&self, done: &Cell<usize>, mut stage: impl AsyncFnMut(&Device) -> Result<T>) -> Result<T> {
        let mut lost_at = None;
        loop {
            let device = self.device();
            match stage(&device).await {
                // A page opens another itself, with kernels compiled ahead.
                Err(Error::Kernels(lost @ kinora_kernels::Error::DeviceLost { .. }))
                    if cfg!(not(target_arch = "wasm32")) && lost_at != Some(done.get()) =>
                {
                    lost_at = Some(done.get());
                    self.replace_device(&device, lost).await?;
                }
                // The device has dropped the weights that it kept; those of plans that wait would be there beside new ones.
                Err(error @ Error::Kernels(kinora_kernels::Error::Device { .. } | kinora_kernels::Error::OutOfMemory { .. })) => {
                    self.executables.clear();
                    device.settle().await;
                    return Err(error);
                }
                end => return end,
            }
        }
    }

    /// Opens the adapter of a lost device again, unless that was done meanwhile.
    async fn replace_device(&self, device: &Device, lost: kinora_kernels::Error) -> Result<()> {
        if !self.current_device().is(device) {
            return Ok(());
        }
        // Nothing on it can be used, and its memory may be wanted.
        self.executables.clear();
        let Ok(new) = device.reopened().await else { return Err(lost.into()) };
        *self.current_device() = new;
        Ok(())
    }
}

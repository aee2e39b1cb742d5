//! Compiled kernels in the user's cache: a driver that compiles slowly does so once.

use std::{env, fs, path::PathBuf};

use kinora_runtime::{Device, SavedKernels};

use crate::hub::caches;

/// Saves what is compiled when it is dropped. A cache that cannot be read or written costs time and nothing else.
pub(crate) struct KeptKernels {
    device: Device,
    path: Option<PathBuf>,
    before: Option<Vec<u8>>,
    pub(crate) outcome: SavedKernels,
}

impl KeptKernels {
    /// Gives `device` what was compiled for its driver before.
    pub(crate) fn of(device: &Device) -> Self {
        let path = env::var_os("KINORA_KERNEL_CACHE").map(PathBuf::from).or_else(|| Some(caches()?.join("kinora").join("kernels")));
        let mut kept = Self { device: device.clone(), path: None, before: None, outcome: SavedKernels::Unsupported };
        // An empty name turns it off.
        if let (Device::Gpu(gpu), Some(folder)) = (device, path.filter(|path| !path.as_os_str().is_empty())) {
            let name: String = gpu.driver_key().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(200).collect();
            let path = folder.join(name + ".bin");
            kept.before = fs::read(&path).ok();
            kept.outcome = gpu.keep_kernels(kept.before.as_deref());
            kept.path = Some(path);
        }
        kept
    }
}

impl Drop for KeptKernels {
    fn drop(&mut self) {
        if let (Device::Gpu(gpu), Some(path)) = (&self.device, &self.path)
            && let Some(saved) = gpu.saved_kernels()
            && self.before.as_ref() != Some(&saved)
            && let Some(folder) = path.parent()
        {
            // Another process may be doing the same: each renames a file of its own.
            let own = path.with_extension(format!("{}.partial", std::process::id()));
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&own, saved)).and_then(|()| fs::rename(&own, path));
            if written.is_err() {
                let _ = fs::remove_file(&own);
            }
        }
    }
}

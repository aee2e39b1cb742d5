//! Compiled kernels that outlive a process, where the driver hands them out (Vulkan): what was written by another driver, or is
//! damaged, is refused.

use crate::gpu::Gpu;

/// What these bytes begin with, and their layout.
const MAGIC: &[u8; 16] = b"kinora kernels 1";

/// What became of compiled kernels that were given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedKernels {
    /// None were given.
    Fresh,
    /// The driver has them.
    Reused,
    /// They are another driver's, or damaged.
    Refused,
    /// Kernels cannot be kept here.
    Unsupported,
}

impl SavedKernels {
    /// As the command writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Reused => "reused",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
        }
    }
}

impl Gpu {
    /// What tells drivers apart that cannot use each other's kernels.
    pub fn driver_key(&self) -> String {
        let info = self.info();
        format!("{}\n{}\n{}", info.backend, info.name, info.driver)
    }

    /// From now on kernels are compiled with the help of those that [`saved_kernels`](Self::saved_kernels) returned in another
    /// process. Says what became of them; a second call changes nothing.
    pub fn keep_kernels(&self, saved: Option<&[u8]>) -> SavedKernels {
        if !self.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return SavedKernels::Unsupported;
        }
        let data = saved.and_then(|saved| opened(saved, &self.driver_key()));
        let outcome = match (saved, data) {
            (None, _) => SavedKernels::Fresh,
            (Some(_), None) => SavedKernels::Refused,
            (Some(_), Some(_)) => SavedKernels::Reused,
        };
        self.cache.get_or_init(|| {
            let descriptor = wgpu::PipelineCacheDescriptor { label: Some("kinora"), data, fallback: true };
            // SAFETY: the bytes are what `get_data` returned for a driver of this name and version, whole by their hash.
            unsafe { self.device.create_pipeline_cache(&descriptor) }
        });
        outcome
    }

    /// The kernels that are compiled, for [`keep_kernels`](Self::keep_kernels) of another process.
    pub fn saved_kernels(&self) -> Option<Vec<u8>> {
        Some(sealed(&self.cache.get()?.get_data()?, &self.driver_key()))
    }
}

/// Magic, hash of the rest, length of the key, key, data.
fn sealed(data: &[u8], key: &str) -> Vec<u8> {
    let rest = [&(key.len() as u32).to_le_bytes()[..], key.as_bytes(), data].concat();
    [&MAGIC[..], &hash(&rest).to_le_bytes(), &rest].concat()
}

/// The data, if it is whole and of this key.
fn opened<'s>(saved: &'s [u8], key: &str) -> Option<&'s [u8]> {
    let (sum, rest) = saved.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let (length, text) = rest.split_first_chunk::<4>()?;
    let (own, data) = text.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (hash(rest) == u64::from_le_bytes(*sum) && own == key.as_bytes()).then_some(data)
}

/// FNV-1a: what breaks by accident is found.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{AdapterSelect, Cadence, Device, Executable, Plan, adapters};

    #[test]
    fn what_is_sealed_is_opened_by_its_key_alone() {
        let saved = sealed(b"kernels", "driver 1");
        assert_eq!(opened(&saved, "driver 1"), Some(&b"kernels"[..]));
        assert_eq!(opened(&saved, "driver 2"), None);
        for length in 0..saved.len() {
            assert_eq!(opened(&saved[..length], "driver 1"), None, "{length} of {} bytes", saved.len());
        }
        for at in 0..8 * saved.len() {
            let mut flipped = saved.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(opened(&flipped, "driver 1"), None, "bit {at}");
        }
    }

    #[test]
    fn kernels_of_one_process_are_used_by_the_next() {
        let open = |index| Arc::new(pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed"));
        let run = |gpu: &Arc<Gpu>| {
            let plan = Plan::new();
            plan.output("y", plan.input("x", &[4, 8], Cadence::Once).silu());
            let mut exec = Executable::new(&Device::Gpu(gpu.clone()), plan.finish().expect("valid")).expect("runs");
            exec.write("x", &[0.25; 32]).expect("an input");
            pollster::block_on(async {
                exec.run().await?;
                exec.read("y").await
            })
            .expect("runs")
        };
        for (index, adapter) in pollster::block_on(adapters()).iter().enumerate() {
            let first = open(index);
            let outcome = first.keep_kernels(None);
            let expected = run(&first);
            let Some(saved) = first.saved_kernels() else {
                assert_eq!((outcome, adapter.backend == "Vulkan"), (SavedKernels::Unsupported, false), "{}", adapter.name);
                continue;
            };
            assert_eq!(outcome, SavedKernels::Fresh, "{}", adapter.name);
            let second = open(index);
            assert_eq!(second.keep_kernels(Some(&saved)), SavedKernels::Reused, "{}", adapter.name);
            assert_eq!(run(&second), expected, "{}", adapter.name);
            assert_eq!(open(index).keep_kernels(Some(&saved[1..])), SavedKernels::Refused, "{}", adapter.name);
            let other = sealed(opened(&saved, &first.driver_key()).expect("its own"), "another driver");
            assert_eq!(open(index).keep_kernels(Some(&other)), SavedKernels::Refused, "{}", adapter.name);
        }
    }
}

//! Presets: which kernels run where several compute the same, and what each preset needs of an adapter.

use std::str::FromStr;

use crate::adapter::AdapterInfo;
use crate::error::Error;

/// A choice of kernels for the operations that have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Barrier-free register blocks, for software adapters.
    Soft,
    /// [`Soft`](Self::Soft) with loads shared in quads, for software adapters with subgroups of 4 (SwiftShader).
    Quads,
    /// Register blocks that a subgroup shares, for software adapters with subgroups of 8 and 64-bit integers (lavapipe on AVX2).
    Lanes,
    /// Tiles in workgroup memory, for GPUs.
    Gpu,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 4] = [Self::Soft, Self::Quads, Self::Lanes, Self::Gpu];

    /// The name in `KINORA_KERNELS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Quads => "quads",
            Self::Lanes => "lanes",
            Self::Gpu => "gpu",
        }
    }

    /// Invocations of a subgroup the kernels need, if they need subgroups.
    pub const fn subgroup_size(self) -> Option<u32> {
        match self {
            Self::Soft | Self::Gpu => None,
            Self::Quads => Some(4),
            Self::Lanes => Some(8),
        }
    }

    /// What the kernels need of an adapter, in words.
    pub(crate) const fn needs(self) -> &'static str {
        match self {
            Self::Soft => "nothing optional",
            Self::Quads => "subgroups of 4 invocations",
            Self::Lanes => "subgroups of 8 invocations and 64-bit integers in shaders",
            Self::Gpu => "workgroups of 256 invocations with 16384 bytes of memory",
        }
    }

    /// What the kernels need of a device.
    pub(crate) const fn features(self) -> wgpu::Features {
        match self {
            Self::Soft | Self::Gpu => wgpu::Features::empty(),
            Self::Quads => wgpu::Features::SUBGROUP,
            Self::Lanes => wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_INT64),
        }
    }

    /// Whether an adapter runs the kernels. All of WebGPU's defaults suffice for those without subgroups, but browsers may
    /// give less in compatibility modes.
    pub fn runs_on(self, adapter: &AdapterInfo) -> bool {
        let subgroups = self.subgroup_size().is_none_or(|size| adapter.subgroup_size == Some(size));
        let integers = adapter.integers64 || !self.features().contains(wgpu::Features::SHADER_INT64);
        let workgroups = self != Self::Gpu || (adapter.max_invocations >= 256 && adapter.max_workgroup_bytes >= 16_384);
        subgroups && integers && workgroups
    }

    /// The preset that is fastest on adapters like this one.
    pub(crate) fn best_for(adapter: &AdapterInfo) -> Self {
        let by_speed: &[Self] = if adapter.device_type == "Cpu" { &[Self::Lanes, Self::Quads] } else { &[Self::Gpu] };
        by_speed.iter().copied().find(|preset| preset.runs_on(adapter)).unwrap_or(Self::Soft)
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| Error::UnknownPreset { found: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> AdapterInfo {
        AdapterInfo {
            name: "A".into(),
            backend: "Vulkan".into(),
            device_type: "DiscreteGpu".into(),
            driver: "1".into(),
            max_binding_bytes: 1 << 27,
            max_buffer_bytes: 1 << 28,
            max_invocations: 256,
            max_workgroup_bytes: 16_384,
            subgroup_size: None,
            integers64: false,
            preset: Preset::Soft,
        }
    }

    #[test]
    fn limits_are_looked_at_before_a_preset_is_chosen() {
        assert_eq!(Preset::best_for(&adapter()), Preset::Gpu);
        for small in [AdapterInfo { max_invocations: 128, ..adapter() }, AdapterInfo { max_workgroup_bytes: 8192, ..adapter() }] {
            assert_eq!(Preset::best_for(&small), Preset::Soft, "{small:?}");
            assert_eq!(small.presets(), [Preset::Soft], "{small:?}");
        }
        let software = AdapterInfo { device_type: "Cpu".into(), subgroup_size: Some(8), ..adapter() };
        assert_eq!(Preset::best_for(&software), Preset::Soft, "no 64-bit integers");
        assert_eq!(Preset::best_for(&AdapterInfo { integers64: true, ..software }), Preset::Lanes);
    }

    #[test]
    fn names_are_read_back_and_a_typo_is_an_error() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse::<Preset>().expect("its name"), preset);
        }
        let error = "sfot".parse::<Preset>().expect_err("a typo");
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            ("unknown-kernels", "no kernels are called `sfot`; expected soft, quads, lanes or gpu")
        );
    }
}

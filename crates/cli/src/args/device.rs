//! Arguments for where to run.

use clap::{Args, ValueEnum};

use super::MODEL;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Executor {
    /// The kernels, on the adapter chosen by --device
    #[default]
    Gpu,
    /// The processor, for small models; `eval` runs the kernels' twins on it, exact and slow
    Cpu,
}

/// Where to run.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// Adapter by index or by part of its name, see `kinora doctor`
    #[arg(help_heading = MODEL, long, value_name = "INDEX|NAME", conflicts_with = "executor")]
    pub(crate) device: Option<String>,
    /// What runs the model
    #[arg(help_heading = MODEL, long, value_enum, default_value_t)]
    pub(crate) executor: Executor,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightType {
    #[default]
    F32,
    F16,
}

//! Arguments of `kinora bench`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, WeightType};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Model whose parts are measured too: a folder, or the name of a built-in model
    #[arg(short, long, value_name = "DIR|NAME", default_value = crate::models::BUILT_IN)]
    pub(crate) model: String,
    /// Storage of the model's weights on the device
    #[arg(long, value_enum, default_value_t = WeightType::F16)]
    pub(crate) dtype: WeightType,
    /// Measure the kernels alone
    #[arg(long, conflicts_with = "model")]
    pub(crate) kernels_only: bool,
    /// Also write the figures to this file, for --against
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Replace the file of --save
    #[arg(short = 'y', long, requires = "save")]
    pub(crate) overwrite: bool,
    /// Say how many times faster each row is than in this file of --save, relative to what the adapter reached in each
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Print a row of a table to post in place of all figures: adapter, driver, seconds a step, share of the peak
    #[arg(long)]
    pub(crate) share: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

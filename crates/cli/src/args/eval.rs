//! Arguments of `kinora eval`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, WeightType};

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Model folder in diffusers layout, one component's folder, or a weight file
    #[arg(short, long, value_name = "DIR|FILE")]
    pub(crate) model: PathBuf,
    /// Component, where --model is a whole model: transformer, vae or text_encoder
    #[arg(long, value_name = "NAME")]
    pub(crate) component: Option<String>,
    /// What to run of it: forward; encode and decode of an autoencoder; rollout of a transformer that goes block by block
    #[arg(long, value_name = "OP", default_value = "forward")]
    pub(crate) op: String,
    /// Safetensors file with the arguments of the reference class's method, by name
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,
    /// Safetensors file to write the results to
    #[arg(long, value_name = "FILE")]
    pub(crate) outputs: PathBuf,
    /// Storage of weights on the device
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dtype: WeightType,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

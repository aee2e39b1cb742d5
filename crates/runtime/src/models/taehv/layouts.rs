//! The one way its tensors are named, and the configuration that their shapes imply.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::layout::{Layout, Tensors};

/// That of its authors, which ComfyUI has too.
pub(super) const LAYOUTS: &[Layout] =
    &[Layout { prefixes: &["taehv.", ""], mark: "decoder.22.weight", names: &[], config, pipeline: |_| None }];

fn config(tensors: &Tensors<'_>) -> Result<Value> {
    let pixels = tensors.extent("decoder.22.weight", 0)?;
    let patch = (1..=8).find(|patch| 3 * patch * patch == pixels).unwrap_or(1);
    // A layer between frames has several times as many channels on its other side.
    let sides = |name: String| Ok([tensors.extent(&name, 0)?, tensors.extent(&name, 1)?]);
    let pools = |at: usize| sides(format!("encoder.{at}.conv.weight")).map(|[outputs, inputs]| inputs > outputs);
    let grows = |at: usize| sides(format!("decoder.{at}.conv.weight")).map(|[outputs, inputs]| outputs > inputs);
    let pools = [2, 7, 12].into_iter().map(pools).collect::<Result<Vec<bool>>>()?;
    let grows = [7, 13, 19].into_iter().map(grows).collect::<Result<Vec<bool>>>()?;
    Ok(json!({
        "_class_name": "TAEHV",
        "latent_channels": tensors.extent("decoder.1.weight", 1)?,
        "patch_size": patch,
        "encoder_time_downscale": pools,
        "decoder_time_upscale": grows,
    }))
}

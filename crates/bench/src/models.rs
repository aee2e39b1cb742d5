//! The heavy operators of published models in their own widths, each as a plan of its own.

use kinora_kernels::op::Padding;
use kinora_kernels::{AttentionOptions, Conv3dOptions, Graph, WeightFormat, dense_sequences};
use kinora_runtime::Result;

use crate::plans::{input, plan, weight};

/// Multiply-adds a second, as two operations each, from which on an adapter is given all tokens of a clip.
const FAST: f64 = 1e12;
/// 81 frames of 832×480 are 32,760 tokens; a third of them shows what a GPU reaches.
const MANY_TOKENS: usize = 9360;
/// A row of a software adapter stays below a second.
const FEW_TOKENS: usize = 256;
/// Rows of text.
const TEXT: usize = 512;

/// A transformer: name, heads and their size, width of the hidden layer.
const TRANSFORMERS: [(&str, [usize; 2], usize); 2] = [("wan-1.3b", [12, 128], 8960), ("ltx-2b", [32, 64], 8192)];

/// Name and plan, at as many tokens as an adapter of this peak takes in a moment.
pub(crate) fn of_models(peak_flops: f64) -> Result<Vec<(String, Graph)>> {
    let is_fast = peak_flops >= FAST;
    let tokens = if is_fast { MANY_TOKENS } else { FEW_TOKENS };
    let mut plans = Vec::new();
    for (name, [heads, d], hidden) in TRANSFORMERS {
        let width = heads * d;
        for (rows, columns) in [(width, width), (width, hidden), (hidden, width)] {
            let graph = plan(|plan| input(plan, "x", &[tokens, rows]).linear(&weight(&[columns, rows], WeightFormat::F16), None))?;
            plans.push((format!("{name}/linear/{tokens}x{rows}x{columns}"), graph));
        }
        for (keys, kind) in [(tokens, "attention"), (TEXT, "text_attention")] {
            let graph = plan(|plan| {
                let [q, k, v] = [("q", tokens), ("k", keys), ("v", keys)].map(|(name, rows)| input(plan, name, &[rows, width]));
                let (sequences, scale) = (dense_sequences(1, tokens, keys), 1.0 / (d as f32).sqrt());
                q.flash_attention(k, v, &AttentionOptions { heads, scale, sequences, mask: None, bias: None })
            })?;
            plans.push((format!("{name}/{kind}/{tokens}x{keys}/{heads}x{d}"), graph));
        }
    }
    // The widest layers of its decoder: at half and at the whole of 832×480, or a corner of them.
    let padding = Padding::Zero;
    let options = Conv3dOptions { stride: [1; 3], front: [2, 1, 1], back: [0, 1, 1], time_padding: padding, space_padding: padding };
    let sizes = if is_fast { [[4, 240, 416], [4, 480, 832]] } else { [[1, 16, 26], [1, 30, 52]] };
    for (channels, [frames, height, width]) in [192, 96].into_iter().zip(sizes) {
        let graph = plan(|plan| {
            let dims = [1, frames, height, width, channels];
            input(plan, "x", &dims).conv3d(&weight(&[channels, channels, 3, 3, 3], WeightFormat::F16), None, &options)
        })?;
        plans.push((format!("wan-vae/conv3d/{channels}-{channels}/3x3x3/{frames}x{height}x{width}"), graph));
    }
    Ok(plans)
}

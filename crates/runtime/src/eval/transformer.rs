//! `LTXVideoTransformer3DModel.forward`.

use kinora_kernels::{Cadence, Device, Executable, Plan};

use super::{Inputs, Output, finite, wrong_shape};
use crate::error::{Error, Result};
use crate::models::ltx::{TokenLayout, Transformer, TransformerInputs};
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};
use crate::nn::modulation::distinct;
use crate::nn::rope::BASE_EXTENTS;

pub(super) async fn forward(model: &Transformer, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&[
        "hidden_states",
        "encoder_hidden_states",
        "timestep",
        "encoder_attention_mask",
        "num_frames",
        "height",
        "width",
        "rope_interpolation_scale",
        "video_coords",
    ])?;
    let config = model.config();
    let (hidden, [batch, tokens, _]) = inputs.ranked("hidden_states", "[B, L, C]")?;
    hidden.expect_shape(&[batch, tokens, config.in_channels])?;
    let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
    text.expect_shape(&[batch, text_tokens, config.caption_channels])?;
    let (timesteps, index) = distinct(&per_token(inputs, batch, tokens)?);
    let mask = inputs.optional("encoder_attention_mask", &[batch, text_tokens])?;
    let rope = rope(model, inputs, batch, tokens)?;

    let plan = Plan::new();
    let d = config.width();
    let features = timestep_features(&timesteps);
    let sample = model.forward(
        &plan,
        &TransformerInputs {
            hidden_states: plan.input("hidden_states", &[batch * tokens, config.in_channels], Cadence::EveryStep),
            encoder_hidden_states: plan.input("encoder_hidden_states", &[batch * text_tokens, config.caption_channels], Cadence::Once),
            encoder_mask: mask.map(|mask| {
                let additive: Vec<f32> = mask.iter().map(|kept| (1.0 - kept) * -10000.0).collect();
                plan.constant(&[additive.len()], &additive)
            }),
            timestep_features: plan.constant(&[timesteps.len(), TIMESTEP_FEATURES], &features),
            timestep_index: plan.index_input("timestep_index", batch * tokens, Cadence::EveryStep),
            rope: plan.constant(&[rope.len() / d, d], &rope),
            layout: TokenLayout::uniform(batch, tokens, text_tokens),
        },
    );
    plan.output("sample", sample);

    let mut run = Executable::new(device, plan.finish()?)?;
    run.write("hidden_states", &hidden.to_f32())?;
    run.write("encoder_hidden_states", &text.to_f32())?;
    run.write_indices("timestep_index", &index)?;
    run.run().await?;
    let values = finite(&mut run, "sample").await?;
    Ok(vec![Output { name: "sample", shape: vec![batch, tokens, config.velocity_channels()], values }])
}

/// The timestep of each token; `timestep` has one per batch entry or one per token.
fn per_token(inputs: &Inputs<'_>, batch: usize, tokens: usize) -> Result<Vec<f32>> {
    let view = inputs.0.get("timestep")?;
    let values = view.to_f32();
    if values.len() == batch * tokens {
        return Ok(values);
    }
    if values.len() != batch {
        return Err(wrong_shape(&view, &format!("[{batch}] or [{batch}, {tokens}]")));
    }
    Ok(values.iter().flat_map(|t| std::iter::repeat_n(*t, tokens)).collect())
}

/// The rotary table: of the grid, or of `video_coords [B, 3, L]` in frames and pixels.
fn rope(model: &Transformer, inputs: &Inputs<'_>, batch: usize, tokens: usize) -> Result<Vec<f32>> {
    if let Some(coords) = inputs.optional("video_coords", &[batch, 3, tokens])? {
        let at = |b: usize, token: usize| [0, 1, 2].map(|axis| coords[(b * 3 + axis) * tokens + token] / BASE_EXTENTS[axis]);
        let coordinates: Vec<_> = (0..batch).flat_map(|b| (0..tokens).map(move |token| (b, token))).map(|(b, t)| at(b, t)).collect();
        return Ok(model.rope_at(&coordinates));
    }
    let grid = [inputs.count("num_frames")?, inputs.count("height")?, inputs.count("width")?];
    if grid.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent)) != Some(tokens) {
        return Err(Error::InvalidRequest {
            parameter: "num_frames, height, width".into(),
            found: format!("{grid:?}"),
            expected: format!("a grid of the {tokens} tokens of hidden_states"),
        });
    }
    let scale = inputs.optional("rope_interpolation_scale", &[3])?;
    Ok(model.rope(grid, scale.map(|s| [s[0], s[1], s[2]])))
}

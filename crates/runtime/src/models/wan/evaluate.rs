//! The transformer as `kinora eval` runs it: the `forward` of the two classes of Wan, and that of `AnyFlow`'s.

use kinora_kernels::{Cadence, Plan};

use super::{TransformerInputs, WanDenoiser};
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::family::{Denoiser, Evaluate, Table};
use crate::nn::modulation::distinct;
use crate::sampling::tokens::{pack, unpack};

/// Text tokens of a context that has images in front: the class takes the last 512 tokens for the text.
const TEXT_WITH_IMAGES: usize = 512;

/// What the second branch of VACE sees.
const CONTROL: &str = "control_hidden_states";
/// Factors of what it says.
const CONTROL_SCALE: &str = "control_hidden_states_scale";

impl Evaluate for WanDenoiser {
    fn operations(&self) -> &'static [&'static str] {
        if self.causal().is_some() { &["forward", "rollout"] } else { &["forward"] }
    }

    /// `WanTransformer3DModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let mut known = vec!["hidden_states", "timestep", "encoder_hidden_states", "encoder_hidden_states_image"];
        if self.is_told_ends() {
            return self.flow_map(inputs);
        }
        let has_control = !self.transformer.config().vace_layers.is_empty();
        known.extend([CONTROL, CONTROL_SCALE].into_iter().filter(|_| has_control));
        inputs.only(&known)?;
        let config = self.transformer.config();
        let (hidden, [batch, _, f, h, w]) = inputs.ranked("hidden_states", "[B, C, F, H, W]")?;
        hidden.expect_shape(&[batch, config.in_channels, f, h, w])?;
        let grid = self.grid(&hidden, [f, h, w])?;
        let tokens: usize = grid.iter().product();
        let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
        text.expect_shape(&[batch, text_tokens, config.text_dim])?;
        let images = self.images(inputs, batch, text_tokens)?;
        let control = has_control.then(|| inputs.get(CONTROL)).transpose()?;
        let seen_beside = [config.vace_in_channels, f, h, w];
        if let Some(control) = &control {
            control.expect_shape(&[&[batch][..], &seen_beside].concat())?;
        }
        let control_scale = inputs.optional(CONTROL_SCALE, &[config.vace_layers.len()])?.unwrap_or_default();
        let (timesteps, index) = distinct(&per_token(inputs, batch, tokens)?);

        let plan = Plan::new();
        let constant = |table: &Table| plan.constant(&table.shape, &table.values);
        let (latents, rows) = (config.patch_latents(), batch * tokens);
        let image_rows = images.as_ref().map_or(0, |(rows, _)| *rows);
        let channels = config.image_dim.unwrap_or(0);
        let sample = self.transformer.forward(
            &plan,
            &TransformerInputs {
                tokens: plan.input("tokens", &[rows, config.in_channels * latents], Cadence::EveryStep),
                text: plan.input("text", &[batch * text_tokens, config.text_dim], Cadence::Once),
                control: control.as_ref().map(|_| plan.input("control", &[rows, config.vace_in_channels * latents], Cadence::Once)),
                control_scale,
                images: images.as_ref().map(|_| plan.input("images", &[image_rows, channels], Cadence::Once)),
                timestep_features: constant(&self.timestep_features(&timesteps, &[])[0]),
                end_features: None,
                cache: None,
                timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
                rope: constant(&self.rope(&[grid], 0)),
                token_rows: vec![tokens; batch],
                text_rows: vec![text_tokens; batch],
                image_rows: vec![image_rows / batch; batch],
            },
        );
        plan.output("sample", sample);

        let patch = config.patch_size;
        let (seen, made) = ([config.in_channels, f, h, w], [config.velocity_channels(), f, h, w]);
        let packed = hidden.to_f32().chunks_exact(seen.iter().product()).flat_map(|clip| pack(clip, seen, patch)).collect();
        let mut run = Run::new(plan.finish()?).write("tokens", packed).write("text", text.to_f32()).write_indices("timestep_index", index);
        if let Some(control) = control {
            let beside =
                control.to_f32().chunks_exact(seen_beside.iter().product()).flat_map(|clip| pack(clip, seen_beside, patch)).collect();
            run = run.write("control", beside);
        }
        if let Some((_, values)) = images {
            run = run.write("images", values);
        }
        let finish = move |velocity: Vec<f32>| {
            let values = velocity.chunks_exact(made.iter().product()).flat_map(|clip| unpack(clip, made, patch)).collect();
            vec![Output { name: "sample", shape: vec![batch, made[0], f, h, w], values }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

impl WanDenoiser {
    /// `AnyFlowTransformer3DModel.forward`, whose latents are `[B, F, C, H, W]` and whose timesteps are `[B, F]`.
    fn flow_map(&self, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["hidden_states", "timestep", "r_timestep", "encoder_hidden_states"])?;
        let config = self.transformer.config();
        let (hidden, [batch, f, _, h, w]) = inputs.ranked("hidden_states", "[B, F, C, H, W]")?;
        hidden.expect_shape(&[batch, f, config.in_channels, h, w])?;
        let grid = self.grid(&hidden, [f, h, w])?;
        let tokens: usize = grid.iter().product();
        let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
        text.expect_shape(&[batch, text_tokens, config.text_dim])?;
        let [starts, ends] = ["timestep", "r_timestep"].map(|name| inputs.values(name, &[batch, f]));
        let (starts, ends) = (starts?, ends?);

        let plan = Plan::new();
        let tables = self.timestep_features(&starts, &ends);
        let [features, end_features] = [0, 1].map(|at| plan.constant(&tables[at].shape, &tables[at].values));
        let rope = self.rope(&[grid], 0);
        let (latents, rows) = (config.patch_latents(), batch * tokens);
        let sample = self.transformer.forward(
            &plan,
            &TransformerInputs {
                tokens: plan.input("tokens", &[rows, config.in_channels * latents], Cadence::EveryStep),
                text: plan.input("text", &[batch * text_tokens, config.text_dim], Cadence::Once),
                control: None,
                control_scale: Vec::new(),
                images: None,
                timestep_features: features,
                end_features: Some(end_features),
                cache: None,
                timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
                rope: plan.constant(&rope.shape, &rope.values),
                token_rows: vec![tokens; batch],
                text_rows: vec![text_tokens; batch],
                image_rows: vec![0; batch],
            },
        );
        plan.output("sample", sample);

        let (patch, seen, made) = (config.patch_size, [config.in_channels, f, h, w], [config.velocity_channels(), f, h, w]);
        let frames_first = |values: &[f32], [a, b]: [usize; 2]| swap_axes(values, [a, b, h * w]);
        let clips = hidden.to_f32();
        let packed = clips.chunks_exact(seen.iter().product());
        let packed = packed.flat_map(|clip| pack(&frames_first(clip, [f, seen[0]]), seen, patch)).collect();
        let per_frame = tokens / grid[0];
        let index = (0..rows).map(|row| (row / tokens * f + row % tokens / per_frame * patch[0]) as u32).collect();
        let run = Run::new(plan.finish()?).write("tokens", packed).write("text", text.to_f32()).write_indices("timestep_index", index);
        let finish = move |velocity: Vec<f32>| {
            let clips = velocity.chunks_exact(made.iter().product());
            let values = clips.flat_map(|clip| swap_axes(&unpack(clip, made, patch), [made[0], f, h * w])).collect();
            vec![Output { name: "sample", shape: vec![batch, f, made[0], h, w], values }]
        };
        Ok(run.output_with("sample", finish).into())
    }

    /// The grid of tokens of latents of these extents.
    fn grid(&self, hidden: &crate::weights::TensorView<'_>, extents: [usize; 3]) -> Result<[usize; 3]> {
        let config = self.transformer.config();
        let grid = [0, 1, 2].map(|axis| extents[axis] / config.patch_size[axis]);
        let whole = (0..3).all(|axis| grid[axis] * config.patch_size[axis] == extents[axis]);
        if !whole || grid.iter().any(|extent| *extent > config.rope_max_seq_len) {
            let expected = format!("multiples of {:?}, at most {} times", config.patch_size, config.rope_max_seq_len);
            return Err(wrong_shape(hidden, &format!("frames, height and width that are {expected}")));
        }
        Ok(grid)
    }

    /// Rows and values of `encoder_hidden_states_image [images, tokens, C]`, if the model takes it.
    fn images(&self, inputs: &Inputs<'_>, batch: usize, text_tokens: usize) -> Result<Option<(usize, Vec<f32>)>> {
        const NAME: &str = "encoder_hidden_states_image";
        let config = self.transformer.config();
        let Some(channels) = config.image_dim else {
            if inputs.contains(NAME) {
                let expected = "no images, since the configuration has no image_dim".into();
                return Err(Error::InvalidRequest { parameter: NAME.into(), found: "images".into(), expected });
            }
            return Ok(None);
        };
        let (view, [images, tokens, _]) = inputs.ranked(NAME, "[images, tokens, C]")?;
        view.expect_shape(&[images, tokens, channels])?;
        // With learned positions a sequence has two images, which lie one after another.
        let expected = config.pos_embed_seq_len.map_or(tokens, |both| both / 2);
        let count = batch * if config.pos_embed_seq_len.is_some() { 2 } else { 1 };
        if (images, tokens) != (count, expected) {
            return Err(wrong_shape(&view, &format!("[{count}, {expected}, {channels}]")));
        }
        if text_tokens != TEXT_WITH_IMAGES {
            let text = inputs.get("encoder_hidden_states")?;
            return Err(wrong_shape(&text, &format!("{TEXT_WITH_IMAGES} text tokens, as always beside images")));
        }
        Ok(Some((images * tokens, view.to_f32())))
    }
}

/// The timestep of each token; `timestep` has one per batch entry or one per token.
fn per_token(inputs: &Inputs<'_>, batch: usize, tokens: usize) -> Result<Vec<f32>> {
    let view = inputs.get("timestep")?;
    match view.shape {
        [b] if *b == batch => Ok(view.to_f32().iter().flat_map(|t| std::iter::repeat_n(*t, tokens)).collect()),
        [b, l] if [*b, *l] == [batch, tokens] => Ok(view.to_f32()),
        _ => Err(wrong_shape(&view, &format!("[{batch}] or [{batch}, {tokens}]"))),
    }
}

/// `[A, B, n]` → `[B, A, n]`.
fn swap_axes(values: &[f32], [a, b, n]: [usize; 3]) -> Vec<f32> {
    (0..b).flat_map(|j| (0..a).flat_map(move |i| &values[(i * b + j) * n..][..n])).copied().collect()
}

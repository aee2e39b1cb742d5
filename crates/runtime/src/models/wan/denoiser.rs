//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::{Transformer, TransformerInputs};
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::manifest::Index;
use crate::models::family::{Call, Denoiser, DenoiserInputs, Evaluate, Given, NoiseLevels, Pictures, Table};
use crate::nn::embed::sinusoids;
use crate::nn::modulation::distinct;
use crate::sampling::tokens::{pack, unpack};

/// Text tokens of a context that has images in front: the class takes the last 512 tokens for the text.
const TEXT_WITH_IMAGES: usize = 512;

/// What the second branch of VACE sees.
const CONTROL: &str = "control_hidden_states";

/// `WanTransformer3DModel` or `WanVACETransformer3DModel` in a pipeline.
pub struct WanDenoiser {
    transformer: Transformer,
    noise_levels: NoiseLevels,
}

impl WanDenoiser {
    /// The transformer of the model of `index`, whose `expand_timesteps` says whether it was trained with a timestep per token.
    pub fn new(transformer: Transformer, index: &Index) -> Self {
        let per_token = index.get("expand_timesteps").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Self { transformer, noise_levels: if per_token { NoiseLevels::PerToken } else { NoiseLevels::Uniform } }
    }

    /// Rotary table of the grids of several sequences; those of one size share it.
    fn rope(&self, grids: &[[usize; 3]]) -> Table {
        let grids = if grids.windows(2).all(|pair| pair[0] == pair[1]) { &grids[..grids.len().min(1)] } else { grids };
        let (mut shape, mut values) = ([0, 0], Vec::new());
        for grid in grids {
            let ([rows, columns], table) = self.transformer.rope(*grid);
            shape = [shape[0] + rows, columns];
            values.extend(table);
        }
        Table { name: "rope", shape: shape.to_vec(), values }
    }

    fn timestep_features(&self, timesteps: &[f32]) -> Table {
        let features = self.transformer.config().freq_dim;
        Table { name: "timestep_features", shape: vec![timesteps.len(), features], values: sinusoids(timesteps, features) }
    }
}

impl Denoiser for WanDenoiser {
    fn packing(&self) -> [usize; 3] {
        self.transformer.config().patch_size
    }

    fn latent_channels(&self) -> usize {
        self.transformer.config().velocity_channels()
    }

    fn text_channels(&self) -> usize {
        self.transformer.config().text_dim
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["out_channels", "text_dim"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        self.noise_levels
    }

    fn given(&self) -> Given {
        let config = self.transformer.config();
        if !config.vace_layers.is_empty() {
            return Given::Control(config.vace_in_channels);
        }
        match config.in_channels.saturating_sub(config.velocity_channels()) {
            0 => Given::Tokens,
            more => Given::Channels(more),
        }
    }

    fn pictures(&self) -> Option<Pictures> {
        let config = self.transformer.config();
        // With learned positions there are two.
        config.image_dim.map(|channels| Pictures { channels, count: if config.pos_embed_seq_len.is_some() { 2 } else { 1 } })
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        vec![self.rope(call.grids), self.timestep_features(call.timesteps)]
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let (beside, control) = if let Given::Control(_) = self.given() { (None, inputs.features) } else { (inputs.features, None) };
        let inputs = TransformerInputs {
            tokens: beside.map_or(inputs.tokens, |features| inputs.tokens.concat(features)),
            control,
            text: inputs.text,
            images: inputs.pictures,
            timestep_features: inputs.table("timestep_features"),
            timestep_index: inputs.timestep_index,
            rope: inputs.table("rope"),
            token_rows: call.token_rows(),
            text_rows: call.text_rows.to_vec(),
            image_rows: call.picture_rows.to_vec(),
        };
        self.transformer.forward(plan, &inputs)
    }

    fn first_block(&self) -> &'static str {
        "blocks.0."
    }
}

impl Evaluate for WanDenoiser {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `WanTransformer3DModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let mut known = vec!["hidden_states", "timestep", "encoder_hidden_states", "encoder_hidden_states_image"];
        let has_control = !self.transformer.config().vace_layers.is_empty();
        known.extend(has_control.then_some(CONTROL));
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
                images: images.as_ref().map(|_| plan.input("images", &[image_rows, channels], Cadence::Once)),
                timestep_features: constant(&self.timestep_features(&timesteps)),
                timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
                rope: constant(&self.rope(&[grid])),
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

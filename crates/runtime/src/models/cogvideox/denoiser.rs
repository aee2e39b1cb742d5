//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::{Transformer, TransformerInputs, positions};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::family::{Call, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table};
use crate::nn::embed::sinusoids;
use crate::nn::modulation::distinct;
use crate::sampling::tokens::{pack, unpack};

const FEATURES: &str = "timestep_features";
const POSITIONS: &str = "positions";
const ROPE: &str = "rope";

impl Transformer {
    fn timestep_features(&self, timesteps: &[f32]) -> Table {
        let features = self.config().width();
        Table { name: FEATURES, shape: vec![timesteps.len(), features], values: sinusoids(timesteps, features) }
    }

    /// Positions of several sequences: fixed ones of their video, or rotary ones of their text and video.
    fn positions(&self, grids: &[[usize; 3]], text_rows: &[usize]) -> Table {
        let config = self.config();
        let like = |i: usize| grids[i] == grids[0] && text_rows[i] == text_rows[0];
        // Equal sequences share a table.
        let count = if (0..grids.len()).all(like) { grids.len().min(1) } else { grids.len() };
        let (name, columns) = match config.use_rotary_positional_embeddings {
            true => (ROPE, config.attention_head_dim),
            false => (POSITIONS, config.width()),
        };
        let mut values = Vec::new();
        for (grid, text) in grids.iter().zip(text_rows).take(count) {
            if name == ROPE {
                // Text is not turned.
                values.extend([1.0, 0.0].repeat(text * columns / 2));
                values.extend(positions::rotary(config, *grid));
            } else {
                values.extend(positions::fixed(config, *grid));
            }
        }
        Table { name, shape: vec![values.len() / columns, columns], values }
    }
}

impl Denoiser for Transformer {
    fn packing(&self) -> [usize; 3] {
        self.config().packing()
    }

    fn latent_channels(&self) -> usize {
        self.config().predicted_channels()
    }

    fn text_channels(&self) -> usize {
        self.config().text_embed_dim
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["out_channels", "text_embed_dim"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::Uniform
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        vec![self.positions(call.grids, call.text_rows), self.timestep_features(call.timesteps)]
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let inputs = TransformerInputs {
            tokens: inputs.tokens,
            text: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            positions: inputs.optional_table(POSITIONS),
            rope: inputs.optional_table(ROPE),
            token_rows: call.token_rows(),
            text_rows: call.text_rows.to_vec(),
        };
        self.forward(plan, &inputs)
    }

    fn first_block(&self) -> &'static str {
        "transformer_blocks.0."
    }
}

impl Evaluate for Transformer {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `CogVideoXTransformer3DModel.forward`; the rotary table is the one that the pipeline gives it.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["hidden_states", "timestep", "encoder_hidden_states"])?;
        let (config, patch) = (self.config(), self.config().packing());
        let (hidden, [batch, f, _, h, w]) = inputs.ranked("hidden_states", "[B, F, C, H, W]")?;
        hidden.expect_shape(&[batch, f, config.in_channels, h, w])?;
        let grid = [0, 1, 2].map(|axis| [f, h, w][axis] / patch[axis]);
        if (0..3).any(|axis| grid[axis] * patch[axis] != [f, h, w][axis]) {
            return Err(wrong_shape(&hidden, &format!("frames, height and width that are multiples of {patch:?}")));
        }
        let tokens: usize = grid.iter().product();
        let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
        // Fixed positions have a place for each token of text.
        let demanded = if config.use_rotary_positional_embeddings { text_tokens } else { config.max_text_seq_length };
        text.expect_shape(&[batch, demanded, config.text_embed_dim])?;
        let view = inputs.get("timestep")?;
        view.expect_shape(&[batch])?;
        let (timesteps, index) = distinct(&view.to_f32().iter().flat_map(|t| std::iter::repeat_n(*t, tokens)).collect::<Vec<_>>());

        let plan = Plan::new();
        let constant = |table: &Table| plan.constant(&table.shape, &table.values);
        let positions = self.positions(&vec![grid; batch], &vec![text_tokens; batch]);
        let placed = |name: &str| (positions.name == name).then(|| constant(&positions));
        let (latents, rows) = (config.patch_latents(), batch * tokens);
        let given = TransformerInputs {
            tokens: plan.input("tokens", &[rows, config.in_channels * latents], Cadence::EveryStep),
            text: plan.input("text", &[batch * text_tokens, config.text_embed_dim], Cadence::Once),
            timestep_features: constant(&self.timestep_features(&timesteps)),
            timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
            positions: placed(POSITIONS),
            rope: placed(ROPE),
            token_rows: vec![tokens; batch],
            text_rows: vec![text_tokens; batch],
        };
        plan.output("sample", self.forward(&plan, &given));

        let (seen, made) = ([config.in_channels, f, h, w], [config.predicted_channels(), f, h, w]);
        // The reference has the frames outside the channels.
        let packed = |clip: &[f32]| pack(&exchanged(clip, [f, seen[0], h * w]), seen, patch);
        let packed = hidden.to_f32().chunks_exact(seen.iter().product()).flat_map(packed).collect();
        let run = Run::new(plan.finish()?).write("tokens", packed).write("text", text.to_f32()).write_indices("timestep_index", index);
        let finish = move |prediction: Vec<f32>| {
            let unpacked = |clip: &[f32]| exchanged(&unpack(clip, made, patch), [made[0], f, h * w]);
            let values = prediction.chunks_exact(made.iter().product()).flat_map(unpacked).collect();
            vec![Output { name: "sample", shape: vec![batch, f, made[0], h, w], values }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

/// `[A, B, C]` → `[B, A, C]`.
fn exchanged(values: &[f32], [a, b, c]: [usize; 3]) -> Vec<f32> {
    (0..b).flat_map(|j| (0..a).flat_map(move |i| values[(i * b + j) * c..][..c].iter().copied())).collect()
}

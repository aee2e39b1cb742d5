//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::grid::Grids;
use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::family::{Call, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table};
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};
use crate::nn::modulation::distinct;
use crate::sampling::tokens::{pack, unpack};

const FEATURES: &str = "timestep_features";
const IN_SPACE: &str = "positions_in_space";
const IN_TIME: &str = "positions_in_time";

impl Transformer {
    fn tables_of(&self, grids: &[[usize; 3]], timesteps: &[f32]) -> [Table; 3] {
        let (grids, config) = (Grids(grids), self.config());
        let table = |name, columns: usize, values: Vec<f32>| Table { name, shape: vec![values.len() / columns, columns], values };
        [
            table(IN_SPACE, config.width(), grids.positions_in_space(config)),
            table(IN_TIME, config.width(), grids.positions_in_time(config)),
            table(FEATURES, TIMESTEP_FEATURES, timestep_features(timesteps)),
        ]
    }
}

impl Denoiser for Transformer {
    fn packing(&self) -> [usize; 3] {
        self.config().packing()
    }

    fn latent_channels(&self) -> usize {
        self.config().in_channels
    }

    fn text_channels(&self) -> usize {
        self.config().caption_channels
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["in_channels", "caption_channels"]
    }

    fn predicts_variance(&self) -> bool {
        self.config().predicted_channels() > self.config().in_channels
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::Uniform
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        self.tables_of(call.grids, call.timesteps).into()
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let tokens = inputs.tokens;
        let inputs = TransformerInputs {
            tokens,
            text: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            positions_in_space: inputs.table(IN_SPACE),
            positions_in_time: inputs.table(IN_TIME),
            grids: call.grids.to_vec(),
            text_rows: call.text_rows.to_vec(),
        };
        let prediction = self.forward(plan, &inputs);
        // The reference's pipeline leaves out the variance that the other half of the channels predicts.
        if call.variance { prediction } else { prediction.columns(0, tokens.channels()).contiguous() }
    }

    fn first_block(&self) -> &'static str {
        "transformer_blocks.0."
    }
}

impl Evaluate for Transformer {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `LatteTransformer3DModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["hidden_states", "timestep", "encoder_hidden_states"])?;
        let (config, patch) = (self.config(), self.config().packing());
        let (hidden, [batch, _, f, h, w]) = inputs.ranked("hidden_states", "[B, C, F, H, W]")?;
        hidden.expect_shape(&[batch, config.in_channels, f, h, w])?;
        let grid = [f, h / config.patch_size, w / config.patch_size];
        if grid[1] * config.patch_size != h || grid[2] * config.patch_size != w {
            return Err(wrong_shape(&hidden, &format!("height and width that are multiples of {}", config.patch_size)));
        }
        if ![1, config.video_length].contains(&f) {
            return Err(wrong_shape(&hidden, &format!("{} frames, the video_length, or one", config.video_length)));
        }
        let tokens: usize = grid.iter().product();
        let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
        text.expect_shape(&[batch, text_tokens, config.caption_channels])?;
        let view = inputs.get("timestep")?;
        view.expect_shape(&[batch])?;
        let (timesteps, index) = distinct(&view.to_f32().iter().flat_map(|t| std::iter::repeat_n(*t, tokens)).collect::<Vec<_>>());

        let plan = Plan::new();
        let grids = vec![grid; batch];
        let [in_space, in_time, features] = self.tables_of(&grids, &timesteps).map(|table| plan.constant(&table.shape, &table.values));
        let rows = batch * tokens;
        let given = TransformerInputs {
            tokens: plan.input("tokens", &[rows, config.in_channels * config.patch_latents()], Cadence::EveryStep),
            text: plan.input("text", &[batch * text_tokens, config.caption_channels], Cadence::Once),
            timestep_features: features,
            timestep_index: plan.index_input("timestep_index", rows, Cadence::EveryStep),
            positions_in_space: in_space,
            positions_in_time: in_time,
            grids,
            text_rows: vec![text_tokens; batch],
        };
        plan.output("sample", self.forward(&plan, &given));

        let (seen, made) = ([config.in_channels, f, h, w], [config.predicted_channels(), f, h, w]);
        let packed = hidden.to_f32().chunks_exact(seen.iter().product()).flat_map(|clip| pack(clip, seen, patch)).collect();
        let run = Run::new(plan.finish()?).write("tokens", packed).write("text", text.to_f32()).write_indices("timestep_index", index);
        let finish = move |prediction: Vec<f32>| {
            let values = prediction.chunks_exact(made.iter().product()).flat_map(|clip| unpack(clip, made, patch)).collect();
            vec![Output { name: "sample", shape: vec![batch, made[0], f, h, w], values }]
        };
        Ok(run.output_with("sample", finish).into())
    }
}

//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs};
use crate::models::family::{Call, Classes, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table, TextEncoder};
use crate::models::images;
use crate::nn::embed::{TIMESTEP_FEATURES, shifted_timestep_features, timestep_features};
use crate::nn::positions;

const FEATURES: &str = "timestep_features";
const POSITIONS: &str = "positions";

impl Transformer {
    fn tables_of(&self, grids: &[[usize; 3]], timesteps: &[f32]) -> [Table; 2] {
        let config = self.config();
        // The two differ by as much as they are at late timesteps.
        let features = if self.is_official() { timestep_features(timesteps) } else { shifted_timestep_features(timesteps) };
        let table = |name, columns: usize, values: Vec<f32>| Table { name, shape: vec![values.len() / columns, columns], values };
        [
            table(POSITIONS, config.width(), positions::of_grids(grids, config.trained_patches(), 1.0, config.width())),
            table(FEATURES, TIMESTEP_FEATURES, features),
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
        self.labels().width()
    }

    fn classes(&self) -> Option<Classes> {
        Some(Classes { count: self.config().classes(), encoder: Box::new(self.labels().clone()) })
    }

    fn is_of_images(&self) -> bool {
        true
    }

    fn predicts_variance(&self) -> bool {
        self.config().predicted_channels() > self.config().in_channels
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["in_channels", "num_embeds_ada_norm"]
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
            classes: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            positions: inputs.table(POSITIONS),
            grids: call.grids.to_vec(),
        };
        let prediction = self.forward(plan, &inputs);
        // The variance is behind the noise.
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

    /// `DiTTransformer2DModel.forward`; the official `DiT` calls its arguments `x`, `t` and `y`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        images::evaluate(self, inputs)
    }
}

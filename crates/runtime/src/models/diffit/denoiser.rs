//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs};
use crate::models::family::{Call, Classes, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table, TextEncoder};
use crate::models::images;
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};
use crate::nn::positions;

const FEATURES: &str = "timestep_features";
const POSITIONS: &str = "positions";

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

    fn grid(&self) -> Option<[usize; 3]> {
        let edge = self.config().trained_patches();
        Some([1, edge, edge])
    }

    fn is_of_images(&self) -> bool {
        true
    }

    fn predicts_variance(&self) -> bool {
        self.config().predicted_channels() > self.config().in_channels
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["in_channels", "num_classes"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::Uniform
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        let (edge, width) = (self.config().trained_patches(), self.config().width());
        let table = |name, columns: usize, values: Vec<f32>| Table { name, shape: vec![values.len() / columns, columns], values };
        vec![
            table(POSITIONS, width, positions::of_grid([edge, edge], edge, 1.0, width)),
            table(FEATURES, TIMESTEP_FEATURES, timestep_features(call.timesteps)),
        ]
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let channels = inputs.tokens.channels();
        let inputs = TransformerInputs {
            tokens: inputs.tokens,
            classes: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            positions: inputs.table(POSITIONS),
            images: call.grids.len(),
        };
        let prediction = self.forward(plan, &inputs);
        // The variance is behind the noise.
        if call.variance { prediction } else { prediction.columns(0, channels).contiguous() }
    }

    fn first_block(&self) -> &'static str {
        "blocks.0."
    }
}

impl Evaluate for Transformer {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `forward` of the official class, which calls its arguments `x`, `t` and `y`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        images::evaluate(self, inputs)
    }
}

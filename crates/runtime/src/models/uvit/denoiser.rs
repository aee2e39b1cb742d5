//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs};
use crate::models::family::{Call, Classes, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table, TextEncoder};
use crate::models::images;
use crate::nn::embed::sinusoids;

const FEATURES: &str = "timestep_features";

impl Denoiser for Transformer {
    fn packing(&self) -> [usize; 3] {
        [1, self.config().patch_size, self.config().patch_size]
    }

    fn latent_channels(&self) -> usize {
        self.config().in_chans
    }

    fn text_channels(&self) -> usize {
        self.labels().map_or(self.config().clip_dim.unwrap_or(0), TextEncoder::width)
    }

    fn classes(&self) -> Option<Classes> {
        Some(Classes { count: self.config().classes(), encoder: Box::new(self.labels()?.clone()) })
    }

    fn grid(&self) -> Option<[usize; 3]> {
        Some([1, self.config().edge(), self.config().edge()])
    }

    fn is_of_images(&self) -> bool {
        true
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["in_chans", "clip_dim"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::Uniform
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        let width = self.config().embed_dim;
        vec![Table { name: FEATURES, shape: vec![call.timesteps.len(), width], values: sinusoids(call.timesteps, width) }]
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let inputs = TransformerInputs {
            tokens: inputs.tokens,
            condition: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            images: call.grids.len(),
        };
        self.forward(plan, &inputs)
    }

    fn first_block(&self) -> &'static str {
        "in_blocks.0."
    }
}

impl Evaluate for Transformer {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `UViT.forward`, which calls its arguments `x`, `timesteps`, and `y` or `context`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        images::evaluate(self, inputs)
    }
}

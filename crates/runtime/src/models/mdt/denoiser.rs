//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Plan, Tensor};

use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs};
use crate::models::family::{Call, Classes, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Table, TextEncoder};
use crate::models::images;
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};

const FEATURES: &str = "timestep_features";

impl Transformer {
    fn predicted<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>, kept: Option<Vec<usize>>) -> Tensor<'p> {
        let channels = inputs.tokens.channels();
        let inputs = TransformerInputs {
            tokens: inputs.tokens,
            classes: inputs.text,
            timestep_features: inputs.table(FEATURES),
            timestep_index: inputs.timestep_index,
            images: call.grids.len(),
            kept,
        };
        let prediction = self.forward(plan, &inputs);
        // The variance is behind the noise.
        if call.variance { prediction } else { prediction.columns(0, channels).contiguous() }
    }
}

impl Denoiser for Transformer {
    fn packing(&self) -> [usize; 3] {
        self.config().dit.packing()
    }

    fn latent_channels(&self) -> usize {
        self.config().dit.in_channels
    }

    fn text_channels(&self) -> usize {
        self.labels().width()
    }

    fn classes(&self) -> Option<Classes> {
        Some(Classes { count: self.config().dit.classes(), encoder: Box::new(self.labels().clone()) })
    }

    fn grid(&self) -> Option<[usize; 3]> {
        let edge = self.config().dit.trained_patches();
        Some([1, edge, edge])
    }

    fn is_of_images(&self) -> bool {
        true
    }

    fn predicts_variance(&self) -> bool {
        self.config().dit.predicted_channels() > self.config().dit.in_channels
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["in_channels", "num_classes"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::Uniform
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        vec![Table { name: FEATURES, shape: vec![call.timesteps.len(), TIMESTEP_FEATURES], values: timestep_features(call.timesteps) }]
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        self.predicted(plan, call, inputs, None)
    }

    fn first_block(&self) -> &'static str {
        "en_inblocks.0."
    }
}

impl Evaluate for Transformer {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `MDTv2.forward`, which calls its arguments `x`, `t` and `y`. With `ids_keep [K]`, places in rows, it is that of `enable_mask`: the
    /// encoder sees those tokens alone, of each image.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        let kept = match inputs.contains(KEPT) {
            false => None,
            true => {
                let (view, [count]) = inputs.ranked(KEPT, "[K]")?;
                let kept: Vec<usize> = inputs.indices(KEPT, &[count])?.into_iter().map(|place| place as usize).collect();
                let places = self.config().dit.trained_patches().pow(2);
                let distinct = kept.iter().collect::<std::collections::BTreeSet<_>>().len();
                if distinct < count || kept.iter().any(|place| *place >= places) {
                    return Err(crate::eval::wrong_shape(&view, &format!("different places below {places}")));
                }
                Some(kept)
            }
        };
        images::evaluate_with(self, inputs, &[KEPT], |plan, call, inputs| self.predicted(plan, call, inputs, kept))
    }
}

/// The argument that says which tokens the encoder sees.
const KEPT: &str = "ids_keep";

//! The transformer as the sampler sees it.

use kinora_kernels::{Plan, Tensor};
use serde::Deserialize;

use super::{Transformer, TransformerInputs};
use crate::error::Result;
use crate::manifest::Index;
use crate::models::causal::Causal;
use crate::models::family::{Call, Denoiser, DenoiserInputs, Given, NoiseLevels, Pictures, Table};
use crate::nn::embed::sinusoids;

/// `WanTransformer3DModel` or `WanVACETransformer3DModel` in a pipeline.
pub struct WanDenoiser {
    pub(super) transformer: Transformer,
    noise_levels: NoiseLevels,
    /// How strongly each layer of VACE's branch steers; in full, if nothing is said.
    control_scale: Vec<f32>,
}

/// What the `kinora` object of `model_index.json` may say of VACE: an argument of the reference's pipeline.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extensions {
    conditioning_scale: Option<Scale>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scale {
    All(f32),
    Each(Vec<f32>),
}

impl WanDenoiser {
    /// The transformer of the model of `index`, whose `expand_timesteps` says whether it was trained with a timestep per token.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig) for scales that are not those of its layers.
    pub fn new(transformer: Transformer, index: &Index) -> Result<Self> {
        let expanded = index.get("expand_timesteps").and_then(serde_json::Value::as_bool).unwrap_or(false);
        // In blocks, those that are given are finished ones.
        let per_token = expanded || transformer.config().kinora.causal.is_some();
        let layers = transformer.config().vace_layers.len();
        let control_scale = match index.kinora::<Extensions>()?.conditioning_scale {
            None => Vec::new(),
            Some(Scale::All(scale)) => vec![scale; layers],
            Some(Scale::Each(scales)) => scales,
        };
        if ![0, layers].contains(&control_scale.len()) || !control_scale.iter().all(|scale| scale.is_finite()) {
            return Err(
                index.invalid(format!("`kinora.conditioning_scale`: expected a number, or {layers} of them, found {control_scale:?}"))
            );
        }
        Ok(Self { transformer, noise_levels: if per_token { NoiseLevels::PerToken } else { NoiseLevels::Uniform }, control_scale })
    }

    /// Rotary table of the grids of several sequences from `first_frame` on; those of one size share it.
    pub(super) fn rope(&self, grids: &[[usize; 3]], first_frame: usize) -> Table {
        let grids = if grids.windows(2).all(|pair| pair[0] == pair[1]) { &grids[..grids.len().min(1)] } else { grids };
        let (mut shape, mut values) = ([0, 0], Vec::new());
        for grid in grids {
            let ([rows, columns], table) = self.transformer.rope(*grid, first_frame);
            shape = [shape[0] + rows, columns];
            values.extend(table);
        }
        Table { name: "rope", shape: shape.to_vec(), values }
    }

    /// Features of timesteps, and for a model that is told where their steps end, of that.
    pub(super) fn timestep_features(&self, timesteps: &[f32], ends: &[f32]) -> Vec<Table> {
        let config = self.transformer.config();
        let table = |name, timesteps: &[f32]| Table {
            name,
            shape: vec![timesteps.len(), config.freq_dim],
            values: sinusoids(timesteps, config.freq_dim),
        };
        let ends = config.flow_map.as_ref().map(|flow_map| {
            let deltas: Vec<f32> = timesteps.iter().zip(ends).map(|(t, end)| flow_map.delta(*t, *end)).collect();
            table("end_features", &deltas)
        });
        [table("timestep_features", timesteps)].into_iter().chain(ends).collect()
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

    fn causal(&self) -> Option<Causal> {
        self.transformer.config().kinora.causal
    }

    fn is_told_ends(&self) -> bool {
        self.transformer.config().flow_map.is_some()
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        let mut tables = self.timestep_features(call.timesteps, call.ends);
        tables.push(self.rope(call.grids, call.first_frame));
        tables
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let (beside, control) = if let Given::Control(_) = self.given() { (None, inputs.features) } else { (inputs.features, None) };
        let layers = self.transformer.config().vace_layers.len();
        let inputs = TransformerInputs {
            tokens: beside.map_or(inputs.tokens, |features| inputs.tokens.concat(features)),
            control,
            control_scale: call.conditioning_scale.map_or_else(|| self.control_scale.clone(), |scale| vec![scale; layers]),
            text: inputs.text,
            images: inputs.pictures,
            timestep_features: inputs.table("timestep_features"),
            end_features: inputs.optional_table("end_features"),
            cache: inputs.context,
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

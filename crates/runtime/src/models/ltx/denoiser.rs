//! The transformer as the sampler sees it, and as `kinora eval` runs it.

use kinora_kernels::{Cadence, Plan, Tensor};
use serde::Deserialize;

#[cfg(feature = "families")]
use super::condition;
use super::coordinates::{COORDINATE_CHANNELS, coordinates};
use super::rope::BASE_EXTENTS;
use super::{TokenLayout, Transformer, TransformerInputs};
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Inputs, Run, wrong_shape};
use crate::models::family::{Call, Denoiser, DenoiserInputs, Evaluate, NoiseLevels, Source, Table};
use crate::models::require;
use crate::nn::embed::{TIMESTEP_FEATURES, timestep_features};
use crate::nn::modulation::distinct;

/// What the `kinora` object of `model_index.json` may say of a transformer. None of it exists in the reference, whose tokens
/// are single latents without coordinate features.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Latent frames, rows and columns joined in one token.
    pub token_packing: [usize; 3],
    /// Constant position features appended to each token; 0 or 15.
    pub coordinate_channels: usize,
    /// Seconds and pixels per token for the rotary embedding; those of a latent if absent.
    pub rope_interpolation_scale: Option<[f32; 3]>,
}

impl Default for Extensions {
    fn default() -> Self {
        Self { token_packing: [1; 3], coordinate_channels: 0, rope_interpolation_scale: None }
    }
}

/// Latents per token and axis beyond which products of sizes could overflow; no model comes near.
const MOST_PACKED: usize = 64;

/// `LTXVideoTransformer3DModel` with what its model adds to the reference.
pub struct LtxDenoiser {
    transformer: Transformer,
    extensions: Extensions,
    /// Whether it has the positions of `LTXConditionPipeline`.
    #[cfg(feature = "families")]
    is_conditional: bool,
}

impl LtxDenoiser {
    /// The transformer with what the index of its model says of it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for extensions that the transformer cannot have.
    pub fn new(transformer: Transformer, source: &Source<'_>) -> Result<Self> {
        let extensions: Extensions = source.index.kinora()?;
        let Extensions { token_packing, coordinate_channels, .. } = extensions;
        if ![0, COORDINATE_CHANNELS].contains(&coordinate_channels) {
            return Err(source.index.invalid(format!("`kinora.coordinate_channels`: expected 0 or 15, found {coordinate_channels}")));
        }
        if token_packing.iter().any(|n| !(1..=MOST_PACKED).contains(n)) {
            let problem = format!("`kinora.token_packing`: expected 1 to {MOST_PACKED} each, found {token_packing:?}");
            return Err(source.index.invalid(problem));
        }
        // By itself a transformer is given whole tokens, whatever they are made of.
        if !source.index.is_empty() {
            let (inputs, outputs) = (transformer.config().in_channels, transformer.config().velocity_channels());
            let joined: usize = token_packing.iter().product();
            let whole = format!("a multiple of the {joined} latents of a token");
            require(source.file, "out_channels", &outputs, outputs.is_multiple_of(joined), &whole)?;
            let expected = format!("{}, out_channels and coordinate features", outputs + coordinate_channels);
            require(source.file, "in_channels", &inputs, inputs == outputs + coordinate_channels, &expected)?;
        }
        #[cfg(feature = "families")]
        let is_conditional = source.index.get("_class_name").is_some_and(|class| class == condition::PIPELINE);
        Ok(Self {
            transformer,
            extensions,
            #[cfg(feature = "families")]
            is_conditional,
        })
    }

    /// The rotary table of a sequence.
    fn rope(&self, sequence: usize, call: &Call<'_>) -> Vec<f32> {
        let grid = call.grids[sequence];
        let scale = self.extensions.rope_interpolation_scale.unwrap_or(call.spacing.latent);
        #[cfg(feature = "families")]
        if self.is_conditional {
            let of = |first, length| condition::coordinates(first, [length, grid[1], grid[2]], scale, call.spacing.frames);
            let mut all = of(0, grid[0]);
            call.beside.get(sequence).into_iter().flatten().for_each(|own| all.extend(of(own.frame, own.length)));
            return self.transformer.rope_at(&all);
        }
        self.transformer.rope(grid, Some(scale))
    }
}

impl Denoiser for LtxDenoiser {
    fn packing(&self) -> [usize; 3] {
        self.extensions.token_packing
    }

    fn latent_channels(&self) -> usize {
        self.transformer.config().velocity_channels() / self.packing().iter().product::<usize>()
    }

    fn text_channels(&self) -> usize {
        self.transformer.config().caption_channels
    }

    fn channel_fields(&self) -> [&'static str; 2] {
        ["out_channels", "caption_channels"]
    }

    fn noise_levels(&self) -> NoiseLevels {
        NoiseLevels::PerToken
    }

    #[cfg(feature = "families")]
    fn is_given_beside(&self) -> bool {
        self.is_conditional && self.extensions.token_packing == [1; 3] && self.extensions.coordinate_channels == 0
    }

    fn tables(&self, call: &Call<'_>) -> Vec<Table> {
        let width = self.transformer.config().width();
        // Sequences of one size, the two branches of guidance among them, share a table.
        let alike = call.grids.windows(2).all(|pair| pair[0] == pair[1]) && call.beside.windows(2).all(|pair| pair[0] == pair[1]);
        let own = if alike { 1 } else { call.grids.len() };
        let rope: Vec<f32> = (0..own).flat_map(|sequence| self.rope(sequence, call)).collect();
        let features = timestep_features(call.timesteps);
        let mut tables = vec![
            Table { name: "rope", shape: vec![rope.len() / width, width], values: rope },
            Table { name: "timestep_features", shape: vec![call.timesteps.len(), TIMESTEP_FEATURES], values: features },
        ];
        if self.extensions.coordinate_channels > 0 {
            let values: Vec<f32> = call.grids.iter().flat_map(|grid| coordinates(*grid)).collect();
            tables.push(Table { name: "coordinates", shape: vec![values.len() / COORDINATE_CHANNELS, COORDINATE_CHANNELS], values });
        }
        tables
    }

    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p> {
        let tokens = inputs.tokens;
        let inputs = TransformerInputs {
            hidden_states: inputs.optional_table("coordinates").map_or(tokens, |coordinates| tokens.concat(coordinates)),
            encoder_hidden_states: inputs.text,
            encoder_mask: None,
            timestep_features: inputs.table("timestep_features"),
            timestep_index: inputs.timestep_index,
            rope: inputs.table("rope"),
            layout: TokenLayout { video: call.token_rows(), text: call.text_rows.to_vec() },
        };
        self.transformer.forward(plan, &inputs)
    }

    fn first_block(&self) -> &'static str {
        "transformer_blocks.0."
    }
}

impl Evaluate for LtxDenoiser {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `LTXVideoTransformer3DModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
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
        let config = self.transformer.config();
        let (hidden, [batch, tokens, _]) = inputs.ranked("hidden_states", "[B, L, C]")?;
        hidden.expect_shape(&[batch, tokens, config.in_channels])?;
        let (text, [_, text_tokens, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
        text.expect_shape(&[batch, text_tokens, config.caption_channels])?;
        let (timesteps, index) = distinct(&per_token(inputs, batch, tokens)?);
        let mask = inputs.optional("encoder_attention_mask", &[batch, text_tokens])?;
        let rope = rope(&self.transformer, inputs, batch, tokens)?;

        let plan = Plan::new();
        let d = config.width();
        let features = timestep_features(&timesteps);
        let sample = self.transformer.forward(
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
        let run = Run::new(plan.finish()?)
            .write("hidden_states", hidden.to_f32())
            .write("encoder_hidden_states", text.to_f32())
            .write_indices("timestep_index", index);
        Ok(run.output("sample", &[batch, tokens, config.velocity_channels()]).into())
    }
}

/// The timestep of each token; `timestep` has one per batch entry or one per token.
fn per_token(inputs: &Inputs<'_>, batch: usize, tokens: usize) -> Result<Vec<f32>> {
    let view = inputs.get("timestep")?;
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

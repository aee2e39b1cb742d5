//! The diffusion transformer (arXiv 2212.09748 §3.2, adaLN-Zero; `DiTTransformer2DModel` of diffusers and the official `DiT`).

use kinora_kernels::op::Activation;
use kinora_kernels::{Plan, Tensor};

use super::{DitConfig, TransformerConfig};
use crate::error::Result;
use crate::models::images::{ImageRows, LabelTables, patches};
use crate::nn::embed::TIMESTEP_FEATURES;
use crate::nn::{AttentionNames, LayerNorm, Linear, Mlp, Modulation, Pattern, SelfAttention, TimestepEmbedder, Weights};

/// Added to the variance in norms that have nothing to learn.
pub(crate) const EPS: f32 = 1e-6;

/// Projections of diffusers.
const NAMES: AttentionNames = AttentionNames { q: "to_q", k: "to_k", v: "to_v", out: "to_out.0" };

/// What the transformer sees: R tokens of S images, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, C·ph·pw]`, features in the order (channel, row, column).
    pub tokens: Tensor<'p>,
    /// States of the class of each image `[S, E·D]`, see [`LabelTables`].
    pub classes: Tensor<'p>,
    /// Sinusoidal features `[T, 256]`.
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each token `[R]`, the same for all of an image.
    pub timestep_index: Tensor<'p>,
    /// What is added to the tokens `[L, D]`, R a multiple of L.
    pub positions: Tensor<'p>,
    /// Frames (one), rows and columns of each image.
    pub grids: Vec<[usize; 3]>,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    is_official: bool,
    patch_embedding: Linear,
    /// One for each block, or one for all.
    time_embedders: Vec<TimestepEmbedder>,
    labels: LabelTables,
    blocks: Vec<Block>,
    norm_out: LayerNorm,
    modulation_out: Linear,
    proj_out: Linear,
}

impl Transformer {
    /// Takes every tensor of the scope, by the names of diffusers, where each block has tables of its own.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, scopes) = (config.width(), || (0..config.num_layers).map(move |i| w.scope("transformer_blocks").scope(i)));
        let time = |w: Weights<'_>| TimestepEmbedder::load(&w.scope("norm1.emb.timestep_embedder"), d);
        let label = |w: Weights<'_>| w.scope("norm1.emb.class_embedder").embedding("embedding_table.weight", config.classes() + 1, d);
        let labels = LabelTables::new(scopes().map(label).collect::<Result<_>>()?, d);
        Ok(Self {
            is_official: false,
            patch_embedding: patches(w, "pos_embed.proj", config.patch())?,
            time_embedders: scopes().map(time).collect::<Result<_>>()?,
            labels,
            blocks: scopes().map(|w| Block::load(&w, config)).collect::<Result<_>>()?,
            norm_out: LayerNorm::plain("norm_out", EPS),
            modulation_out: w.linear("proj_out_1", d, 2 * d)?,
            proj_out: w.linear("proj_out_2", d, config.predicted_channels() * config.patch_latents())?,
            config: config.clone(),
        })
    }

    /// Takes every tensor of the scope, by the names of the official class, where all blocks share their tables.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_official(w: &Weights<'_>, config: &DitConfig) -> Result<Self> {
        let (config, last) = (&config.as_transformer(), w.scope("final_layer"));
        let d = config.width();
        let labels = w.scope("y_embedder").embedding("embedding_table.weight", config.classes() + 1, d)?;
        let time = w.scope("t_embedder.mlp");
        // Computed, for any grid.
        w.ignore("pos_embed");
        Ok(Self {
            is_official: true,
            patch_embedding: patches(w, "x_embedder.proj", config.patch())?,
            time_embedders: vec![TimestepEmbedder::new(time.linear("0", TIMESTEP_FEATURES, d)?, time.linear("2", d, d)?)],
            labels: LabelTables::new(vec![labels], d),
            blocks: (0..config.num_layers).map(|i| Block::load_official(&w.scope("blocks").scope(i), config)).collect::<Result<_>>()?,
            norm_out: LayerNorm::plain("norm_final", EPS),
            modulation_out: last.linear("adaLN_modulation.1", d, 2 * d)?,
            proj_out: last.linear("linear", d, config.predicted_channels() * config.patch_latents())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with, in the words of diffusers.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Whether it is of the official class, whose timesteps have other features.
    pub fn is_official(&self) -> bool {
        self.is_official
    }

    /// The tables of its classes.
    pub fn labels(&self) -> &LabelTables {
        &self.labels
    }

    /// The prediction `[R, Cout·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (images, d) = (ImageRows::of_grids(plan, &inputs.grids), self.config.width());
        let (of_row, pattern) = (images.of_row(), images.pattern());
        let at = images.first_of(inputs.timestep_index);
        // Of each image in a step: the embeddings of timesteps are those of the whole run.
        let embedded: Vec<Tensor<'p>> = self.time_embedders.iter().map(|own| own.forward(inputs.timestep_features)).collect();
        let condition = |i: usize| {
            let time = embedded[i.min(embedded.len() - 1)].gather_rows(at);
            (time + self.labels.of_block(inputs.classes, i)).silu()
        };
        let mut x = self.patch_embedding.forward(inputs.tokens) + inputs.positions;
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("transformer_blocks.{i}"), || block.forward(plan, x, (condition(i), of_row), &pattern));
        }
        let out = Modulation::new(self.modulation_out.forward(condition(0)), of_row, d);
        let [shift, scale] = out.parts();
        let x = self.proj_out.forward(out.scale_shift(self.norm_out.forward(x), shift, scale));
        // The layer gives (row, column, channel).
        if self.config.patch_latents() == 1 { x } else { x.transpose_channels(self.config.patch_latents()) }
    }
}

/// `BasicTransformerBlock` with `ada_norm_zero`, `DiTBlock`.
pub(crate) struct Block {
    modulation: Linear,
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, heads, ff) = (config.width(), config.num_attention_heads, w.scope("ff.net"));
        let attention = w.scope("attn1");
        let qkv = attention.linear_stack(&[NAMES.q, NAMES.k, NAMES.v], d, d, config.attention_bias)?;
        let scale = 1.0 / (config.attention_head_dim as f32).sqrt();
        Ok(Self {
            modulation: w.linear("norm1.linear", d, 6 * d)?,
            norm1: LayerNorm::plain("norm1", EPS),
            attention: SelfAttention::new(qkv, None, attention.linear(NAMES.out, d, d)?, heads, scale),
            norm2: match config.norm_elementwise_affine {
                true => w.layer_norm("norm3", d, config.norm_eps)?,
                false => LayerNorm::plain("norm3", config.norm_eps),
            },
            mlp: Mlp::new(ff.linear("0.proj", d, 4 * d)?, Activation::GeluTanh, ff.linear("2", 4 * d, d)?),
        })
    }

    /// By its official names.
    ///
    /// # Errors
    /// As [`Transformer::load`].
    pub(crate) fn load_official(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, heads, scale) = (config.width(), config.num_attention_heads, 1.0 / (config.attention_head_dim as f32).sqrt());
        let (attention, mlp) = (w.scope("attn"), w.scope("mlp"));
        Ok(Self {
            modulation: w.linear("adaLN_modulation.1", d, 6 * d)?,
            norm1: LayerNorm::plain("norm1", EPS),
            attention: SelfAttention::new(attention.linear("qkv", d, 3 * d)?, None, attention.linear("proj", d, d)?, heads, scale),
            norm2: LayerNorm::plain("norm2", EPS),
            mlp: Mlp::new(mlp.linear("fc1", d, 4 * d)?, Activation::GeluTanh, mlp.linear("fc2", 4 * d, d)?),
        })
    }

    /// `condition [S, D]` is of the images, and which of them each row is of.
    pub(crate) fn forward<'p>(
        &self,
        plan: &'p Plan,
        x: Tensor<'p>,
        condition: (Tensor<'p>, Tensor<'p>),
        pattern: &Pattern<'p>,
    ) -> Tensor<'p> {
        let modulation = Modulation::new(self.modulation.forward(condition.0), condition.1, x.channels());
        let [shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp] = modulation.parts();
        let h = modulation.scale_shift(self.norm1.forward(x), shift_attn, scale_attn);
        let h = plan.scope("attn", || self.attention.forward(h, None, pattern));
        let x = modulation.gated_add(h, x, gate_attn);
        let h = modulation.scale_shift(self.norm2.forward(x), shift_mlp, scale_mlp);
        let h = plan.scope("mlp", || self.mlp.forward(h));
        modulation.gated_add(h, x, gate_mlp)
    }
}

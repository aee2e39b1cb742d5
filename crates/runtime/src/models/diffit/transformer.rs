//! The transformer: time-dependent self-attention (arXiv 2312.02139 §3.2, equations 3 to 8) between tokens of latents.

use kinora_kernels::op::Activation;
use kinora_kernels::{Plan, Tensor};

use crate::error::Result;
use crate::models::dit::{EPS, TransformerConfig};
use crate::models::images::{ImageRows, LabelTables, OffsetBias, offsets, patches};
use crate::nn::embed::TIMESTEP_FEATURES;
use crate::nn::{LayerNorm, Linear, Mlp, Pattern, TimestepEmbedder, Weights};

/// What the transformer sees: R tokens of S images, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, C·ph·pw]`, features in the order (channel, row, column).
    pub tokens: Tensor<'p>,
    /// States of the class of each image `[S, D]`.
    pub classes: Tensor<'p>,
    /// Sinusoidal features `[T, 256]`.
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each token `[R]`, the same for all of an image.
    pub timestep_index: Tensor<'p>,
    /// What is added to the tokens `[L, D]`.
    pub positions: Tensor<'p>,
    /// S.
    pub images: usize,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    patch_embedding: Linear,
    time_embedder: TimestepEmbedder,
    labels: LabelTables,
    blocks: Vec<Block>,
    norm_out: LayerNorm,
    proj_out: Linear,
}

impl Transformer {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, time) = (config.width(), w.scope("t_embedder.mlp"));
        let labels = w.scope("y_embedder").embedding("embedding_table.weight", config.classes() + 1, d)?;
        // Computed.
        w.ignore("pos_embed");
        Ok(Self {
            patch_embedding: patches(w, "x_embedder.proj", config.patch())?,
            time_embedder: TimestepEmbedder::new(time.linear("0", TIMESTEP_FEATURES, d)?, time.linear("2", d, d)?),
            labels: LabelTables::new(vec![labels], d),
            blocks: (0..config.num_layers).map(|i| Block::load(&w.scope("blocks").scope(i), config)).collect::<Result<_>>()?,
            norm_out: LayerNorm::plain("norm_final", EPS),
            proj_out: w.linear("final_layer.linear", d, config.predicted_channels() * config.patch_latents())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with, in the words of `DiT`.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The tables of its classes.
    pub fn labels(&self) -> &LabelTables {
        &self.labels
    }

    /// The prediction `[R, Cout·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let edge = self.config.trained_patches();
        let places: Vec<usize> = (0..edge * edge).collect();
        let rows = ImageRows::of(plan, vec![places.len(); inputs.images]);
        let time = self.time_embedder.forward(inputs.timestep_features).gather_rows(rows.first_of(inputs.timestep_index));
        let seen = Seen {
            condition: time + inputs.classes,
            of_row: rows.of_row(),
            pattern: rows.pattern(),
            offsets: plan.index_constant(&offsets(edge, &places)),
            tokens: places.len(),
        };
        let mut x = self.patch_embedding.forward(inputs.tokens) + inputs.positions;
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("blocks.{i}"), || block.forward(plan, x, &seen));
        }
        let x = self.proj_out.forward(self.norm_out.forward(x).silu());
        // The layer gives (row, column, channel).
        if self.config.patch_latents() == 1 { x } else { x.transpose_channels(self.config.patch_latents()) }
    }
}

/// What all blocks share.
struct Seen<'p> {
    /// Time and class of each image `[S, D]`.
    condition: Tensor<'p>,
    /// Which image each row is of.
    of_row: Tensor<'p>,
    pattern: Pattern<'p>,
    /// Which row of a table of offsets each two tokens of an image have.
    offsets: Tensor<'p>,
    /// Of an image.
    tokens: usize,
}

/// A block: the time is in the attention alone.
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    qkv_time: Linear,
    bias: OffsetBias,
    out: Linear,
    heads: usize,
    scale: f32,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, heads, attention, mlp) = (config.width(), config.num_attention_heads, w.scope("attn"), w.scope("mlp"));
        // Computed.
        attention.ignore("relative_position_index");
        Ok(Self {
            norm1: LayerNorm::plain("norm1", EPS),
            qkv: attention.linear("qkv", d, 3 * d)?,
            qkv_time: attention.linear("qkv_temb", d, 3 * d)?,
            bias: OffsetBias::load(&attention, "relative_position_bias_table", config.trained_patches(), heads, 0)?,
            out: attention.linear("proj", d, d)?,
            heads,
            scale: 1.0 / (config.attention_head_dim as f32).sqrt(),
            norm2: LayerNorm::plain("norm2", EPS),
            mlp: Mlp::new(mlp.linear("fc1", d, 4 * d)?, Activation::GeluTanh, mlp.linear("fc2", 4 * d, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, seen: &Seen<'p>) -> Tensor<'p> {
        let attended = plan.scope("attn", || {
            let of_time = self.qkv_time.forward(seen.condition).gather_rows(seen.of_row);
            let [q, k, v] = (self.qkv.forward(self.norm1.forward(x)) + of_time).split();
            let bias = Some(self.bias.spread(plan, seen.offsets, seen.tokens));
            self.out.forward(Pattern { bias, ..seen.pattern.clone() }.attend(q, k, v, self.heads, self.scale))
        });
        let x = x + attended;
        x + plan.scope("mlp", || self.mlp.forward(self.norm2.forward(x)))
    }
}

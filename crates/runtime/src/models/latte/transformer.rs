//! The diffusion transformer (`LatteTransformer3DModel` of diffusers; arXiv 2401.03048 §3.2, variant 1): blocks in which the pixels
//! of a frame attend to each other and to the text, in turn with blocks in which the frames of a place do.

use kinora_kernels::op::Activation;
use kinora_kernels::{AttentionOptions, Plan, Tensor};

use super::TransformerConfig;
use super::grid::Grids;
use crate::error::Result;
use crate::nn::modulation::AdaLayerNormSingle;
use crate::nn::{LayerNorm, Linear, Mlp, Modulation, ScaleShiftTable, Weights};

/// Added to the variance in the last norm.
const NORM_OUT_EPS: f32 = 1e-6;

/// What the transformer sees: R video tokens and Rt text tokens of all sequences, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, C·ph·pw]`, features in the order (channel, row, column).
    pub tokens: Tensor<'p>,
    /// Text embeddings `[Rt, Ct]`.
    pub text: Tensor<'p>,
    /// Sinusoidal features `[T, 256]`, see [`timestep_features`](crate::nn::embed::timestep_features).
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each video token `[R]`, the same for all of a sequence.
    pub timestep_index: Tensor<'p>,
    /// What is added to tokens ordered by frame `[L, D]`, R a multiple of L.
    pub positions_in_space: Tensor<'p>,
    /// What is added to tokens ordered by place `[L, D]`.
    pub positions_in_time: Tensor<'p>,
    /// Frames, rows and columns of each sequence.
    pub grids: Vec<[usize; 3]>,
    /// Text tokens of each sequence.
    pub text_rows: Vec<usize>,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    patch_embedding: Linear,
    time_embedding: AdaLayerNormSingle,
    caption_projection: Mlp,
    /// In space and in time.
    blocks: Vec<[Block; 2]>,
    norm_out: LayerNorm,
    scale_shift: ScaleShiftTable,
    proj_out: Linear,
}

impl Transformer {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, patch, caption) = (config.width(), config.patch_size, w.scope("caption_projection"));
        let features = config.in_channels * config.patch_latents();
        // A convolution whose kernel is its stride is a linear layer over patches.
        let patches = w.tensor_as("pos_embed.proj.weight", &[d, config.in_channels, patch, patch], &[d, features])?;
        let block = |i: usize| -> Result<_> {
            let of = |kind: &str, text| Block::load(&w.scope(kind).scope(i), config, text);
            Ok([of("transformer_blocks", true)?, of("temporal_transformer_blocks", false)?])
        };
        Ok(Self {
            patch_embedding: Linear::new("pos_embed.proj", patches, Some(w.tensor("pos_embed.proj.bias", &[d])?)),
            time_embedding: AdaLayerNormSingle::load(&w.scope("adaln_single"), d)?,
            caption_projection: Mlp::new(
                caption.linear("linear_1", config.caption_channels, d)?,
                Activation::GeluTanh,
                caption.linear("linear_2", d, d)?,
            ),
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            norm_out: LayerNorm::plain("norm_out", NORM_OUT_EPS),
            scale_shift: ScaleShiftTable::load(w, 2, d)?,
            proj_out: w.linear("proj_out", d, config.predicted_channels() * config.patch_latents())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The prediction `[R, Cout·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (grids, index) = (Grids(&inputs.grids), inputs.timestep_index);
        let text = plan.scope("caption_projection", || self.caption_projection.forward(inputs.text));
        let (table, embedded) = plan.scope("adaln_single", || self.time_embedding.forward(inputs.timestep_features));
        let text = Some((text, grids.textual(&inputs.text_rows)));
        let space = Context { table, index, sequences: grids.spatial(), text };
        let time = Context { table, index: grids.index_to_time(index), sequences: grids.temporal(), text: None };

        let mut x = self.patch_embedding.forward(inputs.tokens) + inputs.positions_in_space;
        for (i, [spatial, temporal]) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("transformer_blocks.{i}"), || spatial.forward(plan, x, &space));
            x = plan.scope(format!("temporal_transformer_blocks.{i}"), || {
                let mut x = grids.to_time(x);
                if i == 0 {
                    x = x + inputs.positions_in_time;
                }
                grids.to_space(temporal.forward(plan, x, &time))
            });
        }
        let out = Modulation::new(self.scale_shift.forward(plan, embedded.repeat_channels(2)), index, self.config.width());
        let [shift, scale] = out.parts();
        let x = self.proj_out.forward(out.scale_shift(self.norm_out.forward(x), shift, scale));
        // The layer gives (row, column, channel).
        if self.config.patch_latents() == 1 { x } else { x.transpose_channels(self.config.patch_latents()) }
    }
}

/// What all blocks of a kind share.
struct Context<'p> {
    /// `[T, 6·D]`: shift, scale and gate of the attention, then of the MLP.
    table: Tensor<'p>,
    index: Tensor<'p>,
    /// Who attends to whom.
    sequences: Vec<[u32; 4]>,
    /// Projected text `[Rt, D]`, and which of it each sequence sees.
    text: Option<(Tensor<'p>, Vec<[u32; 4]>)>,
}

/// `BasicTransformerBlock` with `ada_norm_single`.
struct Block {
    scale_shift: ScaleShiftTable,
    norm1: LayerNorm,
    attn1: Attention,
    attn2: Option<Attention>,
    norm2: LayerNorm,
    ff: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig, text: bool) -> Result<Self> {
        let (d, ff) = (config.width(), w.scope("ff.net"));
        let norm = |name: &str| match config.norm_elementwise_affine {
            true => w.layer_norm(name, d, config.norm_eps),
            false => Ok(LayerNorm::plain(name, config.norm_eps)),
        };
        Ok(Self {
            scale_shift: ScaleShiftTable::load(w, 6, d)?,
            norm1: norm("norm1")?,
            attn1: Attention::load(&w.scope("attn1"), config)?,
            attn2: text.then(|| Attention::load(&w.scope("attn2"), config)).transpose()?,
            norm2: norm("norm2")?,
            ff: Mlp::new(ff.linear("0.proj", d, 4 * d)?, Activation::GeluTanh, ff.linear("2", 4 * d, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let modulation = Modulation::new(self.scale_shift.forward(plan, context.table), context.index, x.channels());
        let [shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff] = modulation.parts();
        let h = modulation.scale_shift(self.norm1.forward(x), shift_attn, scale_attn);
        let h = plan.scope("attn1", || self.attn1.forward(h, h, &context.sequences));
        let mut x = modulation.gated_add(h, x, gate_attn);
        // Not normed: that is for the MLP.
        if let Some((attention, (text, sequences))) = self.attn2.as_ref().zip(context.text.as_ref()) {
            x = x + plan.scope("attn2", || attention.forward(x, *text, sequences));
        }
        let h = modulation.scale_shift(self.norm2.forward(x), shift_ff, scale_ff);
        let h = plan.scope("ff", || self.ff.forward(h));
        modulation.gated_add(h, x, gate_ff)
    }
}

/// Attention of rows to themselves or to others.
struct Attention {
    q: Linear,
    kv: Linear,
    out: Linear,
    heads: usize,
    scale: f32,
}

impl Attention {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, bias) = (config.width(), config.attention_bias);
        Ok(Self {
            q: w.linear_stack(&["to_q"], d, d, bias)?,
            kv: w.linear_stack(&["to_k", "to_v"], d, d, bias)?,
            out: w.linear("to_out.0", d, d)?,
            heads: config.num_attention_heads,
            scale: 1.0 / (config.attention_head_dim as f32).sqrt(),
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, others: Tensor<'p>, sequences: &[[u32; 4]]) -> Tensor<'p> {
        let [k, v] = self.kv.forward(others).split();
        let options = AttentionOptions { heads: self.heads, scale: self.scale, sequences: sequences.to_vec(), mask: None, bias: None };
        self.out.forward(self.q.forward(x).flash_attention(k, v, &options))
    }
}

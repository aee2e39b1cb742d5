//! The diffusion transformer (`LTXVideoTransformer3DModel` of diffusers; arXiv 2501.00103 §3).

use kinora_kernels::op::Activation;
use kinora_kernels::{Plan, Tensor};

use super::TransformerConfig;
use super::rope::{self, Coordinates};
use crate::error::Result;
use crate::nn::modulation::AdaLayerNormSingle;
use crate::nn::{
    CrossAttention, LayerNorm, Linear, Mlp, Modulation, Pattern, RmsNorm, ScaleShiftTable, SelfAttention, Weights, packed_sequences,
};

/// Rows of each packed sequence. Guidance packs the conditional and the unconditional sequence into one pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    /// Video tokens per sequence.
    pub video: Vec<usize>,
    /// Text tokens per sequence.
    pub text: Vec<usize>,
}

impl TokenLayout {
    /// `sequences` sequences of equal lengths.
    pub fn uniform(sequences: usize, video: usize, text: usize) -> Self {
        Self { video: vec![video; sequences], text: vec![text; sequences] }
    }
}

/// What the transformer sees: R video tokens and Rt text tokens of all sequences, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, Cin]`.
    pub hidden_states: Tensor<'p>,
    /// Text embeddings `[Rt, Ct]`.
    pub encoder_hidden_states: Tensor<'p>,
    /// Added to the scores of each text token `[Rt]`.
    pub encoder_mask: Option<Tensor<'p>>,
    /// Sinusoidal features `[T, 256]`, see [`timestep_features`](crate::nn::embed::timestep_features).
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each video token `[R]`.
    pub timestep_index: Tensor<'p>,
    /// Rotary table `[L, D]`, see [`Transformer::rope`]; R is a multiple of L.
    pub rope: Tensor<'p>,
    /// Rows of each sequence.
    pub layout: TokenLayout,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    proj_in: Linear,
    time_embed: AdaLayerNormSingle,
    caption_projection: Mlp,
    blocks: Vec<Block>,
    scale_shift: ScaleShiftTable,
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
        let d = config.width();
        let caption = w.scope("caption_projection");
        Ok(Self {
            proj_in: w.linear("proj_in", config.in_channels, d)?,
            time_embed: AdaLayerNormSingle::load(&w.scope("time_embed"), d)?,
            caption_projection: Mlp::new(
                caption.linear("linear_1", config.caption_channels, d)?,
                Activation::GeluTanh,
                caption.linear("linear_2", d, d)?,
            ),
            blocks: (0..config.num_layers).map(|i| Block::load(&w.scope("transformer_blocks").scope(i), config)).collect::<Result<_>>()?,
            scale_shift: ScaleShiftTable::load(w, 2, d)?,
            norm_out: LayerNorm::plain("norm_out", 1e-6),
            proj_out: w.linear("proj_out", d, config.velocity_channels())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Rotary table `[L, D]` of a token grid (frames, height, width); `scale` turns an index into seconds and pixels.
    pub fn rope(&self, grid: [usize; 3], scale: Option<[f32; 3]>) -> Vec<f32> {
        let spatial = self.config.patch_size as f32;
        let patch = [self.config.patch_size_t as f32, spatial, spatial];
        self.rope_at(&rope::grid_coordinates(grid, scale, patch))
    }

    /// Rotary table `[L, D]` of tokens at these coordinates.
    pub fn rope_at(&self, coordinates: &[Coordinates]) -> Vec<f32> {
        rope::table(coordinates, self.config.width())
    }

    /// The predicted velocity `[R, Cout]`.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let d = self.config.width();
        let TransformerInputs { timestep_index: index, rope, layout, .. } = inputs;
        let (table, embedded) = plan.scope("time_embed", || self.time_embed.forward(inputs.timestep_features));
        let text = plan.scope("caption_projection", || self.caption_projection.forward(inputs.encoder_hidden_states));
        let context = Context {
            table,
            index: *index,
            rope: *rope,
            text,
            tokens: Pattern::within(&layout.video),
            captions: Pattern { sequences: packed_sequences(&layout.video, &layout.text), mask: inputs.encoder_mask, bias: None },
        };

        let mut x = self.proj_in.forward(inputs.hidden_states);
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("transformer_blocks.{i}"), || block.forward(plan, x, &context));
        }

        let out = Modulation::new(self.scale_shift.forward(plan, embedded.repeat_channels(2)), *index, d);
        let [shift, scale] = out.parts();
        self.proj_out.forward(out.scale_shift(self.norm_out.forward(x), shift, scale))
    }
}

/// What all blocks share.
struct Context<'p> {
    /// `[T, 6·D]`: shift, scale and gate of the attention, then of the MLP.
    table: Tensor<'p>,
    index: Tensor<'p>,
    rope: Tensor<'p>,
    /// Projected captions `[Rt, D]`.
    text: Tensor<'p>,
    tokens: Pattern<'p>,
    captions: Pattern<'p>,
}

/// `LTXVideoTransformerBlock`.
struct Block {
    scale_shift: ScaleShiftTable,
    norm1: RmsNorm,
    attn1: SelfAttention,
    attn2: CrossAttention,
    norm2: RmsNorm,
    ff: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        const QK_NORM_EPS: f32 = 1e-5;
        let d = config.width();
        let (heads, scale) = (config.num_attention_heads, 1.0 / (config.attention_head_dim as f32).sqrt());
        let (bias, out_bias) = (config.attention_bias, config.attention_out_bias);
        let norm = |name: &str| {
            if config.norm_elementwise_affine { w.rms_norm(name, d, config.norm_eps) } else { Ok(RmsNorm::plain(name, config.norm_eps)) }
        };
        let attn1 = w.scope("attn1");
        let attn2 = w.scope("attn2");
        let ff = w.scope("ff.net");
        Ok(Self {
            scale_shift: ScaleShiftTable::load(w, 6, d)?,
            norm1: norm("norm1")?,
            attn1: SelfAttention::new(
                attn1.linear_stack(&["to_q", "to_k", "to_v"], d, d, bias)?,
                Some(attn1.rms_norm_stack(&["norm_q", "norm_k"], d, QK_NORM_EPS)?),
                attn1.linear_stack(&["to_out.0"], d, d, out_bias)?,
                heads,
                scale,
            ),
            attn2: CrossAttention::new(
                (attn2.linear_stack(&["to_q"], d, d, bias)?, attn2.rms_norm("norm_q", d, QK_NORM_EPS)?),
                (attn2.linear_stack(&["to_k", "to_v"], d, d, bias)?, attn2.rms_norm("norm_k", d, QK_NORM_EPS)?),
                attn2.linear_stack(&["to_out.0"], d, d, out_bias)?,
                heads,
                scale,
            ),
            norm2: norm("norm2")?,
            ff: Mlp::new(ff.linear("0.proj", d, 4 * d)?, Activation::GeluTanh, ff.linear("2", 4 * d, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let modulation = Modulation::new(self.scale_shift.forward(plan, context.table), context.index, x.channels());
        let [shift_attn, scale_attn, gate_attn, shift_ff, scale_ff, gate_ff] = modulation.parts();

        let h = modulation.scale_shift(self.norm1.forward(x), shift_attn, scale_attn);
        let h = plan.scope("attn1", || self.attn1.forward(h, Some(context.rope), &context.tokens));
        let x = modulation.gated_add(h, x, gate_attn);

        let x = x + plan.scope("attn2", || self.attn2.forward(x, context.text, &context.captions));

        let h = modulation.scale_shift(self.norm2.forward(x), shift_ff, scale_ff);
        let h = plan.scope("ff", || self.ff.forward(h));
        modulation.gated_add(h, x, gate_ff)
    }
}

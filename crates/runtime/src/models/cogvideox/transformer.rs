//! The diffusion transformer (`CogVideoXTransformer3DModel` of diffusers; arXiv 2408.06072 §2.2): text and video are one sequence
//! in every attention and every MLP, and have scales, shifts and gates of their own.

use kinora_kernels::op::Activation;
use kinora_kernels::{AttentionOptions, Plan, Tensor};

use super::TransformerConfig;
use super::joint::Joint;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mlp, Modulation, TimestepEmbedder, Weights};

/// Added to the variance in the norms of queries and keys.
const HEAD_NORM_EPS: f32 = 1e-6;

/// What the transformer sees: R video tokens and Rt text tokens of all sequences, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, Cin·pt·ph·pw]`, features in the order (channel, frame, row, column).
    pub tokens: Tensor<'p>,
    /// Text embeddings `[Rt, Ct]`.
    pub text: Tensor<'p>,
    /// Sinusoidal features `[T, D]`, see [`sinusoids`](crate::nn::embed::sinusoids).
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each video token `[R]`, the same for all of a sequence.
    pub timestep_index: Tensor<'p>,
    /// What is added to the video tokens `[L, D]`, R a multiple of L; absent for a model with rotary positions.
    pub positions: Option<Tensor<'p>>,
    /// Rotary table `[L, d]` of joined sequences, whose rows together are a multiple of L; absent for fixed positions.
    pub rope: Option<Tensor<'p>>,
    /// Video tokens of each sequence.
    pub token_rows: Vec<usize>,
    /// Text tokens of each sequence.
    pub text_rows: Vec<usize>,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    patch_embedding: Linear,
    text_embedding: Linear,
    time_embedding: TimestepEmbedder,
    blocks: Vec<Block>,
    norm_final: LayerNorm,
    modulation_out: Linear,
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
        let (d, patch_embed, norm_out) = (config.width(), w.scope("patch_embed"), w.scope("norm_out"));
        Ok(Self {
            patch_embedding: patch_embedding(&patch_embed, config)?,
            text_embedding: patch_embed.linear("text_proj", config.text_embed_dim, d)?,
            time_embedding: TimestepEmbedder::load_from(&w.scope("time_embedding"), d, config.time_embed_dim)?,
            blocks: (0..config.num_layers).map(|i| Block::load(&w.scope("transformer_blocks").scope(i), config)).collect::<Result<_>>()?,
            norm_final: norm(w, "norm_final", config)?,
            modulation_out: norm_out.linear("linear", config.time_embed_dim, 2 * d)?,
            norm_out: norm(&norm_out, "norm", config)?,
            proj_out: w.linear("proj_out", d, config.predicted_channels() * config.patch_latents())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The prediction `[R, Cout·pt·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (video, text) = plan.scope("patch_embed", || {
            let video = self.patch_embedding.forward(inputs.tokens);
            let video = inputs.positions.map_or(video, |positions| video + positions);
            (video, self.text_embedding.forward(inputs.text))
        });
        let embedded = plan.scope("time_embedding", || self.time_embedding.forward(inputs.timestep_features)).silu();
        let joint = Joint::new(&inputs.text_rows, &inputs.token_rows);
        let context = Context {
            embedded,
            index: joint.modulation_index(inputs.timestep_index, embedded.rows()),
            rope: inputs.rope,
            sequences: joint.sequences(),
        };
        let mut x = joint.join(text, video);
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("transformer_blocks.{i}"), || block.forward(plan, x, &context));
        }
        let x = self.norm_final.forward(joint.video(x));
        let out = plan.scope("norm_out", || {
            let modulation = Modulation::new(self.modulation_out.forward(embedded), inputs.timestep_index, self.config.width());
            let [shift, scale] = modulation.parts();
            modulation.scale_shift(self.norm_out.forward(x), shift, scale)
        });
        self.proj_out.forward(out)
    }
}

/// The convolution over patches, whose kernel is its stride, or with patches in time the linear layer.
fn patch_embedding(w: &Weights<'_>, config: &TransformerConfig) -> Result<Linear> {
    let (d, features) = (config.width(), config.in_channels * config.patch_latents());
    if config.patch_size_t.is_some() {
        return w.linear("proj", features, d);
    }
    let patch = config.patch_size;
    let weight = w.tensor_as("proj.weight", &[d, config.in_channels, patch, patch], &[d, features])?;
    let bias = config.patch_bias.then(|| w.tensor("proj.bias", &[d])).transpose()?;
    Ok(Linear::new("proj", weight, bias))
}

/// A norm of tokens, with gain and bias if the configuration says so.
fn norm(w: &Weights<'_>, name: &str, config: &TransformerConfig) -> Result<LayerNorm> {
    match config.norm_elementwise_affine {
        true => w.layer_norm(name, config.width(), config.norm_eps),
        false => Ok(LayerNorm::plain(name, config.norm_eps)),
    }
}

/// What all blocks share.
struct Context<'p> {
    /// `[T, E]`.
    embedded: Tensor<'p>,
    /// Row of a modulation table for each row of the joined sequences.
    index: Tensor<'p>,
    rope: Option<Tensor<'p>>,
    sequences: Vec<[u32; 4]>,
}

/// `CogVideoXBlock`.
struct Block {
    norm1: ModulatedNorm,
    attn1: Attention,
    norm2: ModulatedNorm,
    ff: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, ff) = (config.width(), w.scope("ff.net"));
        Ok(Self {
            norm1: ModulatedNorm::load(&w.scope("norm1"), config)?,
            attn1: Attention::load(&w.scope("attn1"), config)?,
            norm2: ModulatedNorm::load(&w.scope("norm2"), config)?,
            ff: Mlp::new(ff.linear("0.proj", d, 4 * d)?, Activation::GeluTanh, ff.linear("2", 4 * d, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let (h, modulation, gate) = plan.scope("norm1", || self.norm1.forward(x, context));
        let h = plan.scope("attn1", || self.attn1.forward(h, context));
        let x = modulation.gated_add(h, x, gate);
        let (h, modulation, gate) = plan.scope("norm2", || self.norm2.forward(x, context));
        let h = plan.scope("ff", || self.ff.forward(h));
        modulation.gated_add(h, x, gate)
    }
}

/// `CogVideoXLayerNormZero`.
struct ModulatedNorm {
    linear: Linear,
    norm: LayerNorm,
}

impl ModulatedNorm {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        Ok(Self { linear: w.linear("linear", config.time_embed_dim, 6 * config.width())?, norm: norm(w, "norm", config)? })
    }

    /// The normed and modulated rows, and with which part of which table what comes of them is gated.
    fn forward<'p>(&self, x: Tensor<'p>, context: &Context<'p>) -> (Tensor<'p>, Modulation<'p>, usize) {
        // Shift, scale and gate of the video, then those of the text.
        let [video, text] = self.linear.forward(context.embedded).split();
        let table = Joint::modulation_table(video, text);
        let modulation = Modulation::new(table, context.index, x.channels());
        let [shift, scale, gate] = modulation.parts();
        (modulation.scale_shift(self.norm.forward(x), shift, scale), modulation, gate)
    }
}

/// Attention within joined sequences, with layer norms of the queries and keys of each head.
struct Attention {
    qkv: Linear,
    qk_norm: LayerNorm,
    out: Linear,
    heads: usize,
    scale: f32,
}

impl Attention {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, heads, head) = (config.width(), config.num_attention_heads, config.attention_head_dim);
        Ok(Self {
            qkv: w.linear_stack(&["to_q", "to_k", "to_v"], d, d, config.attention_bias)?,
            qk_norm: w.layer_norm_heads(&["norm_q", "norm_k"], heads, head, HEAD_NORM_EPS)?,
            out: w.linear("to_out.0", d, d)?,
            heads,
            scale: 1.0 / (head as f32).sqrt(),
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let (qkv, d) = (self.qkv.forward(x), x.channels());
        let qk = self.qk_norm.forward(qkv.columns(0, 2 * d));
        let [q, k] = context.rope.map_or(qk, |table| qk.rope(table)).split();
        let (heads, scale, sequences) = (self.heads, self.scale, context.sequences.clone());
        let options = AttentionOptions { heads, scale, sequences, mask: None, bias: None };
        self.out.forward(q.flash_attention(k, qkv.columns(2 * d, d), &options))
    }
}

//! The diffusion transformer (`WanTransformer3DModel` of diffusers; arXiv 2503.20314 §4.2).

use kinora_kernels::op::Activation;
use kinora_kernels::{AttentionOptions, Plan, Tensor};

use super::{TransformerConfig, rope};
use crate::error::Result;
use crate::models::causal::Context as Cache;
use crate::nn::{
    LayerNorm, Linear, Mlp, Modulation, Pattern, RmsNorm, ScaleShiftTable, SelfAttention, TimestepEmbedder, Weights, packed_sequences,
};

/// Added to the variance in the norms around the projection of images.
const IMAGE_NORM_EPS: f32 = 1e-5;

/// What the transformer sees: R video tokens, Rt text tokens and Ri image tokens of all sequences, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, Cin·pt·ph·pw]`, features in the order (channel, frame, row, column).
    pub tokens: Tensor<'p>,
    /// Text embeddings `[Rt, Ct]`.
    pub text: Tensor<'p>,
    /// What the second branch sees `[R, Cv·pt·ph·pw]`, for a model that has one.
    pub control: Option<Tensor<'p>>,
    /// Factors of what each block of the second branch says; all 1 if there are none.
    pub control_scale: Vec<f32>,
    /// Image embeddings `[Ri, Ci]`, for a model that takes them.
    pub images: Option<Tensor<'p>>,
    /// Sinusoidal features `[T, freq_dim]`, see [`sinusoids`](crate::nn::embed::sinusoids).
    pub timestep_features: Tensor<'p>,
    /// The same of where each step ends, or of its length, for a model that is told.
    pub end_features: Option<Tensor<'p>>,
    /// What the frames before left, for a block of a clip.
    pub cache: Option<Cache<'p>>,
    /// Row of the features for each video token `[R]`.
    pub timestep_index: Tensor<'p>,
    /// Rotary table, see [`Transformer::rope`]; R is a multiple of its rows.
    pub rope: Tensor<'p>,
    /// Video tokens of each sequence.
    pub token_rows: Vec<usize>,
    /// Text tokens of each sequence.
    pub text_rows: Vec<usize>,
    /// Image tokens of each sequence.
    pub image_rows: Vec<usize>,
}

/// The model.
pub struct Transformer {
    config: TransformerConfig,
    patch_embedding: Linear,
    time_embedder: TimestepEmbedder,
    /// Where a step ends, and its share of the embedding.
    delta_embedder: Option<(TimestepEmbedder, f32)>,
    time_proj: Linear,
    text_embedder: Mlp,
    image_embedder: Option<ImageEmbedder>,
    blocks: Vec<Block>,
    vace: Option<Vace>,
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
        let (d, condition) = (config.width(), w.scope("condition_embedder"));
        let ([pt, ph, pw], latents) = (config.patch_size, config.patch_latents());
        let text = condition.scope("text_embedder");
        // A convolution whose kernel is its stride is a linear layer over patches.
        let patches = w.tensor_as("patch_embedding.weight", &[d, config.in_channels, pt, ph, pw], &[d, config.in_channels * latents])?;
        Ok(Self {
            patch_embedding: Linear::new("patch_embedding", patches, Some(w.tensor("patch_embedding.bias", &[d])?)),
            time_embedder: TimestepEmbedder::load_from(&condition.scope("time_embedder"), config.freq_dim, d)?,
            delta_embedder: match &config.flow_map {
                Some(flow_map) => {
                    let embedder = TimestepEmbedder::load_from(&condition.scope("delta_embedder"), config.freq_dim, d)?;
                    Some((embedder, flow_map.gate_value))
                }
                None => None,
            },
            time_proj: condition.linear("time_proj", d, 6 * d)?,
            text_embedder: Mlp::new(text.linear("linear_1", config.text_dim, d)?, Activation::GeluTanh, text.linear("linear_2", d, d)?),
            image_embedder: match config.image_dim {
                Some(channels) => Some(ImageEmbedder::load(&condition.scope("image_embedder"), channels, config)?),
                None => None,
            },
            blocks: (0..config.num_layers).map(|i| Block::load(&w.scope("blocks").scope(i), config)).collect::<Result<_>>()?,
            vace: if config.vace_layers.is_empty() { None } else { Some(Vace::load(w, config)?) },
            scale_shift: ScaleShiftTable::load_batched(w, 2, d)?,
            norm_out: LayerNorm::plain("norm_out", config.eps),
            proj_out: w.linear("proj_out", d, config.velocity_channels() * latents)?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Rotary table of a token grid (frames, height, width) from `first_frame` on: its rows and columns, and its values.
    pub fn rope(&self, grid: [usize; 3], first_frame: usize) -> ([usize; 2], Vec<f32>) {
        let (head, period) = (self.config.attention_head_dim, self.config.rope_period());
        let table = rope::table(grid, first_frame, head);
        let values = table.chunks_exact(head).flat_map(|row| row.repeat(period / head)).collect();
        ([table.len() / head, period], values)
    }

    /// The predicted velocity `[R, Cout·pt·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (d, index) = (self.config.width(), inputs.timestep_index);
        let (embedded, table, text, images) = plan.scope("condition_embedder", || {
            let mut embedded = plan.scope("time_embedder", || self.time_embedder.forward(inputs.timestep_features));
            if let Some(((embedder, gate), features)) = self.delta_embedder.as_ref().zip(inputs.end_features) {
                let end = plan.scope("delta_embedder", || embedder.forward(features));
                embedded = embedded.affine(1.0 - gate, 0.0) + end.affine(*gate, 0.0);
            }
            let table = self.time_proj.forward(embedded.silu());
            let text = plan.scope("text_embedder", || self.text_embedder.forward(inputs.text));
            let images = self.image_embedder.as_ref().zip(inputs.images);
            let images = images.map(|(embedder, x)| plan.scope("image_embedder", || embedder.forward(plan, x)));
            (embedded, table, text, images)
        });
        let context = Context {
            table,
            index,
            rope: inputs.rope,
            tokens: match &inputs.cache {
                Some(cache) => Pattern {
                    sequences: packed_sequences(&inputs.token_rows, &[cache.mask.shape().elements()]),
                    mask: Some(cache.mask),
                    bias: None,
                },
                None => Pattern::within(&inputs.token_rows),
            },
            cache: inputs.cache,
            text: (text, packed_sequences(&inputs.token_rows, &inputs.text_rows)),
            images: images.map(|images| (images, packed_sequences(&inputs.token_rows, &inputs.image_rows))),
        };

        let mut x = self.patch_embedding.forward(inputs.tokens);
        // From what enters the first block.
        let mut branch = self.vace.as_ref().zip(inputs.control).map(|(vace, control)| (vace, vace.enter(x, control)));
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("blocks.{i}"), || block.forward(plan, x, &context));
            let at = self.config.vace_layers.iter().position(|layer| *layer == i);
            if let Some(((vace, control), at)) = branch.as_mut().zip(at) {
                let hint = vace.hint(plan, at, control, &context);
                x = x + inputs.control_scale.get(at).filter(|scale| **scale != 1.0).map_or(hint, |scale| hint.affine(*scale, 0.0));
            }
        }

        let out = Modulation::new(self.scale_shift.forward(plan, embedded.repeat_channels(2)), index, d);
        let [shift, scale] = out.parts();
        let x = self.proj_out.forward(out.scale_shift(self.norm_out.forward(x), shift, scale));
        // The layer gives (frame, row, column, channel).
        if self.config.patch_latents() == 1 { x } else { x.transpose_channels(self.config.patch_latents()) }
    }
}

/// The second branch of VACE (arXiv 2503.07598): blocks over the given clip, each of which has a word for the first branch.
struct Vace {
    patch_embedding: Linear,
    proj_in: Linear,
    blocks: Vec<(Block, Linear)>,
}

impl Vace {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, channels, [pt, ph, pw]) = (config.width(), config.vace_in_channels, config.patch_size);
        let patches = w.tensor_as("vace_patch_embedding.weight", &[d, channels, pt, ph, pw], &[d, channels * config.patch_latents()])?;
        let blocks = w.scope("vace_blocks");
        let block = |i: usize| -> Result<_> {
            let own = blocks.scope(i);
            Ok((Block::load(&own, config)?, own.linear("proj_out", d, d)?))
        };
        Ok(Self {
            patch_embedding: Linear::new("vace_patch_embedding", patches, Some(w.tensor("vace_patch_embedding.bias", &[d])?)),
            proj_in: blocks.scope(0).linear("proj_in", d, d)?,
            blocks: (0..config.vace_layers.len()).map(block).collect::<Result<_>>()?,
        })
    }

    /// Tokens before the first block, and what is given `[R, Cv·pt·ph·pw]` → what enters the branch `[R, D]`.
    fn enter<'p>(&self, x: Tensor<'p>, control: Tensor<'p>) -> Tensor<'p> {
        self.proj_in.forward(self.patch_embedding.forward(control)) + x
    }

    /// What block `at` says `[R, D]`, which leaves `control` as the next one takes it. Blocks are recorded where they are heard: as large
    /// as everything that the first branch passes on, none of it waits for its layer in memory.
    fn hint<'p>(&self, plan: &'p Plan, at: usize, control: &mut Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let (block, proj_out) = &self.blocks[at];
        plan.scope(format!("vace_blocks.{at}"), || {
            *control = block.forward(plan, *control, context);
            proj_out.forward(*control)
        })
    }
}

/// `WanImageEmbedding`.
struct ImageEmbedder {
    /// `[tokens, Ci]`.
    positions: Option<(usize, Vec<f32>)>,
    norm1: LayerNorm,
    ff: Mlp,
    norm2: LayerNorm,
}

impl ImageEmbedder {
    fn load(w: &Weights<'_>, channels: usize, config: &TransformerConfig) -> Result<Self> {
        let (d, ff) = (config.width(), w.scope("ff.net"));
        let positions = |tokens| -> Result<_> { Ok((tokens, w.values("pos_embed", &[1, tokens, channels])?)) };
        Ok(Self {
            positions: config.pos_embed_seq_len.map(positions).transpose()?,
            norm1: w.layer_norm("norm1", channels, IMAGE_NORM_EPS)?,
            ff: Mlp::new(ff.linear("0.proj", channels, channels)?, Activation::GeluErf, ff.linear("2", channels, d)?),
            norm2: w.layer_norm("norm2", d, IMAGE_NORM_EPS)?,
        })
    }

    /// `[Ri, Ci]` → `[Ri, D]`. With learned positions, the tokens of a sequence are those of all its images.
    fn forward<'p>(&self, plan: &'p Plan, mut x: Tensor<'p>) -> Tensor<'p> {
        if let Some((tokens, positions)) = &self.positions {
            x = x + plan.constant(&[*tokens, x.channels()], positions);
        }
        self.norm2.forward(self.ff.forward(self.norm1.forward(x)))
    }
}

/// What all blocks share.
struct Context<'p> {
    /// `[T, 6·D]`: shift, scale and gate of the attention, then of the MLP.
    table: Tensor<'p>,
    index: Tensor<'p>,
    rope: Tensor<'p>,
    tokens: Pattern<'p>,
    cache: Option<Cache<'p>>,
    /// Projected text `[Rt, D]`, and which of it each sequence sees.
    text: (Tensor<'p>, Vec<[u32; 4]>),
    /// The same of images.
    images: Option<(Tensor<'p>, Vec<[u32; 4]>)>,
}

/// `WanTransformerBlock`.
struct Block {
    scale_shift: ScaleShiftTable,
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: Option<LayerNorm>,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ffn: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, eps) = (config.width(), config.eps);
        let (attn1, ffn) = (w.scope("attn1"), w.scope("ffn.net"));
        Ok(Self {
            scale_shift: ScaleShiftTable::load_batched(w, 6, d)?,
            norm1: LayerNorm::plain("norm1", eps),
            attn1: SelfAttention::new(
                attn1.linear_stack(&["to_q", "to_k", "to_v"], d, d, true)?,
                Some(attn1.rms_norm_stack(&["norm_q", "norm_k"], d, eps)?),
                attn1.linear("to_out.0", d, d)?,
                config.num_attention_heads,
                1.0 / (config.attention_head_dim as f32).sqrt(),
            ),
            norm2: config.cross_attn_norm.then(|| w.layer_norm("norm2", d, eps)).transpose()?,
            attn2: CrossAttention::load(&w.scope("attn2"), config)?,
            norm3: LayerNorm::plain("norm3", eps),
            ffn: Mlp::new(ffn.linear("0.proj", d, config.ffn_dim)?, Activation::GeluTanh, ffn.linear("2", config.ffn_dim, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let modulation = Modulation::new(self.scale_shift.forward(plan, context.table), context.index, x.channels());
        let [shift_attn, scale_attn, gate_attn, shift_ffn, scale_ffn, gate_ffn] = modulation.parts();

        let h = modulation.scale_shift(self.norm1.forward(x), shift_attn, scale_attn);
        let h = plan.scope("attn1", || {
            let [q, mut k, mut v] = self.attn1.project(h, Some(context.rope));
            if let Some(cache) = &context.cache {
                [k, v] = cache.join(plan, k, v);
            }
            self.attn1.join(q, k, v, &context.tokens)
        });
        let x = modulation.gated_add(h, x, gate_attn);

        let h = self.norm2.as_ref().map_or(x, |norm| norm.forward(x));
        let x = x + plan.scope("attn2", || self.attn2.forward(h, context));

        let h = modulation.scale_shift(self.norm3.forward(x), shift_ffn, scale_ffn);
        let h = plan.scope("ffn", || self.ffn.forward(h));
        modulation.gated_add(h, x, gate_ffn)
    }
}

/// `WanAttention` over text and, apart from it, over images, which share the queries.
struct CrossAttention {
    q: Linear,
    q_norm: RmsNorm,
    text: Keys,
    images: Option<Keys>,
    out: Linear,
    heads: usize,
    scale: f32,
}

/// Keys and values of one kind of context.
struct Keys {
    kv: Linear,
    k_norm: RmsNorm,
}

impl CrossAttention {
    fn load(w: &Weights<'_>, config: &TransformerConfig) -> Result<Self> {
        let (d, eps) = (config.width(), config.eps);
        let keys = |names: [&str; 2], norm: &str| -> Result<Keys> {
            Ok(Keys { kv: w.linear_stack(&names, d, d, true)?, k_norm: w.rms_norm(norm, d, eps)? })
        };
        // Some checkpoints have it; nothing reads it.
        w.ignore("norm_added_q");
        Ok(Self {
            q: w.linear("to_q", d, d)?,
            q_norm: w.rms_norm("norm_q", d, eps)?,
            text: keys(["to_k", "to_v"], "norm_k")?,
            images: config.added_kv_proj_dim.map(|_| keys(["add_k_proj", "add_v_proj"], "norm_added_k")).transpose()?,
            out: w.linear("to_out.0", d, d)?,
            heads: config.num_attention_heads,
            scale: 1.0 / (config.attention_head_dim as f32).sqrt(),
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, context: &Context<'p>) -> Tensor<'p> {
        let q = self.q_norm.forward(self.q.forward(x));
        let attend = |keys: &Keys, (states, sequences): &(Tensor<'p>, Vec<[u32; 4]>)| {
            let [k, v] = keys.kv.forward(*states).split();
            let (heads, scale, sequences) = (self.heads, self.scale, sequences.clone());
            q.flash_attention(keys.k_norm.forward(k), v, &AttentionOptions { heads, scale, sequences, mask: None, bias: None })
        };
        let mut y = attend(&self.text, &context.text);
        if let Some((keys, images)) = self.images.as_ref().zip(context.images.as_ref()) {
            y = y + attend(keys, images);
        }
        self.out.forward(y)
    }
}

//! The encoder of T5 (arXiv 1910.10683), T5 v1.1 and UMT5 (arXiv 2304.09151), `T5EncoderModel` and `UMT5EncoderModel` of
//! transformers.

use kinora_kernels::op::Activation;
use kinora_kernels::{Plan, Tensor};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::{parse_config, require, require_head_size};
use crate::nn::{AttentionNames, Embedding, GatedMlp, Mlp, Pattern, RmsNorm, SelfAttention, Weights, activation_from_name};

/// `config.json`, with the defaults of transformers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// D.
    pub d_model: usize,
    /// d.
    pub d_kv: usize,
    /// Width inside the MLP.
    pub d_ff: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// N.
    pub num_heads: usize,
    /// Buckets of relative positions, both directions together.
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share a bucket.
    pub relative_attention_max_distance: usize,
    /// Added to the mean square in norms.
    pub layer_norm_epsilon: f32,
    /// `relu` (T5) or `gated-gelu` (v1.1).
    pub feed_forward_proj: String,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "relu".into(),
        }
    }
}

impl T5Config {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let known = config.activation().is_some();
        require(file, "feed_forward_proj", &config.feed_forward_proj, known, "relu, gated-gelu or another activation, gated or not")?;
        let (buckets, distance) = (config.relative_attention_num_buckets, config.relative_attention_max_distance);
        require(file, "relative_attention_num_buckets", &buckets, buckets >= 4 && buckets % 2 == 0, "an even number from 4 on")?;
        require(file, "relative_attention_max_distance", &distance, distance > buckets / 4, &format!("more than {}", buckets / 4))?;
        let sizes = [config.d_model, config.d_kv, config.d_ff, config.num_heads];
        require(file, "d_model, d_kv, d_ff, num_heads", &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        require_head_size(file, "d_kv", config.d_kv)?;
        Ok(config)
    }

    /// The MLP's activation, and whether it gates.
    fn activation(&self) -> Option<(Activation, bool)> {
        match self.feed_forward_proj.strip_prefix("gated-") {
            // The class means the tanh form by this name.
            Some("gelu") => Some((Activation::GeluTanh, true)),
            Some(name) => Some((activation_from_name(name)?, true)),
            None => Some((activation_from_name(&self.feed_forward_proj)?, false)),
        }
    }
}

/// Which blocks have a table of what relative positions add to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativeBias {
    /// The first, for all of them: T5.
    Shared,
    /// Each its own: UMT5.
    PerBlock,
}

impl RelativeBias {
    /// The class of transformers that is so.
    fn class(self) -> &'static str {
        match self {
            Self::Shared => "T5EncoderModel",
            Self::PerBlock => "UMT5EncoderModel",
        }
    }

    /// Refuses the weights of the other class, which has the same widths and, if the tables were ignored or shared, would
    /// give plausible nonsense.
    fn check(self, w: &Weights<'_>, blocks: usize) -> Result<()> {
        let found = if w.contains(&format!("block.1.{TABLE}")) { Self::PerBlock } else { Self::Shared };
        if blocks < 2 || found == self {
            return Ok(());
        }
        let (own, other) = (self.class(), found.class());
        let tables = if found == Self::Shared { "only the first block has" } else { "every block has" };
        Err(Error::InvalidConfig {
            file: w.label().into(),
            problem: format!("{tables} `{TABLE}`, so these are weights of {other}, but {own} is expected; use those of {own}"),
        })
    }
}

/// Name of a block's table, `[buckets, N]`.
const TABLE: &str = "layer.0.SelfAttention.relative_attention_bias.weight";

/// The model.
pub struct T5Encoder {
    config: T5Config,
    embedding: Embedding,
    /// `[buckets, N]`: one for all blocks or one for each.
    relative_bias: Vec<Vec<f32>>,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
}

impl T5Encoder {
    /// Takes every tensor of the scope but the decoder's.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`], [`Error::InvalidConfig`] for the weights of
    /// the class with the other kind of relative positions.
    pub fn load(w: &Weights<'_>, config: &T5Config, bias: RelativeBias) -> Result<Self> {
        w.ignore("decoder.");
        w.ignore("lm_head.");
        // The tokenizer, in files of ComfyUI.
        w.ignore("spiece_model");
        // The same table under another name.
        let (table, copy) = ("shared.weight", "encoder.embed_tokens.weight");
        let name = if w.contains(table) || !w.contains(copy) { table } else { copy };
        w.ignore(copy);
        let encoder = w.scope("encoder");
        bias.check(&encoder, config.num_layers)?;
        let tables = if bias == RelativeBias::Shared { 1 } else { config.num_layers };
        let table_dims = [config.relative_attention_num_buckets, config.num_heads];
        Ok(Self {
            embedding: w.embedding(name, config.vocab_size, config.d_model)?,
            relative_bias: (0..tables).map(|i| encoder.values(&format!("block.{i}.{TABLE}"), &table_dims)).collect::<Result<_>>()?,
            blocks: (0..config.num_layers).map(|i| Block::load(&encoder.scope("block").scope(i), config)).collect::<Result<_>>()?,
            final_norm: encoder.rms_norm("final_layer_norm", config.d_model, config.layer_norm_epsilon)?,
            config: config.clone(),
        })
    }

    /// D.
    pub fn width(&self) -> usize {
        self.config.d_model
    }

    /// Token embeddings `[R, D]`.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary.
    pub fn embed(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.embedding.rows(ids)
    }

    /// Embeddings `[R, D]` of packed sequences of these lengths → hidden states `[R, D]`. Tokens attend within their
    /// sequence; `mask [R]` is added to the scores of each token.
    pub fn forward<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p> {
        let longest = lengths.iter().copied().max().unwrap_or(1).max(1);
        let buckets = plan.index_constant(&self.buckets(longest));
        let mut pattern = Pattern { mask, ..Pattern::within(lengths) };
        let mut x = embeddings;
        for (i, block) in self.blocks.iter().enumerate() {
            x = plan.scope(format!("encoder.block.{i}"), || {
                if let Some(table) = self.relative_bias.get(i) {
                    pattern.bias = Some(self.position_bias(plan, table, buckets, longest));
                }
                block.forward(x, &pattern)
            });
        }
        self.final_norm.forward(x)
    }

    /// For each query and key of a sequence of this length the bucket of their distance.
    fn buckets(&self, length: usize) -> Vec<u32> {
        let (buckets, distance) = (self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance);
        let reach = length as isize - 1;
        let bucket_of: Vec<u32> = (-reach..=reach).map(|offset| relative_bucket(offset, buckets, distance) as u32).collect();
        // Offsets of keys 0.. to a query are consecutive.
        (0..length).flat_map(|query| &bucket_of[length - 1 - query..2 * length - 1 - query]).copied().collect()
    }

    /// `[N, length, length]`: what is added to the score of a query (second axis) and a key (third). Spread on the device,
    /// since together the tables of all blocks can be larger than the model's widest layer.
    fn position_bias<'p>(&self, plan: &'p Plan, table: &[f32], buckets: Tensor<'p>, length: usize) -> Tensor<'p> {
        let heads = self.config.num_heads;
        let table = plan.constant(&[self.config.relative_attention_num_buckets, heads], table);
        table.gather_rows(buckets).reshape(&[length, length, heads]).permute(&[2, 0, 1])
    }
}

/// The bucket of a key `offset` tokens after the query (arXiv 1910.10683 §2.1): half the buckets for each direction; of
/// those half for exact distances, the rest for logarithmically growing ranges up to `max_distance`.
fn relative_bucket(offset: isize, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let first = if offset > 0 { half } else { 0 };
    let distance = offset.unsigned_abs();
    let exact = half / 2;
    if distance < exact {
        return first + distance;
    }
    // Rounded to f32 where the reference rounds, so that no distance falls into a neighbouring bucket.
    let ratio = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    let logarithmic = exact + (ratio * (half - exact) as f32) as usize;
    first + logarithmic.min(half - 1)
}

/// `T5Block`.
struct Block {
    attention_norm: RmsNorm,
    attention: SelfAttention,
    mlp_norm: RmsNorm,
    mlp: FeedForward,
}

enum FeedForward {
    Plain(Mlp),
    Gated(GatedMlp),
}

impl Block {
    const NAMES: AttentionNames = AttentionNames { q: "q", k: "k", v: "v", out: "o" };

    fn load(w: &Weights<'_>, config: &T5Config) -> Result<Self> {
        let (d, inner, eps) = (config.d_model, config.d_ff, config.layer_norm_epsilon);
        let attention = SelfAttention::load(&w.scope("layer.0.SelfAttention"), &Self::NAMES, d, config.num_heads, config.d_kv, false)?;
        let mlp = w.scope("layer.1.DenseReluDense");
        let linear = |name: &str, inputs, outputs| mlp.linear_stack(&[name], inputs, outputs, false);
        let (activation, gated) = config.activation().unwrap_or_default();
        let down = linear("wo", inner, d)?;
        let mlp = if gated {
            FeedForward::Gated(GatedMlp::new(linear("wi_0", d, inner)?, activation, linear("wi_1", d, inner)?, down))
        } else {
            FeedForward::Plain(Mlp::new(linear("wi", d, inner)?, activation, down))
        };
        Ok(Self {
            attention_norm: w.rms_norm("layer.0.layer_norm", d, eps)?,
            // T5 folds 1/√d into the initialisation of its queries.
            attention: attention.with_scale(1.0),
            mlp_norm: w.rms_norm("layer.1.layer_norm", d, eps)?,
            mlp,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let x = x + self.attention.forward(self.attention_norm.forward(x), None, pattern);
        let h = self.mlp_norm.forward(x);
        x + match &self.mlp {
            FeedForward::Plain(mlp) => mlp.forward(h),
            FeedForward::Gated(mlp) => mlp.forward(h),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_the_buckets_of_the_paper() {
        let bucket = |offset| relative_bucket(offset, 32, 128);
        assert_eq!([0, -1, -7, -8, 1, 7].map(bucket), [0, 1, 7, 8, 17, 23], "exact below 8, later keys from 16 on");
        assert_eq!([-16, -32, -64, -127, -128, -1000].map(bucket), [10, 12, 14, 15, 15, 15], "logarithmic up to 128");
    }

    #[test]
    fn heads_that_attention_cannot_have_are_named() {
        let error = T5Config::parse(r#"{"d_kv": 1025}"#, "c.json").expect_err("too wide").to_string();
        assert!(error.contains("c.json: d_kv: expected heads of 1 to 1024 channels, found 1025"), "{error}");
    }

    #[test]
    fn the_gate_of_v1_1_is_the_tanh_form() {
        let activation = |name: &str| T5Config { feed_forward_proj: name.into(), ..T5Config::default() }.activation();
        assert_eq!(activation("gated-gelu"), Some((Activation::GeluTanh, true)), "v1.1");
        assert_eq!(activation("relu"), Some((Activation::Relu, false)), "T5");
        assert_eq!(activation("gated-tanh"), None, "unknown");
    }
}

//! BERT (arXiv 1810.04805), `BertModel` of transformers without its pooler.

use kinora_kernels::{Plan, Tensor};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::{parse_config, require, require_heads};
use crate::nn::{AttentionNames, Embedding, LayerNorm, Mlp, Pattern, SelfAttention, Weights, activation_from_name};

/// `config.json`, with the defaults of transformers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// N.
    pub num_attention_heads: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Name of the MLP's activation.
    pub hidden_act: String,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the segment table.
    pub type_vocab_size: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
        }
    }
}

impl BertConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        require_heads(file, width, heads)?;
        let known = activation_from_name(&config.hidden_act).is_some();
        require(file, "hidden_act", &config.hidden_act, known, "gelu, gelu_new, relu or silu")?;
        Ok(config)
    }
}

/// The model.
pub struct Bert {
    config: BertConfig,
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Bert {
    /// Takes every tensor of the scope but the pooler's and those of heads.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`].
    pub fn load(w: &Weights<'_>, config: &BertConfig) -> Result<Self> {
        w.ignore("pooler.");
        // What it was pretrained with.
        w.ignore("cls.");
        // A buffer that older versions of transformers saved.
        w.ignore("embeddings.position_ids");
        let d = config.hidden_size;
        let embeddings = w.scope("embeddings");
        Ok(Self {
            words: embeddings.embedding("word_embeddings.weight", config.vocab_size, d)?,
            positions: embeddings.embedding("position_embeddings.weight", config.max_position_embeddings, d)?,
            types: embeddings.embedding("token_type_embeddings.weight", config.type_vocab_size, d)?,
            norm: embeddings.layer_norm("LayerNorm", d, config.layer_norm_eps)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::load(&w.scope("encoder.layer").scope(i), config))
                .collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// D.
    pub fn width(&self) -> usize {
        self.config.hidden_size
    }

    /// Longest sequence in tokens.
    pub fn max_tokens(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// Sum of token, segment and position embeddings `[R, D]` of packed sequences of these lengths; all segments are 0 if
    /// `types` is absent.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an id beyond a table, too long a sequence or lengths that do not add up.
    pub fn embed(&self, ids: &[u32], types: Option<&[u32]>, lengths: &[usize]) -> Result<Vec<f32>> {
        let positions: Vec<u32> = lengths.iter().flat_map(|n| 0..*n as u32).collect();
        let types = types.map_or_else(|| vec![0; ids.len()], <[u32]>::to_vec);
        if positions.len() != ids.len() || types.len() != ids.len() {
            return Err(Error::InvalidRequest {
                parameter: "lengths and token types".into(),
                found: format!("{} and {}", positions.len(), types.len()),
                expected: format!("one per token, {}", ids.len()),
            });
        }
        let (types, positions) = (self.types.rows(&types)?, self.positions.rows(&positions)?);
        let mut sum = self.words.rows(ids)?;
        for ((sum, segment), position) in sum.iter_mut().zip(types).zip(positions) {
            *sum = (*sum + segment) + position;
        }
        Ok(sum)
    }

    /// Embeddings `[R, D]` → hidden states `[R, D]`. Tokens attend within their sequence; `mask [R]` is added to the
    /// scores of each token.
    pub fn forward<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p> {
        let pattern = Pattern { mask, ..Pattern::within(lengths) };
        let mut x = plan.scope("embeddings", || self.norm.forward(embeddings));
        for (i, layer) in self.layers.iter().enumerate() {
            x = plan.scope(format!("encoder.layer.{i}"), || layer.forward(x, &pattern));
        }
        x
    }
}

/// `BertLayer`: attention and MLP, each followed by a norm of its sum with the input.
struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    output_norm: LayerNorm,
}

impl Layer {
    const NAMES: AttentionNames = AttentionNames { q: "self.query", k: "self.key", v: "self.value", out: "output.dense" };

    fn load(w: &Weights<'_>, config: &BertConfig) -> Result<Self> {
        let (d, heads, inner) = (config.hidden_size, config.num_attention_heads, config.intermediate_size);
        let activation = activation_from_name(&config.hidden_act).unwrap_or_default();
        Ok(Self {
            attention: SelfAttention::load(&w.scope("attention"), &Self::NAMES, d, heads, d / heads, true)?,
            attention_norm: w.layer_norm("attention.output.LayerNorm", d, config.layer_norm_eps)?,
            mlp: Mlp::new(w.linear("intermediate.dense", d, inner)?, activation, w.linear("output.dense", inner, d)?),
            output_norm: w.layer_norm("output.LayerNorm", d, config.layer_norm_eps)?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let x = self.attention_norm.forward(x + self.attention.forward(x, None, pattern));
        self.output_norm.forward(x + self.mlp.forward(x))
    }
}

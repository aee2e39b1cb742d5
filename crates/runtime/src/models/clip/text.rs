//! The text transformer (`CLIPTextModel` of transformers): tokens see themselves and those before, and a norm follows the last layer.

use kinora_kernels::{Plan, Tensor};
use serde::Deserialize;

use super::vision::Layer;
use crate::error::{Error, Result};
use crate::eval::text::{self, MASKED};
use crate::eval::{Evaluation, Inputs};
use crate::models::family::{Evaluate, Source, TextEncoder};
use crate::models::{parse_config, require, require_head_size};
use crate::nn::{Embedding, LayerNorm, Pattern, Weights};

/// `CLIPTextConfig`, with the defaults of transformers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// N.
    pub num_attention_heads: usize,
    /// Tokens of a text at most.
    pub max_position_embeddings: usize,
    /// Name of the MLP's activation.
    pub hidden_act: String,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl TextConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        require(file, "num_attention_heads", &heads, heads > 0 && width > 0 && width % heads == 0, &format!("a divisor of {width}"))?;
        require_head_size(file, "hidden_size / num_attention_heads", width / heads)?;
        let known = super::activation(&config.hidden_act).is_some();
        require(file, "hidden_act", &config.hidden_act, known, "quick_gelu, gelu, gelu_new, relu or silu")?;
        let sizes = [config.vocab_size, config.num_hidden_layers, config.max_position_embeddings];
        let fields = "vocab_size, num_hidden_layers, max_position_embeddings";
        require(file, fields, &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        Ok(config)
    }
}

/// The model.
pub struct Text {
    config: TextConfig,
    tokens: Embedding,
    /// `[max_position_embeddings, D]`.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

impl Text {
    /// The model of a `config.json` and its weights.
    ///
    /// # Errors
    /// Those of [`TextConfig::parse`] and [`load`](Self::load).
    pub fn load_from(source: &Source<'_>) -> Result<Self> {
        Self::load(&source.weights, &TextConfig::parse(source.config, source.file)?)
    }

    /// Takes every tensor of the scope, which transformers before version 5 call `text_model`.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TextConfig) -> Result<Self> {
        let (d, eps, embeddings) = (config.hidden_size, config.layer_norm_eps, w.scope("embeddings"));
        // A buffer that older versions saved.
        embeddings.ignore("position_ids");
        let layer = |i: usize| {
            let sizes = [d, config.num_attention_heads, config.intermediate_size];
            Layer::load(&w.scope("encoder.layers").scope(i), sizes, &config.hidden_act, eps)
        };
        Ok(Self {
            tokens: embeddings.embedding("token_embedding.weight", config.vocab_size, d)?,
            positions: embeddings.values("position_embedding.weight", &[config.max_position_embeddings, d])?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            final_norm: w.layer_norm("final_layer_norm", d, eps)?,
            config: config.clone(),
        })
    }
}

impl TextEncoder for Text {
    fn width(&self) -> usize {
        self.config.hidden_size
    }

    fn embed(&self, ids: &[u32], lengths: &[usize]) -> Result<Vec<f32>> {
        if let Some(longest) = lengths.iter().find(|length| **length > self.config.max_position_embeddings) {
            let expected = format!("at most {}", self.config.max_position_embeddings);
            return Err(Error::InvalidRequest { parameter: "tokens of a text".into(), found: longest.to_string(), expected });
        }
        let mut rows = self.tokens.rows(ids)?;
        let places = lengths.iter().flat_map(|length| 0..*length);
        for (row, place) in rows.chunks_exact_mut(self.width()).zip(places) {
            let position = &self.positions[place * self.width()..][..self.width()];
            row.iter_mut().zip(position).for_each(|(value, position)| *value += position);
        }
        Ok(rows)
    }

    fn record<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p> {
        let (longest, heads) = (lengths.iter().copied().max().unwrap_or(1), self.config.num_attention_heads);
        let later = |at: usize| if at % longest > at / longest % longest { MASKED } else { 0.0 };
        let later: Vec<f32> = (0..heads * longest * longest).map(later).collect();
        let bias = Some(plan.constant(&[heads, longest, longest], &later));
        let pattern = Pattern { mask, bias, ..Pattern::within(lengths) };
        let layers = self.layers.iter().enumerate();
        let x = layers.fold(embeddings, |x, (i, layer)| plan.scope(format!("encoder.layers.{i}"), || layer.forward(x, &pattern)));
        self.final_norm.forward(x)
    }
}

impl Evaluate for Text {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `CLIPTextModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["input_ids", "attention_mask"])?;
        let (ids, shape) = text::ids(inputs)?;
        let embeddings = self.embed(&ids, &vec![shape[1]; shape[0]])?;
        text::states(inputs, shape, embeddings, |plan, x, lengths, mask| self.record(plan, x, lengths, mask))
    }
}

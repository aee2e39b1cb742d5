//! The vision transformer (`CLIPVisionModel` of transformers), without the norm behind the last layer that only its pooler has.

use kinora_kernels::{Plan, Tensor};

use super::{VisionConfig, activation};
use crate::error::Result;
use crate::models::family::Source;
use crate::nn::{AttentionNames, LayerNorm, Linear, Mlp, Pattern, SelfAttention, Weights};

/// The model.
pub struct Vision {
    config: VisionConfig,
    patch_embedding: Linear,
    /// `[tokens, D]`: the state of the whole picture is in the first row.
    positions: Vec<f32>,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
}

impl Vision {
    /// The model of a `config.json` and its weights.
    ///
    /// # Errors
    /// Those of [`VisionConfig::parse`] and [`load`](Self::load).
    pub fn load_from(source: &Source<'_>) -> Result<Self> {
        Self::load(&source.weights, &VisionConfig::parse(source.config, source.file)?)
    }

    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &VisionConfig) -> Result<Self> {
        let (d, eps, patch) = (config.hidden_size, config.layer_norm_eps, config.patch_size);
        // Of the pooled state, which no denoiser sees.
        w.ignore("post_layernorm.");
        let embeddings = w.scope("embeddings");
        // A buffer that older versions of transformers saved.
        embeddings.ignore("position_ids");
        let patches =
            embeddings.tensor_as("patch_embedding.weight", &[d, config.num_channels, patch, patch], &[d, config.patch_features()])?;
        let mut positions = embeddings.values("position_embedding.weight", &[config.tokens(), d])?;
        let whole = embeddings.values("class_embedding", &[d])?;
        positions.iter_mut().zip(whole).for_each(|(position, whole)| *position += whole);
        let layer = |i: usize| {
            let sizes = [d, config.num_attention_heads, config.intermediate_size];
            Layer::load(&w.scope("encoder.layers").scope(i), sizes, &config.hidden_act, eps)
        };
        Ok(Self {
            patch_embedding: Linear::new("patch_embedding", patches, None),
            positions,
            // The reference spells it so.
            pre_norm: w.layer_norm("pre_layrnorm", d, eps)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Patches `[n·tokens, C·p·p]` of n pictures → what enters the last layer `[n·tokens, D]`.
    pub fn forward<'p>(&self, plan: &'p Plan, patches: Tensor<'p>) -> Tensor<'p> {
        let pictures = patches.rows() / self.config.tokens();
        let mut x = plan.scope("embeddings", || {
            let positions = plan.constant(&[patches.rows(), self.config.hidden_size], &self.positions.repeat(pictures));
            self.patch_embedding.forward(patches) + positions
        });
        x = self.pre_norm.forward(x);
        for (i, layer) in self.layers.iter().enumerate().take(self.layers.len() - 1) {
            x = plan.scope(format!("encoder.layers.{i}"), || layer.forward(x, &self.pattern(x)));
        }
        x
    }

    /// What entered the last layer → what it makes of it.
    pub fn last_layer<'p>(&self, plan: &'p Plan, x: Tensor<'p>) -> Tensor<'p> {
        let last = self.layers.len() - 1;
        plan.scope(format!("encoder.layers.{last}"), || self.layers[last].forward(x, &self.pattern(x)))
    }

    /// Each picture by itself.
    fn pattern<'p>(&self, x: Tensor<'p>) -> Pattern<'p> {
        Pattern::within(&vec![self.config.tokens(); x.rows() / self.config.tokens()])
    }
}

/// `CLIPEncoderLayer`: attention and MLP, each behind a norm.
pub(super) struct Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Layer {
    const NAMES: AttentionNames = AttentionNames { q: "q_proj", k: "k_proj", v: "v_proj", out: "out_proj" };

    /// Of this width, with so many heads and channels inside the MLP, whose activation has a name that [`activation`] knows.
    pub(super) fn load(w: &Weights<'_>, [d, heads, inner]: [usize; 3], act: &str, eps: f32) -> Result<Self> {
        let ((activation, stretch), mlp) = (activation(act).unwrap_or_default(), w.scope("mlp"));
        Ok(Self {
            norm1: w.layer_norm("layer_norm1", d, eps)?,
            attention: SelfAttention::load(&w.scope("self_attn"), &Self::NAMES, d, heads, d / heads, true)?,
            norm2: w.layer_norm("layer_norm2", d, eps)?,
            mlp: Mlp::new(mlp.linear("fc1", d, inner)?, activation, mlp.linear("fc2", inner, d)?).stretched(stretch),
        })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let x = x + self.attention.forward(self.norm1.forward(x), None, pattern);
        x + self.mlp.forward(self.norm2.forward(x))
    }
}

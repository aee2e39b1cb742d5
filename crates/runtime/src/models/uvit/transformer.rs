//! The transformer (arXiv 2209.12152): time, condition and patches are all tokens, and the blocks of the second half see the output of
//! those of the first, the last of them first.

use kinora_kernels::op::Activation;
use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::UvitConfig;
use crate::error::Result;
use crate::models::images::{ImageRows, LabelTables, patches, stack};
use crate::nn::{Conv2d, Conv3d, LayerNorm, Linear, Mlp, Pattern, SelfAttention, TimestepEmbedder, Weights};

/// Added to the variance in all norms.
const EPS: f32 = 1e-5;

/// What the transformer sees: R tokens of S images, and T distinct timesteps.
#[derive(Clone, Debug)]
pub struct TransformerInputs<'p> {
    /// Noisy tokens `[R, C·ph·pw]`, features in the order (channel, row, column).
    pub tokens: Tensor<'p>,
    /// State of the class of each image `[S, D]`, or their texts `[S·Lt, Ct]`.
    pub condition: Tensor<'p>,
    /// Sinusoidal features `[T, D]`.
    pub timestep_features: Tensor<'p>,
    /// Row of the features for each token `[R]`, the same for all of an image.
    pub timestep_index: Tensor<'p>,
    /// S.
    pub images: usize,
}

/// What it is told.
enum Condition {
    Classes(LabelTables),
    /// A projection of text.
    Text(Linear),
}

/// The model.
pub struct Transformer {
    config: UvitConfig,
    patch_embedding: Linear,
    time_embedding: Option<TimestepEmbedder>,
    condition: Condition,
    /// Of all tokens `[L, D]`.
    positions: Vec<f32>,
    in_blocks: Vec<Block>,
    mid_block: Block,
    out_blocks: Vec<(Linear, Block)>,
    norm: LayerNorm,
    prediction: Linear,
    convolution: Option<Conv3d>,
}

impl Transformer {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &UvitConfig) -> Result<Self> {
        let (d, edge, channels, patch) = (config.embed_dim, config.edge(), config.in_chans, config.patch_size);
        let time = w.scope("time_embed");
        let time = || -> Result<_> { Ok(TimestepEmbedder::new(time.linear("0", d, 4 * d)?, time.linear("2", 4 * d, d)?)) };
        let condition = match config.clip_dim {
            Some(width) => Condition::Text(w.linear("context_embed", width, d)?),
            None => {
                let rows = usize::try_from(config.num_classes).unwrap_or(0);
                Condition::Classes(LabelTables::new(vec![w.embedding("label_emb.weight", rows, d)?], d))
            }
        };
        let blocks = |name: &str| {
            let scopes = w.scope(name);
            (0..config.depth / 2).map(move |i| scopes.scope(i))
        };
        let out = |w: Weights<'_>| -> Result<_> { Ok((w.linear("skip_linear", 2 * d, d)?, Block::load(&w, config)?)) };
        Ok(Self {
            patch_embedding: patches(w, "patch_embed.proj", [d, channels, patch])?,
            time_embedding: config.mlp_time_embed.then(time).transpose()?,
            condition,
            positions: w.values("pos_embed", &[1, config.extras() + edge * edge, d])?,
            in_blocks: blocks("in_blocks").map(|w| Block::load(&w, config)).collect::<Result<_>>()?,
            mid_block: Block::load(&w.scope("mid_block"), config)?,
            out_blocks: blocks("out_blocks").map(out).collect::<Result<_>>()?,
            norm: w.layer_norm("norm", d, EPS)?,
            prediction: w.linear("decoder_pred", d, patch * patch * channels)?,
            convolution: config.conv.then(|| w.conv2d("final_layer", channels, channels, Conv2d::Around)).transpose()?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &UvitConfig {
        &self.config
    }

    /// The tables of its classes, if it is told one.
    pub fn labels(&self) -> Option<&LabelTables> {
        match &self.condition {
            Condition::Classes(labels) => Some(labels),
            Condition::Text(_) => None,
        }
    }

    /// The prediction `[R, C·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (config, images) = (&self.config, inputs.images);
        let (edge, extras) = (config.edge(), config.extras());
        let (patches, length) = (edge * edge, extras + edge * edge);
        if inputs.condition.rows() != images * (extras - 1) {
            let expected = format!("{} rows of each condition, which are all that it has learned places for", extras - 1);
            plan.fail("uvit", expected, format!("{} of {images} images", inputs.condition.rows()));
            return inputs.tokens;
        }
        let at = ImageRows::of(plan, vec![patches; images]).first_of(inputs.timestep_index);
        let time = self.time_embedding.as_ref().map_or(inputs.timestep_features, |own| own.forward(inputs.timestep_features));
        let (time, tokens) = (time.gather_rows(at), self.patch_embedding.forward(inputs.tokens));
        // A class comes before time, a text after it.
        let own = match &self.condition {
            Condition::Classes(_) => stack(stack(inputs.condition, time), tokens),
            Condition::Text(embedding) => stack(stack(time, plan.scope("context_embed", || embedding.forward(inputs.condition))), tokens),
        };
        let counts = if config.clip_dim.is_some() { [1, extras - 1, patches] } else { [1, 1, patches] };
        let mut x = own.gather_rows(plan.index_constant(&interleaved(&counts, images)));
        x = x + plan.constant(&[length, config.embed_dim], &self.positions);

        let pattern = ImageRows::of(plan, vec![length; images]).pattern();
        let mut skips = Vec::with_capacity(self.in_blocks.len());
        for (i, block) in self.in_blocks.iter().enumerate() {
            x = plan.scope(format!("in_blocks.{i}"), || block.forward(plan, x, &pattern));
            skips.push(x);
        }
        x = plan.scope("mid_block", || self.mid_block.forward(plan, x, &pattern));
        for ((i, (join, block)), skip) in self.out_blocks.iter().enumerate().zip(skips.into_iter().rev()) {
            x = plan.scope(format!("out_blocks.{i}"), || block.forward(plan, join.forward(x.concat(skip)), &pattern));
        }
        let image = |image: usize| (image * length + extras) as u32..((image + 1) * length) as u32;
        let x = x.gather_rows(plan.index_constant(&(0..images).flat_map(image).collect::<Vec<u32>>()));
        let x = self.prediction.forward(self.norm.forward(x));
        let size = [1, config.patch_size, config.patch_size];
        match &self.convolution {
            // The layer gives (row, column, channel).
            None if config.patch_size == 1 => x,
            None => x.transpose_channels(config.patch_size * config.patch_size),
            Some(convolution) => {
                let features = x.channels();
                let x = x.reshape(&[1, images, edge, edge, features]).pixel_shuffle_3d(size, PatchOrder::ChannelInnermost);
                let x = convolution.forward(x).pixel_unshuffle_3d(size, PatchOrder::TimeHeightWidth);
                x.reshape(&[images * patches, features])
            }
        }
    }
}

/// Where the rows of each of several images are, of kinds that lie one after another with so many rows of an image each.
fn interleaved(counts: &[usize], images: usize) -> Vec<u32> {
    let first = |kind: usize| images * counts[..kind].iter().sum::<usize>();
    let of = |image: usize| {
        counts.iter().enumerate().flat_map(move |(kind, count)| (0..*count).map(move |row| (first(kind) + image * count + row) as u32))
    };
    (0..images).flat_map(of).collect()
}

/// A block of a vision transformer.
struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, config: &UvitConfig) -> Result<Self> {
        let (d, heads, hidden) = (config.embed_dim, config.num_heads, config.hidden());
        let (attention, mlp, scale) = (w.scope("attn"), w.scope("mlp"), 1.0 / ((d / heads) as f32).sqrt());
        let qkv = attention.linear_stack(&["qkv"], d, 3 * d, config.qkv_bias)?;
        Ok(Self {
            norm1: w.layer_norm("norm1", d, EPS)?,
            attention: SelfAttention::new(qkv, None, attention.linear("proj", d, d)?, heads, scale),
            norm2: w.layer_norm("norm2", d, EPS)?,
            mlp: Mlp::new(mlp.linear("fc1", d, hidden)?, Activation::GeluErf, mlp.linear("fc2", hidden, d)?),
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, pattern: &Pattern<'p>) -> Tensor<'p> {
        let x = x + plan.scope("attn", || self.attention.forward(self.norm1.forward(x), None, pattern));
        x + plan.scope("mlp", || self.mlp.forward(self.norm2.forward(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_an_image_stand_side_by_side() {
        // Of two images: classes, times, and two patches of each.
        assert_eq!(interleaved(&[1, 1, 2], 2), [0, 2, 4, 5, 1, 3, 6, 7]);
        // Times, three words, one patch.
        assert_eq!(interleaved(&[1, 3, 1], 2), [0, 2, 3, 4, 8, 1, 5, 6, 7, 9]);
    }
}

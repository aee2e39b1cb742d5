//! The transformer (arXiv 2303.14389 §3.3 and version 2): an encoder whose second half sees the outputs of the first, the last of them
//! first, and a decoder that sees the input in every block. Of an image with hidden tokens the encoder sees the others, and a side block
//! fills in those.

use kinora_kernels::{Plan, Tensor};

use super::MdtConfig;
use crate::error::Result;
use crate::models::dit::{Block, EPS};
use crate::models::images::{ImageRows, LabelTables, OffsetBias, offsets, patches, stack};
use crate::nn::embed::TIMESTEP_FEATURES;
use crate::nn::{LayerNorm, Linear, Modulation, Pattern, TimestepEmbedder, Weights};

/// Rows of a table of offsets that belong to a token of class, which there is none of.
const SPARE_ROWS: usize = 3;

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
    /// S.
    pub images: usize,
    /// The tokens of every image that the encoder sees, where it does not see all.
    pub kept: Option<Vec<usize>>,
}

/// A block with what it adds to the scores by offset, and what joins it to an earlier output.
struct BiasedBlock {
    join: Option<Linear>,
    block: Block,
    bias: OffsetBias,
}

impl BiasedBlock {
    fn load(w: &Weights<'_>, config: &MdtConfig, joins: bool) -> Result<Self> {
        let (dit, d) = (&config.dit, config.dit.width());
        let bias = w.scope("attn.rel_pos_bias");
        // Computed.
        bias.ignore("relative_position_index");
        Ok(Self {
            join: joins.then(|| w.linear("skip_linear", 2 * d, d)).transpose()?,
            block: Block::load_official(w, dit)?,
            bias: OffsetBias::load(&bias, "relative_position_bias_table", dit.trained_patches(), dit.num_attention_heads, SPARE_ROWS)?,
        })
    }

    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>, skip: Option<Tensor<'p>>, seen: &Seen<'p>) -> Tensor<'p> {
        let x = match (&self.join, skip) {
            (Some(join), Some(skip)) => join.forward(x.concat(skip)),
            _ => x,
        };
        let bias = Some(self.bias.spread(plan, seen.offsets, seen.tokens));
        self.block.forward(plan, x, (seen.condition, seen.of_row), &Pattern { bias, ..seen.pattern.clone() })
    }
}

/// The tokens that a part of the model sees.
struct Seen<'p> {
    /// Of each image `[S, D]`.
    condition: Tensor<'p>,
    /// Which image each row is of.
    of_row: Tensor<'p>,
    pattern: Pattern<'p>,
    /// Which row of a table of offsets each two tokens of an image have.
    offsets: Tensor<'p>,
    /// Of an image.
    tokens: usize,
}

impl<'p> Seen<'p> {
    fn of(plan: &'p Plan, condition: Tensor<'p>, edge: usize, places: &[usize], images: usize) -> Self {
        let rows = ImageRows::of(plan, vec![places.len(); images]);
        let offsets = plan.index_constant(&offsets(edge, places));
        Self { condition, of_row: rows.of_row(), pattern: rows.pattern(), offsets, tokens: places.len() }
    }
}

/// The model.
pub struct Transformer {
    config: MdtConfig,
    patch_embedding: Linear,
    time_embedder: TimestepEmbedder,
    labels: LabelTables,
    /// Of the encoder and of the decoder `[L, D]`.
    positions: [Vec<f32>; 2],
    mask_token: Vec<f32>,
    in_blocks: Vec<BiasedBlock>,
    out_blocks: Vec<BiasedBlock>,
    side_block: BiasedBlock,
    decoder: Vec<BiasedBlock>,
    norm_out: LayerNorm,
    modulation_out: Linear,
    proj_out: Linear,
}

impl Transformer {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &MdtConfig) -> Result<Self> {
        let (dit, time, last) = (&config.dit, w.scope("t_embedder.mlp"), w.scope("final_layer"));
        let (d, places) = (dit.width(), dit.trained_patches() * dit.trained_patches());
        let blocks = |name: &str, count: usize, joins: bool| -> Result<Vec<_>> {
            (0..count).map(|i| BiasedBlock::load(&w.scope(name).scope(i), config, joins)).collect()
        };
        let labels = w.scope("y_embedder").embedding("embedding_table.weight", dit.classes() + 1, d)?;
        Ok(Self {
            patch_embedding: patches(w, "x_embedder.proj", dit.patch())?,
            time_embedder: TimestepEmbedder::new(time.linear("0", TIMESTEP_FEATURES, d)?, time.linear("2", d, d)?),
            labels: LabelTables::new(vec![labels], d),
            positions: [w.values("pos_embed", &[1, places, d])?, w.values("decoder_pos_embed", &[1, places, d])?],
            mask_token: w.values("mask_token", &[1, 1, d])?,
            in_blocks: blocks("en_inblocks", config.half(), false)?,
            out_blocks: blocks("en_outblocks", config.half(), true)?,
            side_block: BiasedBlock::load(&w.scope("sideblocks.0"), config, false)?,
            decoder: blocks("de_blocks", config.decode_layer, true)?,
            norm_out: LayerNorm::plain("norm_final", EPS),
            modulation_out: last.linear("adaLN_modulation.1", d, 2 * d)?,
            proj_out: last.linear("linear", d, dit.predicted_channels() * dit.patch_latents())?,
            config: config.clone(),
        })
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &MdtConfig {
        &self.config
    }

    /// The tables of its classes.
    pub fn labels(&self) -> &LabelTables {
        &self.labels
    }

    /// The prediction `[R, Cout·ph·pw]`, features in the order of the input's.
    pub fn forward<'p>(&self, plan: &'p Plan, inputs: &TransformerInputs<'p>) -> Tensor<'p> {
        let (dit, images) = (&self.config.dit, inputs.images);
        let (d, edge) = (dit.width(), dit.trained_patches());
        let all: Vec<usize> = (0..edge * edge).collect();
        let places = |i: usize| plan.constant(&[all.len(), d], &self.positions[i]);
        let at = ImageRows::of(plan, vec![all.len(); images]).first_of(inputs.timestep_index);
        let time = self.time_embedder.forward(inputs.timestep_features).gather_rows(at);
        let condition = (time + inputs.classes).silu();
        let whole = Seen::of(plan, condition, edge, &all, images);

        let input = self.patch_embedding.forward(inputs.tokens) + places(0);
        let x = match &inputs.kept {
            None => self.encoded(plan, input, &whole) + places(1),
            Some(kept) => {
                let seen = Seen::of(plan, condition, edge, kept, images);
                let rows = (0..images).flat_map(|image| kept.iter().map(move |place| (image * edge * edge + place) as u32));
                let x = input.gather_rows(plan.index_constant(&rows.collect::<Vec<u32>>()));
                self.filled_in(plan, self.encoded(plan, x, &seen), kept, places(1), &whole)
            }
        };
        let decode =
            |x, (i, block): (usize, &BiasedBlock)| plan.scope(format!("de_blocks.{i}"), || block.forward(plan, x, Some(input), &whole));
        let x = self.decoder.iter().enumerate().fold(x, decode);
        let out = Modulation::new(self.modulation_out.forward(condition), whole.of_row, d);
        let [shift, scale] = out.parts();
        let x = self.proj_out.forward(out.scale_shift(self.norm_out.forward(x), shift, scale));
        // The layer gives (row, column, channel).
        if dit.patch_latents() == 1 { x } else { x.transpose_channels(dit.patch_latents()) }
    }

    /// The encoder over the tokens that it sees.
    fn encoded<'p>(&self, plan: &'p Plan, mut x: Tensor<'p>, seen: &Seen<'p>) -> Tensor<'p> {
        let mut skips = Vec::with_capacity(self.in_blocks.len());
        for (i, block) in self.in_blocks.iter().enumerate() {
            x = plan.scope(format!("en_inblocks.{i}"), || block.forward(plan, x, None, seen));
            skips.push(x);
        }
        for ((i, block), skip) in self.out_blocks.iter().enumerate().zip(skips.into_iter().rev()) {
            x = plan.scope(format!("en_outblocks.{i}"), || block.forward(plan, x, Some(skip), seen));
        }
        x
    }

    /// All tokens of those that the encoder saw: one that says so stands for each of the others, and is what the side block makes of it.
    fn filled_in<'p>(&self, plan: &'p Plan, x: Tensor<'p>, kept: &[usize], places: Tensor<'p>, whole: &Seen<'p>) -> Tensor<'p> {
        let images = x.rows() / kept.len();
        let (hidden, d) = (x.rows(), x.channels());
        let of = |image: usize, place: usize| kept.iter().position(|own| *own == place).map_or(hidden, |row| image * kept.len() + row);
        let rows: Vec<u32> =
            (0..images).flat_map(|image| (0..whole.tokens).map(move |place| (image, place))).map(|(i, p)| of(i, p) as u32).collect();
        let before = stack(x, plan.constant(&[1, d], &self.mask_token)).gather_rows(plan.index_constant(&rows)) + places;
        let after = plan.scope("sideblocks.0", || self.side_block.forward(plan, before, None, whole));
        let pick = rows.iter().enumerate().map(|(at, row)| if *row as usize == hidden { rows.len() + at } else { at } as u32);
        stack(before, after).gather_rows(plan.index_constant(&pick.collect::<Vec<u32>>()))
    }
}

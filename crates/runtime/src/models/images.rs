//! What families of images have in common: classes in place of a text, the rows of several images, patches, evaluation.

use kinora_kernels::{Cadence, Plan, Tensor};

use super::family::{Call, Denoiser, DenoiserInputs, Spacing, TextEncoder, TextPadding, TextRules};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run, wrong_shape};
use crate::models::family::Evaluate;
use crate::nn::modulation::distinct;
use crate::nn::{Embedding, Linear, Pattern, Weights};
use crate::sampling::tokens::{pack, unpack};

/// How a prompt that names a class becomes a text: one row of states.
pub const CLASS_RULES: TextRules = TextRules { max_tokens: 1, clean: str::to_owned, padding: TextPadding::None };

/// Tables that are looked up for a class, whose rows lie side by side in its state `[1, E·D]`: what a denoiser that is told a class has
/// in place of a text encoder.
#[derive(Clone)]
pub struct LabelTables {
    tables: Vec<Embedding>,
    width: usize,
}

impl LabelTables {
    /// Tables of this width.
    pub fn new(tables: Vec<Embedding>, width: usize) -> Self {
        Self { tables, width }
    }

    /// States `[S, E·D]` of classes.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for a class beyond the tables.
    pub fn states(&self, classes: &[u32]) -> Result<Vec<f32>> {
        let mut states = Vec::with_capacity(classes.len() * self.width());
        for class in classes {
            for table in &self.tables {
                states.extend(table.rows(&[*class])?);
            }
        }
        Ok(states)
    }

    /// The part of states `[S, E·D]` that a block sees `[S, D]`: its own, or the one for all.
    pub fn of_block<'p>(&self, states: Tensor<'p>, block: usize) -> Tensor<'p> {
        if self.tables.len() == 1 { states } else { states.columns(block * self.width, self.width).contiguous() }
    }
}

impl TextEncoder for LabelTables {
    fn width(&self) -> usize {
        self.tables.len() * self.width
    }

    fn embed(&self, ids: &[u32], _: &[usize]) -> Result<Vec<f32>> {
        self.states(ids)
    }

    fn record<'p>(&self, _: &'p Plan, embeddings: Tensor<'p>, _: &[usize], _: Option<Tensor<'p>>) -> Tensor<'p> {
        embeddings
    }
}

impl Evaluate for LabelTables {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["class_labels"])?;
        let (_, [batch]) = inputs.ranked("class_labels", "[B]")?;
        let values = self.states(&inputs.indices("class_labels", &[batch])?)?;
        Ok(Evaluation::Done(vec![Output { name: "states", shape: vec![batch, self.width()], values }]))
    }
}

/// A convolution of `channels` → `width` whose kernel is its stride, as the linear layer over patches that it is.
///
/// # Errors
/// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
/// [`WrongDType`](crate::Error::WrongDType).
pub(crate) fn patches(w: &Weights<'_>, name: &str, [width, channels, patch]: [usize; 3]) -> Result<Linear> {
    let dims = [width, channels, patch, patch];
    let weight = w.tensor_as(&format!("{name}.weight"), &dims, &[width, channels * patch * patch])?;
    Ok(Linear::new(name, weight, Some(w.tensor(&format!("{name}.bias"), &[width])?)))
}

/// The rows of `a`, then those of `b`.
pub(crate) fn stack<'p>(a: Tensor<'p>, b: Tensor<'p>) -> Tensor<'p> {
    let frames = |x: Tensor<'p>| x.reshape(&[1, x.rows(), 1, 1, x.channels()]);
    frames(a).concat_frames(frames(b)).reshape(&[a.rows() + b.rows(), a.channels()])
}

/// Where the rows of several images are.
pub(crate) struct ImageRows<'p> {
    plan: &'p Plan,
    lengths: Vec<usize>,
}

impl<'p> ImageRows<'p> {
    /// Those of images with so many tokens.
    pub(crate) fn of(plan: &'p Plan, lengths: Vec<usize>) -> Self {
        Self { plan, lengths }
    }

    /// Those of grids.
    pub(crate) fn of_grids(plan: &'p Plan, grids: &[[usize; 3]]) -> Self {
        Self::of(plan, grids.iter().map(|grid| grid.iter().product()).collect())
    }

    /// The tokens of each image attend to each other.
    pub(crate) fn pattern(&self) -> Pattern<'p> {
        Pattern::within(&self.lengths)
    }

    /// Which image each row is of `[R]`.
    pub(crate) fn of_row(&self) -> Tensor<'p> {
        let rows = self.lengths.iter().enumerate().flat_map(|(image, rows)| std::iter::repeat_n(image as u32, *rows));
        self.plan.index_constant(&rows.collect::<Vec<u32>>())
    }

    /// What the first row of each image `[S]` has of an index of rows `[R]`.
    pub(crate) fn first_of(&self, index: Tensor<'p>) -> Tensor<'p> {
        let mut next = 0;
        let first = self.lengths.iter().map(|rows| {
            next += rows;
            (next - rows) as u32
        });
        let first = first.collect::<Vec<u32>>();
        index.gather_indices(self.plan.index_constant(&first), self.plan.index_constant(&vec![0; first.len()]))
    }
}

/// What attention adds to the scores of two tokens by how far apart they are on a square, for each head.
pub(crate) struct OffsetBias {
    table: Vec<f32>,
    heads: usize,
}

impl OffsetBias {
    /// The table `name` of a square of this edge, with `spare` rows more that nothing reads.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub(crate) fn load(w: &Weights<'_>, name: &str, edge: usize, heads: usize, spare: usize) -> Result<Self> {
        let reach = 2 * edge - 1;
        Ok(Self { table: w.values(name, &[reach * reach + spare, heads])?, heads })
    }

    /// `[N, L, L]` of the tokens that [`offsets`] was made for. Spread on the device, as together the tables of all blocks are small and
    /// what they become is not.
    pub(crate) fn spread<'p>(&self, plan: &'p Plan, offsets: Tensor<'p>, tokens: usize) -> Tensor<'p> {
        let table = plan.constant(&[self.table.len() / self.heads, self.heads], &self.table);
        table.gather_rows(offsets).reshape(&[tokens, tokens, self.heads]).permute(&[2, 0, 1])
    }
}

/// For each two tokens at some places of a square of this edge, query then key, the row of their offset: rows before columns.
pub(crate) fn offsets(edge: usize, places: &[usize]) -> Vec<u32> {
    let row = |query: usize, key: usize| {
        let [down, right] = [query / edge + edge - 1 - key / edge, query % edge + edge - 1 - key % edge];
        (down * (2 * edge - 1) + right) as u32
    };
    places.iter().flat_map(|query| places.iter().map(move |key| row(*query, *key))).collect()
}

/// `forward` of a denoiser of images: `hidden_states [B, C, H, W]`, `timestep [B]`, and `class_labels [B]` or
/// `encoder_hidden_states [B, T, Ct]`.
///
/// # Errors
/// Those of arguments that do not fit, and [`Kernels`](crate::Error::Kernels).
pub(crate) fn evaluate(denoiser: &dyn Denoiser, inputs: &Inputs<'_>) -> Result<Evaluation> {
    evaluate_with(denoiser, inputs, &[], |plan, call, inputs| denoiser.record(plan, call, inputs))
}

/// [`evaluate`] of what `record` records, which has read `more` arguments itself.
///
/// # Errors
/// As [`evaluate`].
pub(crate) fn evaluate_with(
    denoiser: &dyn Denoiser,
    inputs: &Inputs<'_>,
    more: &[&str],
    record: impl for<'p> FnOnce(&'p Plan, &Call<'_>, &DenoiserInputs<'p>) -> Tensor<'p>,
) -> Result<Evaluation> {
    let classes = denoiser.classes();
    let condition = if classes.is_some() { "class_labels" } else { "encoder_hidden_states" };
    inputs.only(&[&["hidden_states", "timestep", condition][..], more].concat())?;
    let (channels, patch) = (denoiser.latent_channels(), denoiser.packing());
    let (hidden, [batch, _, h, w]) = inputs.ranked("hidden_states", "[B, C, H, W]")?;
    hidden.expect_shape(&[batch, channels, h, w])?;
    let grid = [1, h / patch[1], w / patch[2]];
    if [grid[1] * patch[1], grid[2] * patch[2]] != [h, w] {
        return Err(wrong_shape(&hidden, &format!("height and width that are multiples of {}", patch[1])));
    }
    if let Some([_, rows, columns]) = denoiser.grid().filter(|only| *only != grid) {
        return Err(wrong_shape(&hidden, &format!("{}×{}, which is all it knows", rows * patch[1], columns * patch[2])));
    }
    let tokens = grid[1] * grid[2];
    let (text, rows) = match classes {
        Some(classes) => (classes.encoder.embed(&inputs.indices(condition, &[batch])?, &[])?, 1),
        None => {
            let (text, [_, rows, _]) = inputs.ranked(condition, "[B, T, C]")?;
            text.expect_shape(&[batch, rows, denoiser.text_channels()])?;
            (text.to_f32(), rows)
        }
    };
    let view = inputs.get("timestep")?;
    view.expect_shape(&[batch])?;
    let (timesteps, index) = distinct(&view.to_f32().iter().flat_map(|t| std::iter::repeat_n(*t, tokens)).collect::<Vec<_>>());

    let (grids, text_rows, plan) = (vec![grid; batch], vec![rows; batch], Plan::new());
    let call = Call {
        grids: &grids,
        beside: &[],
        text_rows: &text_rows,
        picture_rows: &[],
        timesteps: &timesteps,
        ends: &[],
        first_frame: 0,
        conditioning_scale: None,
        variance: denoiser.predicts_variance(),
        spacing: Spacing { latent: [1.0; 3], frames: 1 },
    };
    let features = channels * patch[1] * patch[2];
    let given = DenoiserInputs {
        tokens: plan.input("tokens", &[batch * tokens, features], Cadence::EveryStep),
        text: plan.input("text", &[batch * rows, denoiser.text_channels()], Cadence::Once),
        features: None,
        pictures: None,
        context: None,
        timestep_index: plan.index_input("timestep_index", batch * tokens, Cadence::EveryStep),
        tables: denoiser.tables(&call).iter().map(|table| (table.name, plan.constant(&table.shape, &table.values))).collect(),
    };
    plan.output("sample", record(&plan, &call, &given));

    let made = if denoiser.predicts_variance() { 2 * channels } else { channels };
    let (seen, made) = ([channels, 1, h, w], [made, 1, h, w]);
    let packed = hidden.to_f32().chunks_exact(seen.iter().product()).flat_map(|image| pack(image, seen, patch)).collect();
    let run = Run::new(plan.finish()?).write("tokens", packed).write("text", text).write_indices("timestep_index", index);
    let finish = move |prediction: Vec<f32>| {
        let values = prediction.chunks_exact(made.iter().product()).flat_map(|image| unpack(image, made, patch)).collect();
        vec![Output { name: "sample", shape: vec![batch, made[0], h, w], values }]
    };
    Ok(run.output_with("sample", finish).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_rows_before_columns() {
        // Two rows of two: to itself, one to the left, one up, both.
        assert_eq!(offsets(2, &[0, 1, 2, 3])[..4], [4, 3, 1, 0], "of the first");
        assert_eq!(offsets(2, &[0, 1, 2, 3])[12..], [8, 7, 5, 4], "of the last");
        assert_eq!(offsets(2, &[3, 1]), [4, 7, 1, 4], "of some, in their order");
    }
}

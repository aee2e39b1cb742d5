//! What a denoiser is recorded for and over: sizes, tables and inputs of one plan.

use kinora_kernels::Tensor;

use super::causal::Context;

/// What one recording of a denoiser is for: the sizes, and what is known before the first step.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Tokens of each sequence in time, height and width.
    pub grids: &'a [[usize; 3]],
    /// Tokens of each sequence beside those of its grid, for a denoiser that is given [such](super::family::Denoiser::is_given_beside);
    /// no lists if there are none.
    pub beside: &'a [Vec<Beside>],
    /// Rows of text of each sequence.
    pub text_rows: &'a [usize],
    /// Rows of pictures of each sequence, for a denoiser that looks at [`Pictures`](super::family::Denoiser::pictures).
    pub picture_rows: &'a [usize],
    /// The distinct timesteps of the run.
    pub timesteps: &'a [f32],
    /// The timesteps where the steps of these end, for a denoiser that [is told](super::family::Denoiser::is_told_ends).
    pub ends: &'a [f32],
    /// Tokens in time before the first, for a denoiser that goes on with a clip.
    pub first_frame: usize,
    /// How strongly a second branch steers, where that is not the model's.
    pub conditioning_scale: Option<f32>,
    /// Whether the solver takes a [predicted variance](super::family::Denoiser::predicts_variance).
    pub variance: bool,
    /// How far apart latents are.
    pub spacing: Spacing,
}

/// Tokens after those of a clip, which show so much of it once more: frames with a latent frame of their own for the first, as a clip has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The frame of the clip that they begin with.
    pub frame: usize,
    /// Tokens in time.
    pub length: usize,
}

/// How far apart latents are in time and space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// Seconds, and rows and columns of pixels, from one *latent* to the next.
    pub latent: [f32; 3],
    /// Frames of the clip that a latent frame stands for, but for the first.
    pub frames: usize,
}

impl Call<'_> {
    /// Tokens of each sequence.
    pub fn token_rows(&self) -> Vec<usize> {
        let rows = |(at, [frames, height, width]): (usize, &[usize; 3])| (frames + self.beside_frames(at)) * height * width;
        self.grids.iter().enumerate().map(rows).collect()
    }

    /// Tokens in time that a sequence has beside its grid.
    fn beside_frames(&self, sequence: usize) -> usize {
        self.beside.get(sequence).map_or(0, |beside| beside.iter().map(|own| own.length).sum())
    }
}

/// Values that a denoiser computes on the host for a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Name, unique within the denoiser.
    pub name: &'static str,
    /// Extents.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// What a denoiser records over.
#[derive(Clone, Debug)]
pub struct DenoiserInputs<'p> {
    /// Noisy tokens of all sequences `[R, C·pt·ph·pw]`.
    pub tokens: Tensor<'p>,
    /// Text states of all sequences `[Rt, Ct]`.
    pub text: Tensor<'p>,
    /// What is given beside each token `[R, G·pt·ph·pw]`, for a denoiser that is given
    /// [`Channels`](super::family::Given::Channels) or [`Control`](super::family::Given::Control); features in the order of those of
    /// tokens.
    pub features: Option<Tensor<'p>>,
    /// States of the pictures of all sequences `[Rp, Cp]`, for a denoiser that looks at some.
    pub pictures: Option<Tensor<'p>>,
    /// What the frames before left, for a [causal](super::family::Denoiser::causal) denoiser.
    pub context: Option<Context<'p>>,
    /// Which of [`Call::timesteps`] each token is at `[R]`.
    pub timestep_index: Tensor<'p>,
    /// Its [`tables`](super::family::Denoiser::tables) by name.
    pub tables: Vec<(&'static str, Tensor<'p>)>,
}

impl<'p> DenoiserInputs<'p> {
    /// The table of this name, if the denoiser made one.
    pub fn optional_table(&self, name: &str) -> Option<Tensor<'p>> {
        self.tables.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
    }

    /// The table of this name.
    ///
    /// # Panics
    /// If [`super::family::Denoiser::tables`] makes no such table, which is a mistake in the family.
    pub fn table(&self, name: &str) -> Tensor<'p> {
        self.optional_table(name).expect("`tables` makes every table that `record` reads")
    }
}

//! What a model family is: a value of [`Family`], made of the classes it implements and four traits.
//!
//! A family lives in a folder of its own (`models/ltx/` is the fullest, `models/bert/` the smallest one) and is known to the
//! rest of the runtime by one line in the [registry](super::FAMILIES). Nothing outside its folder knows its name; in return
//! it knows nothing of prompts, schedules, guidance, packing, memory or devices. It answers three kinds of questions:
//!
//! 1. *Which classes are mine?* [`Family::components`] lists those a `config.json` may name, each with its loader;
//!    [`Family::pipelines`] lists those a `model_index.json` may name, each with the components, defaults and text rules
//!    that the reference implementation gives it.
//! 2. *What does a component compute?* [`Denoiser`], [`Autoencoder`], [`TextEncoder`], [`SecondStage`] and
//!    [`LatentStage`] record it on a plan. They are called
//!    while recording only; a replay runs no code of a family.
//! 3. *How is it compared with its reference?* [`Evaluate`] maps the keyword arguments of the reference's methods to such a
//!    recording: that is `kinora eval`, which the golden tests run.
//!
//! # Tokens
//!
//! Every model is sampled in one layout: a row per **token**, `[R, C·pt·ph·pw]`. A token is a block of
//! [`Denoiser::packing`] latents (frames, rows, columns) with its features in the order (channel, frame, row, column);
//! tokens are in the order (frame, row, column), the last one fastest. For a model that patchifies by a convolution whose
//! kernel is its stride, this is the input of the equivalent linear layer; a U-Net has packing `[1, 1, 1]` and reshapes the
//! rows to `[B, F, H, W, C]`. What a model predicts is in the same layout; one whose last layer orders features otherwise
//! (Wan: frame, row, column, channel) reorders them itself, best by permuting the rows of that layer's weight on loading.
//!
//! Several **sequences** (generations, and the conditional and unconditional branch of each) lie one after another in the
//! rows, nothing between them, and must not see each other: [`Call::grids`] and [`Call::text_rows`] say where each ends,
//! and [`Pattern`](crate::nn::Pattern) is an attention that respects it.
//!
//! # Noise
//!
//! Each row has a timestep of its own. [`Call::timesteps`] holds the distinct ones of a whole run and
//! [`DenoiserInputs::timestep_index`] chooses among them, so that embeddings of time are computed once for all steps (see
//! [`Modulation`](crate::nn::Modulation)). A model that was trained with one timestep per clip says so by
//! [`NoiseLevels::Uniform`], and then all rows of a sequence have the same. What the prediction means (flow, v, ε, x₀) is
//! said by the scheduler's configuration, not by the model.

use kinora_kernels::{Plan, Tensor};

pub use super::call::{Beside, Call, DenoiserInputs, Spacing, Table};
use super::causal::Causal;
use super::component::Component;
use super::latents::LatentStats;
use super::layout::Layout;
pub use super::stages::{Doubles, LatentStage, SecondStage};
use crate::error::Result;
use crate::eval::{Evaluation, Inputs};
use crate::manifest::Index;
use crate::nn::{Carry, Weights};
use crate::sampling::schedule::Levels;

/// A model family: everything the rest of the runtime knows about it.
pub struct Family {
    /// Name of the family and of its folder.
    pub name: &'static str,
    /// How files of others name its tensors.
    pub layouts: &'static [Layout],
    /// The pipelines it can run; none for a family that only lends components (text encoders) to others.
    pub pipelines: &'static [PipelineClass],
    /// The classes it implements.
    pub components: &'static [ComponentClass],
}

/// A class that `_class_name` (diffusers) or `architectures` (transformers) of a `config.json` names.
pub struct ComponentClass {
    /// The name.
    pub name: &'static str,
    /// Loads it. Every tensor of [`Source::weights`] must be taken or ignored: what is left over afterwards is an error.
    pub load: fn(&Source<'_>) -> Result<Component>,
}

/// What a component is loaded from.
pub struct Source<'a> {
    /// Text of its `config.json`.
    pub config: &'a str,
    /// What that file is called in errors.
    pub file: &'a str,
    /// Its tensors by their names in the checkpoint.
    pub weights: Weights<'a>,
    /// The `model_index.json` of the model it belongs to; empty if it is run by itself.
    pub index: &'a Index,
}

/// A class that `_class_name` of a `model_index.json` names.
pub struct PipelineClass {
    /// The name.
    pub name: &'static str,
    /// Classes that its denoisers may have.
    pub denoisers: &'static [&'static str],
    /// Classes that its autoencoder, in the folder `vae`, may have.
    pub autoencoders: &'static [&'static str],
    /// Classes that its text encoder, in the folder `text_encoder`, may have.
    pub text_encoders: &'static [&'static str],
    /// Classes that its image encoder, in the folder `image_encoder`, may have; it is there if a denoiser looks at
    /// [`Pictures`](Denoiser::pictures).
    pub image_encoders: &'static [&'static str],
    /// Which denoisers it has, from high noise to low: usually the one in the folder `transformer`.
    pub noise_ranges: fn(&Index) -> Result<Vec<NoiseRange>>,
    /// What a request gets that does not say otherwise; the `kinora` object of `model_index.json` may replace it.
    pub defaults: Defaults,
    /// How a prompt becomes the text the denoiser sees.
    pub text: TextRules,
    /// The levels of so many steps, before the schedule shifts them.
    pub levels: fn(usize) -> Levels,
    /// Keys of the `kinora` object that only this family reads, by [`Index::kinora`].
    pub extensions: &'static [&'static str],
}

/// A denoiser and the part of a run that is its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseRange {
    /// Folder of the component.
    pub folder: &'static str,
    /// It does the steps at this timestep and above, as far as none before it in the list does.
    pub lowest_timestep: f32,
}

impl NoiseRange {
    /// The only denoiser of a pipeline.
    pub fn all(folder: &'static str) -> Vec<Self> {
        vec![Self { folder, lowest_timestep: f32::NEG_INFINITY }]
    }
}

/// A request that says nothing, in the reference implementation of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Denoising steps.
    pub steps: usize,
    /// Guidance; 1 means one branch.
    pub guidance: f32,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames.
    pub frames: usize,
    /// Frames per second the model was trained on.
    pub fps: f32,
}

/// How a prompt becomes the text that a denoiser sees.
#[derive(Clone, Copy, Debug)]
pub struct TextRules {
    /// Longer prompts are cut to this many tokens; the `kinora` object may replace it.
    pub max_tokens: usize,
    /// What is done to a prompt before it is tokenized.
    pub clean: fn(&str) -> String,
    /// What a shorter prompt is filled up with.
    pub padding: TextPadding,
}

/// What follows a prompt shorter than [`TextRules::max_tokens`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPadding {
    /// Nothing. Also right for a reference that pads and masks: what is masked in every attention might as well be absent.
    None,
    /// Rows of zeros after encoding, which the denoiser attends to.
    Zeros,
    /// This token, encoded and attended to like the prompt's own.
    Token(u32),
    /// Nothing; but a negative prompt has as many rows as the prompt it stands beside: it is cut after encoding, or filled up
    /// before with this token, which sees the text in the encoder and is seen in the denoiser alone.
    Paired(u32),
}

/// How finely a denoiser can be told the noise in its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseLevels {
    /// Each token has a level: frames and regions can be given clean, or less noisy than others.
    PerToken,
    /// One level for all tokens of a clip: a clip can be given as a whole, under some noise.
    Uniform,
}

/// How a denoiser is given frames of the clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// As tokens in their places, at a level of noise of their own, as far as [`NoiseLevels`] goes.
    Tokens,
    /// By features beside those of every token, so many for a latent: for each frame that a latent stands for whether it is known,
    /// then the latents of the clip, which is grey where nothing is known.
    Channels(usize),
    /// By features of a second branch, so many for a latent: the latents of what is kept and of what is replaced, both of a clip that is
    /// grey elsewhere, then for each pixel that a latent stands for whether it is made. Nothing need be given.
    Control(usize),
}

/// Pictures that a denoiser attends to beside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// Channels of their states, which are those of the image encoder.
    pub channels: usize,
    /// How many: the first frame of the clip, and with two the last as well.
    pub count: usize,
}

/// A component as [`eval`](crate::eval::eval) runs it: named operations over the arguments of the reference's methods.
pub trait Evaluate {
    /// Names of its operations: `forward`, or `encode` and `decode`.
    fn operations(&self) -> &'static [&'static str];

    /// Records `operation`, one of [`operations`](Self::operations), for these arguments. Refuses arguments that the
    /// reference's method does not have ([`Inputs::only`]).
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest), [`MissingTensor`](crate::Error::MissingTensor),
    /// [`WrongShape`](crate::Error::WrongShape), [`WrongDType`](crate::Error::WrongDType),
    /// [`Kernels`](crate::Error::Kernels).
    fn evaluate(&self, operation: &str, inputs: &Inputs<'_>) -> Result<Evaluation>;
}

/// What can be evaluated, if the feature `eval` is on. Without it a component leaves [`Evaluate`] out of its table of methods, so
/// that a page, which compares nothing, downloads none of that code.
#[cfg(feature = "eval")]
pub trait Evaluable: Evaluate {}
#[cfg(feature = "eval")]
impl<T: Evaluate + ?Sized> Evaluable for T {}
/// Nothing, because the feature `eval` is off.
#[cfg(not(feature = "eval"))]
pub trait Evaluable {}
#[cfg(not(feature = "eval"))]
impl<T: ?Sized> Evaluable for T {}

/// What a denoiser follows that is told a class instead of a text: an encoder of its own, whose ids are those of the classes. The one
/// after the last stands for none of them, which is what guidance leads away from.
pub struct Classes {
    /// How many there are.
    pub count: usize,
    /// From the ids of classes to states, a row each.
    pub encoder: Box<dyn TextEncoder>,
}

/// A model that predicts what is noise in tokens. The module's documentation says what tokens are.
pub trait Denoiser: Evaluable + Send + Sync {
    /// Latent frames, rows and columns that one token joins.
    fn packing(&self) -> [usize; 3];

    /// C: channels of the latents that it denoises, which are those of the autoencoder.
    fn latent_channels(&self) -> usize;

    /// Channels of the text states it attends to, which are those of the text encoder.
    fn text_channels(&self) -> usize;

    /// The classes it is told one of, if it is told no text; its pipeline then has no text encoder.
    fn classes(&self) -> Option<Classes> {
        None
    }

    /// The only grid of tokens (frames, rows, columns) that it makes, where it has learned each of their places.
    fn grid(&self) -> Option<[usize; 3]> {
        None
    }

    /// Whether it makes images: one latent frame.
    fn is_of_images(&self) -> bool {
        false
    }

    /// Whether it predicts the variance of a step as well, which it returns behind the prediction, as many channels again, where
    /// [`Call::variance`] asks for it.
    fn predicts_variance(&self) -> bool {
        false
    }

    /// Fields of its `config.json` behind [`latent_channels`](Self::latent_channels) and
    /// [`text_channels`](Self::text_channels), for errors about components that do not fit each other.
    fn channel_fields(&self) -> [&'static str; 2];

    /// How finely it can be told the noise of its tokens.
    fn noise_levels(&self) -> NoiseLevels;

    /// How it is given frames.
    fn given(&self) -> Given {
        Given::Tokens
    }

    /// Whether what it is given of a clip but for its first frames are [tokens of their own](Call::beside), not those in their places.
    fn is_given_beside(&self) -> bool {
        false
    }

    /// The pictures that it attends to, if it does.
    fn pictures(&self) -> Option<Pictures> {
        None
    }

    /// How it goes through a clip block by block, if it does: then it is given the first frames of a clip, and nothing else.
    fn causal(&self) -> Option<Causal> {
        None
    }

    /// Whether it is told [where a step ends](Call::ends) too.
    fn is_told_ends(&self) -> bool {
        false
    }

    /// What it computes on the host for a call and reads while recording: rotary tables, features of timesteps.
    fn tables(&self, call: &Call<'_>) -> Vec<Table>;

    /// The prediction `[R, C·pt·ph·pw]`. It may depend on the sizes in `call` and on its spacing, not on the timesteps themselves,
    /// whose values come by tables: the same plan serves other clips of the same sizes.
    fn record<'p>(&self, plan: &'p Plan, call: &Call<'_>, inputs: &DenoiserInputs<'p>) -> Tensor<'p>;

    /// Prefix of the step labels of its first block, for measurements.
    fn first_block(&self) -> &'static str;
}

/// Which way an autoencoder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Frames to latents.
    Encode,
    /// Latents to frames.
    Decode,
}

/// How an autoencoder can be given a clip in pieces of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Chunks of so many latent frames, one after another, each with what the ones before left in a [`Carry`]: the result is that of
    /// the reference, bit for bit, and the memory that of one chunk. The first chunk has the first frame.
    Chunks(Vec<usize>),
    /// As a whole; where that is too large, windows that have so many latent frames in common, which are blended there.
    Windows {
        /// Latent frames that neighbours have in common.
        overlap: usize,
    },
}

/// A model between frames and latents. Both are channels-last: `[1, F', H', W', 3]` in −1..1 and `[1, F, H, W, C]`.
///
/// The first frame of a clip has a latent frame of its own; each other stands for as many frames as the first number of
/// [`compression`](Self::compression), which is 1 for an autoencoder of images.
pub trait Autoencoder: Evaluable + Send + Sync {
    /// C.
    fn latent_channels(&self) -> usize;

    /// Frames, rows and columns of pixels per latent.
    fn compression(&self) -> [usize; 3];

    /// What the denoiser's latents are normalised with.
    fn stats(&self) -> &LatentStats;

    /// The share of noise that latents are decoded under, for a decoder that is told of it.
    fn decode_noise(&self) -> f32 {
        0.0
    }

    /// How a clip of so many latent frames can be cut in time.
    fn split(&self, direction: Direction, latent_frames: usize) -> Split;

    /// Frames → `[1, F, H, W, C or more]`, whose first C channels are the means of the latents' distribution. `carry` says which
    /// chunk they are, and has what those before left; one that is cut into [`Windows`](Split::Windows) has no use for it.
    fn record_encode<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p>;

    /// Latents, no longer normalised, → frames. `carry` as for [`record_encode`](Self::record_encode).
    fn record_decode<'p>(&self, plan: &'p Plan, latents: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p>;

    /// Prefix of the step labels of the decoder's first upsampling block, for measurements.
    fn first_block(&self) -> &'static str;
}

/// A model from pictures to states that denoisers attend to.
pub trait ImageEncoder: Evaluable + Send + Sync {
    /// D: channels of its states.
    fn width(&self) -> usize;

    /// Rows of a picture.
    fn tokens(&self) -> usize;

    /// Features of a row before the first layer.
    fn patch_features(&self) -> usize;

    /// A picture of RGBA bytes, `[height, width]`, as the model is shown it: `[tokens, patch_features]`, computed on the host.
    fn patches(&self, rgba: &[u8], size: [usize; 2]) -> Vec<f32>;

    /// Patches of several pictures `[n·tokens, patch_features]` → states `[n·tokens, D]`.
    fn record<'p>(&self, plan: &'p Plan, patches: Tensor<'p>) -> Tensor<'p>;
}

/// A model from token ids to text states.
pub trait TextEncoder: Evaluable + Send + Sync {
    /// D: channels of its states.
    fn width(&self) -> usize;

    /// Embeddings `[T, D]` of the ids of several sequences of these lengths, looked up on the host.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::Error::InvalidRequest) for an id beyond the vocabulary or too long a sequence.
    fn embed(&self, ids: &[u32], lengths: &[usize]) -> Result<Vec<f32>>;

    /// Embeddings `[T, D]` → states `[T, D]`; tokens attend within their sequence. `mask [T]`, if there is one, is added to the
    /// scores of each token.
    fn record<'p>(&self, plan: &'p Plan, embeddings: Tensor<'p>, lengths: &[usize], mask: Option<Tensor<'p>>) -> Tensor<'p>;
}

//! The closed set of operations a plan consists of. Each has a recording method (`ops/`), a CPU twin (`reference/`)
//! and a lowering to kernels (`ops/`); the `match`es over [`Op`] have no wildcard arm, so a missing one does not compile.

use crate::weight::Weight;

/// A pointwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x`.
    #[default]
    None,
    /// `x · (1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2`.
    GeluTanh,
    /// `x · (1 + erf(x/√2)) / 2`.
    GeluErf,
    /// `x / (1 + exp(−x))`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `tanh(x)`; never joined with what makes x.
    Tanh,
}

/// How positions outside the input are read by a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Padding {
    /// As zero.
    #[default]
    Zero,
    /// As the nearest position inside.
    Replicate,
}

/// `y = x · wᵀ + bias`, then at most one of: an activation; `+ residual`; `· gate[index] + residual`.
///
/// Inputs: `x [.., K]`, then `residual [.., N]` if set, then `table`, `index [R]` if gated.
#[derive(Clone, Debug)]
pub struct Gemm {
    /// `[N, K]`.
    pub weight: Weight,
    /// `[N]`.
    pub bias: Option<Weight>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Whether a second input is added at the end.
    pub residual: bool,
    /// First column of the gate in the modulation table.
    pub gate: Option<usize>,
}

/// Softmax attention over packed sequences, `softmax(scale · q kᵀ + bias + mask) v` per head.
///
/// Inputs: `q [Rq, N·d]`, `k`, `v [Rk, N·d]`, then `mask [Rk]` if set, then `bias [N, Lq, Lk]` if set.
#[derive(Clone, Debug)]
pub struct Attention {
    /// N.
    pub heads: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Per sequence: first query row, query rows, first key row, key rows.
    pub sequences: Vec<[u32; 4]>,
    /// Whether an additive key mask follows.
    pub mask: bool,
    /// Whether an additive bias per head, query and key follows (shared by all sequences).
    pub bias: bool,
}

/// 3-D convolution over channels-last frames.
///
/// Inputs: `x [B, F, H, W, Cin]`, then `residual [B, F', H', W', Cout]` if set.
#[derive(Clone, Debug)]
pub struct Conv3d {
    /// `[Cout, Cin, kt, kh, kw]`.
    pub weight: Weight,
    /// `[Cout]`.
    pub bias: Option<Weight>,
    /// Steps in time, height and width.
    pub stride: [usize; 3],
    /// Positions before the first in time, height and width.
    pub front: [usize; 3],
    /// Positions after the last.
    pub back: [usize; 3],
    /// How time outside the clip is read.
    pub time_padding: Padding,
    /// How space outside a frame is read.
    pub space_padding: Padding,
    /// Whether a second input is added at the end.
    pub residual: bool,
}

/// What a norm subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Divide by the root mean square.
    Rms,
    /// Subtract the mean, divide by the standard deviation.
    Layer,
}

/// Columns of a modulation table: `y · (1 + table[index][scale..]) + table[index][shift..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModulationColumns {
    /// First column of the shift.
    pub shift: usize,
    /// First column of the scale.
    pub scale: usize,
}

/// Norm of each group of channels of each row, with everything that may follow it in the same pass.
///
/// Inputs: `x [.., C]`, then `table`, `index [R]` if modulated, then `rope [L, C/groups]` if rotated.
#[derive(Clone, Debug)]
pub struct Norm {
    /// RMS or layer norm.
    pub kind: NormKind,
    /// Number of equal groups of channels normalised separately (2 for stacked queries and keys).
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// `[C]`.
    pub gain: Option<Weight>,
    /// `[C]`.
    pub bias: Option<Weight>,
    /// Adaptive scale and shift.
    pub modulation: Option<ModulationColumns>,
    /// Whether a rotary embedding follows.
    pub rope: bool,
    /// Whether `SiLU` follows.
    pub silu: bool,
}

/// Mean and sum of squared deviations of each channel over slices of the rows of each batch entry: the first of the three
/// operations of a group norm, whose groups may have millions of values.
///
/// Input: `x [B·P, C]`. Output: `[B·S, 2·C₄]`, C₄ the channels with their padding, means before sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// B.
    pub batch: usize,
    /// Rows of a slice.
    pub slice: usize,
}

/// Moments to the mean of each channel's group and the factor of its deviation: the second operation of a group norm.
///
/// Input: what [`Moments`] gives. Output: `[B, 2·C₄]`, means before factors.
#[derive(Clone, Debug)]
pub struct GroupScale {
    /// P: rows of a batch entry.
    pub rows: usize,
    /// Rows of a slice.
    pub slice: usize,
    /// C.
    pub channels: usize,
    /// Number of equal groups of channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// `[C]`.
    pub gain: Option<Weight>,
}

/// `(x − mean) · factor + bias`, with what may follow in the same pass: the last operation of a group norm.
///
/// Inputs: `x [B·P, C]`, what [`GroupScale`] gives, then `table`, `index [B·P]` if modulated.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    /// `[C]`.
    pub bias: Option<Weight>,
    /// Adaptive scale and shift.
    pub modulation: Option<ModulationColumns>,
    /// Whether `SiLU` follows.
    pub silu: bool,
}

/// A pointwise operation of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// `a + b`.
    Add,
    /// `a · b`.
    Mul,
}

/// How rows of the second operand follow those of the first: row `(r / divide) mod rows(b)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// Consecutive rows of `a` that see the same row of `b`.
    pub divide: usize,
}

/// One loop of a [`Reindex`]: strides in stored scalars, 0 repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Iterations.
    pub extent: usize,
    /// Step in the stored input.
    pub input_stride: usize,
    /// Step in the stored output.
    pub output_stride: usize,
}

/// A copy `y[Σ iₖ·outₖ] = x[base + Σ iₖ·inₖ]` over up to eight axes, each output element written once and the rest zero.
///
/// Patches, pixel shuffles, slices, transposes, repeats and padding are all this one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reindex {
    /// Name of the method that recorded it.
    pub what: &'static str,
    /// Loops, outermost first; the last runs over the output's channels.
    pub axes: Vec<Axis>,
    /// First scalar of the stored input.
    pub input_base: usize,
    /// Scalars that the loops write of each group of stored output scalars, which has the next multiple of four: a row, unless
    /// the operation pads within rows.
    pub written: usize,
}

/// How strong the fresh noise of a [`LinearStep`] is, beside its coefficient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amplitude {
    /// As the coefficient says.
    #[default]
    One,
    /// Times `exp(a·v + b)`, where v is the second half of the prediction's channels, and a and b are coefficients.
    Exponential,
    /// Times `√v`.
    Root,
}

/// A linear combination of the sample x, a prediction o, the clean sample the two say, earlier ones of these, and noise.
///
/// Inputs: `state [(1 + history)·R, C]` (x, then earlier clean samples, the latest first), `prediction [Rv, C or 2C]`,
/// `level [R]`, `table [T, 12]`, then `noise [R, C]` if set, then `unconditional [R]`, `guidance [R]` if guided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearStep {
    /// Earlier clean samples that are kept, at most [`MAX_HISTORY`](Self::MAX_HISTORY).
    pub history: usize,
    /// Whether fresh noise is added, and what amplitude it has.
    pub noise: Option<Amplitude>,
    /// Channels that are guided, if any are.
    pub guided: Option<usize>,
}

impl LinearStep {
    /// Coefficients of a row: of x, o, clean and noise; of three earlier clean samples, and the largest magnitude of clean
    /// ones; clean as factors of x and o, and a and b of [`Amplitude::Exponential`].
    pub const COEFFICIENTS: usize = 12;
    /// As many earlier clean samples as there are coefficients for.
    pub const MAX_HISTORY: usize = 3;
}

/// One operation of a plan.
#[derive(Clone, Debug)]
pub enum Op {
    /// Linear layer with epilogue.
    Gemm(Gemm),
    /// Attention over packed sequences.
    Attention(Attention),
    /// 3-D convolution.
    Conv3d(Conv3d),
    /// Norm with affine, modulation, rotary embedding or `SiLU`.
    Norm(Norm),
    /// Moments of channels over slices of rows.
    Moments(Moments),
    /// Moments to means and factors of channels.
    GroupScale(GroupScale),
    /// Norm by given means and factors, with modulation or `SiLU`.
    GroupNorm(GroupNorm),
    /// `x · (1 + scale) + shift` by row index. Inputs: `x`, `table`, `index`.
    Modulate(ModulationColumns),
    /// `residual + gate · x` by row index. Inputs: `x`, `residual`, `table`, `index`.
    GatedAdd {
        /// First column of the gate in the table.
        gate: usize,
    },
    /// Rotary embedding of interleaved pairs. Inputs: `x [R, C]`, `rope [L, Cr]` of (cos, sin) pairs; row `r mod L`,
    /// column `c mod Cr`.
    Rope,
    /// Pointwise with broadcasting of the second input.
    Binary(BinaryOp, Broadcast),
    /// `act(scale · x + offset)`.
    Unary {
        /// The function.
        activation: Activation,
        /// Factor before it.
        scale: f32,
        /// Added before it.
        offset: f32,
    },
    /// Strided copy.
    Reindex(Reindex),
    /// Strided copy into a state, in place. Inputs: the state, then what the copy reads.
    WriteState(Reindex),
    /// Concatenation along the last axis. Inputs: two tensors with equal rows.
    Concat,
    /// Concatenation of rows, entry by entry. Inputs: two tensors with equal channels.
    ConcatRows {
        /// Equal parts of the rows of either.
        batch: usize,
    },
    /// `y[r] = table[index[r]]`. Inputs: `table [T, C]`, `index [R]`.
    GatherRows,
    /// `y[r] = source[index[r]] + offset[r]` of row indices. Inputs: `source [T]`, `index [R]`, `offset [R]`.
    GatherIndices,
    /// Mean of each `group` neighbouring channels.
    GroupMean {
        /// Channels averaged into one.
        group: usize,
    },
    /// `g = u + guidance[r] · (c − u)` with `u = x[unconditional[r]]`, and if it is rescaled `(1 + rescale[r] · (std(c) / std(g)
    /// − 1)) · g` over the sequence of row r. Inputs: `x [Rv, C]` (conditional rows first), `unconditional [R]`,
    /// `guidance [R]`, then `rescale [R]`, `starts [S + 1]` if rescaled. Output: `[R, C]`.
    Guide {
        /// Channels from here on follow c alone.
        guided_channels: usize,
        /// Whether the deviation of the conditional rows is given back.
        rescaled: bool,
    },
    /// One step of a sampler, in place.
    LinearStep(LinearStep),
    /// Pixels in −1..1 to 8-bit RGBA in one `u32`, 0 where one is not finite. Input: `[.., 3]`.
    Rgba,
}

impl Op {
    /// The operation's one name, used in plans, errors and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gemm(_) => "gemm",
            Self::Attention(_) => "flash_attention",
            Self::Conv3d(_) => "conv3d",
            Self::Norm(Norm { kind: NormKind::Rms, .. }) => "rms_norm",
            Self::Norm(Norm { kind: NormKind::Layer, .. }) => "layer_norm",
            Self::Moments(_) => "moments",
            Self::GroupScale(_) => "group_scale",
            Self::GroupNorm(_) => "group_norm",
            Self::Modulate(_) => "modulate",
            Self::GatedAdd { .. } => "gated_add",
            Self::Rope => "rope",
            Self::Binary(BinaryOp::Add, _) => "add",
            Self::Binary(BinaryOp::Mul, _) => "mul",
            Self::Unary { .. } => "unary",
            Self::Reindex(r) | Self::WriteState(r) => r.what,
            Self::Concat => "concat",
            Self::ConcatRows { .. } => "concat_rows",
            Self::GatherRows => "gather_rows",
            Self::GatherIndices => "gather_indices",
            Self::GroupMean { .. } => "group_mean",
            Self::Guide { .. } => "guide",
            Self::LinearStep(_) => "linear_step",
            Self::Rgba => "rgba",
        }
    }

    /// The weights it reads.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        let [a, b] = match self {
            Self::Gemm(Gemm { weight, bias, .. }) | Self::Conv3d(Conv3d { weight, bias, .. }) => [Some(weight), bias.as_ref()],
            Self::Norm(Norm { gain, bias, .. }) => [gain.as_ref(), bias.as_ref()],
            Self::GroupScale(GroupScale { gain, .. }) => [gain.as_ref(), None],
            Self::GroupNorm(GroupNorm { bias, .. }) => [bias.as_ref(), None],
            _ => [None, None],
        };
        a.into_iter().chain(b)
    }

    /// Whether the output takes over the buffer of the first input.
    pub fn in_place(&self) -> bool {
        matches!(self, Self::LinearStep(_) | Self::WriteState(_))
    }
}

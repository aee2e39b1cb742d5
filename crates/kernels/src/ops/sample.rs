//! Guidance, the step of a sampler, and the conversion to pixels.

use crate::generated::{guide, guide_rescaled, linear_step, rgba};
use crate::lower::Lowering;
use crate::op::{Amplitude, LinearStep, Op};
use crate::plan::Elem;
use crate::tensor::Tensor;

/// What gives a guided prediction the spread of the conditional one back (arXiv 2305.08891 §3.4).
#[derive(Clone, Copy, Debug)]
pub struct Rescale<'p> {
    /// `[R]`: 0 keeps a row as it is, 1 gives it the deviation of the conditional one.
    pub share: Tensor<'p>,
    /// `[S + 1]`: first row of each sequence, over which deviations are taken, then R.
    pub starts: Tensor<'p>,
}

/// What a [`linear_step`](Tensor::linear_step) reads beside state and prediction.
#[derive(Clone, Copy, Debug)]
pub struct LinearStepInputs<'p> {
    /// `[R]`: row of the table for each row of the sample.
    pub level: Tensor<'p>,
    /// `[T, 12]`: see [`LinearStep::COEFFICIENTS`].
    pub table: Tensor<'p>,
    /// `[R, C]`, if fresh noise is added.
    pub noise: Option<(Tensor<'p>, Amplitude)>,
}

impl<'p> Tensor<'p> {
    /// Classifier-free guidance: `y[r] = u + guidance[r] · (c − u)`. Channels from `guided_channels` on follow c alone.
    ///
    /// | tensor          | shape                                                                 | access |
    /// |-----------------|-----------------------------------------------------------------------|--------|
    /// | `self`          | `[Rv, C]`, Rv ≥ R: conditional rows c first                           | read   |
    /// | `unconditional` | `[R]`: row of the prediction that is u; the row itself for no guidance | read   |
    /// | `guidance`      | `[R]`                                                                 | read   |
    /// | `rescale`       | see [`Rescale`]                                                       | read   |
    /// | result          | `[R, C]`                                                              | write  |
    #[track_caller]
    pub fn guide(self, unconditional: Self, guidance: Self, rescale: Option<Rescale<'p>>, guided_channels: usize) -> Self {
        self.need_contiguous("guide");
        let rows = guidance.shape().elements();
        if self.rows() < rows || rescale.is_some_and(|r| r.share.shape().elements() != rows) {
            let share = rescale.map_or_else(String::new, |r| format!(" and {}", r.share.shape()));
            self.plan().fail("guide", format!("at least {rows} rows of prediction, and [{rows}]"), format!("{}{share}", self.shape()));
        }
        unconditional.need_index("guide", rows);
        let mut inputs = vec![self.operand(), unconditional.operand(), guidance.operand()];
        if let Some(Rescale { share, starts }) = rescale {
            starts.need_index("guide", starts.shape().elements());
            inputs.extend([share.operand(), starts.operand()]);
        }
        let op = Op::Guide { guided_channels, rescaled: rescale.is_some() };
        self.plan().record(op, inputs, crate::Shape::new(&[rows, self.channels()]), Elem::F32)
    }

    /// One step of a sampler, in place on a state of the plan that holds the sample and `history` earlier clean samples:
    /// a linear combination with coefficients by row, described at [`LinearStep`].
    ///
    /// | tensor       | shape                                            | access      |
    /// |--------------|--------------------------------------------------|-------------|
    /// | `self`       | `[(1 + history)·R, C]`                           | read, write |
    /// | `prediction` | `[Rv, C]`, Rv ≥ R; `[Rv, 2C]` with its variance  | read        |
    /// | `inputs`     | see [`LinearStepInputs`]                         | read        |
    #[track_caller]
    pub fn linear_step(self, prediction: Self, inputs: &LinearStepInputs<'p>, history: usize) -> Self {
        const NAME: &str = "linear_step";
        prediction.need_contiguous(NAME);
        let rows = self.rows() / (1 + history);
        if !self.is_state() || history > LinearStep::MAX_HISTORY || rows * (1 + history) != self.rows() {
            let expected = format!("a state of the plan of {} times as many rows as the sample", 1 + history);
            self.plan().fail(NAME, expected, self.shape().to_string());
        }
        let amplitude = inputs.noise.map(|(_, amplitude)| amplitude);
        let predicted = matches!(amplitude, Some(Amplitude::Exponential | Amplitude::Root));
        let channels = self.channels() * if predicted { 2 } else { 1 };
        if prediction.channels() != channels || prediction.rows() < rows || (predicted && !self.channels().is_multiple_of(4)) {
            let multiple = if predicted { ", the half of them a multiple of four" } else { "" };
            self.plan().fail(NAME, format!("{rows} rows of prediction of {channels} channels{multiple}"), prediction.shape().to_string());
        }
        inputs.level.need_index(NAME, rows);
        if inputs.table.channels() != LinearStep::COEFFICIENTS {
            self.plan().fail(NAME, format!("a table [T, {}]", LinearStep::COEFFICIENTS), inputs.table.shape().to_string());
        }
        let mut operands = vec![self.operand(), prediction.operand(), inputs.level.operand(), inputs.table.operand()];
        if let Some((noise, _)) = inputs.noise {
            if noise.rows() != rows || noise.channels() != self.channels() {
                self.plan().fail(NAME, format!("noise [{rows}, {}]", self.channels()), noise.shape().to_string());
            }
            operands.push(noise.operand());
        }
        let step = LinearStep { history, noise: amplitude, guided: None };
        self.plan().record(Op::LinearStep(step), operands, self.shape(), Elem::F32)
    }

    /// Pixels in −1..1 to 8-bit RGBA, packed little-endian in one `u32`: `[F, H, W, 3]` → `[F, H·W]`. Alpha is 255, but
    /// the whole pixel is 0 where a channel is not finite.
    #[track_caller]
    pub fn rgba(self) -> Self {
        self.need_contiguous("rgba");
        let dims = self.shape();
        let &[f, h, w, 3] = dims.dims() else {
            self.plan().fail("rgba", "[F, H, W, 3]", dims.to_string());
            return self;
        };
        self.plan().record(Op::Rgba, vec![self.operand()], crate::Shape::new(&[f, h * w]), Elem::U32)
    }
}

pub(super) fn lower_guide(guided_channels: usize, rescaled: bool, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let bindings = (0..cx.step.inputs.len()).map(|i| cx.input(i)).chain([cx.output()]).collect();
    let (channels4, guided) = (shape.channels4() as u32, guided_channels as u32);
    if rescaled {
        let (sequences, channels) = (cx.shape(4).elements() - 1, shape.channels() as u32);
        let params = guide_rescaled::Params { channels, channels4, guided, ..Default::default() };
        cx.dispatch(guide_rescaled::KERNEL, sequences, 15.0 * shape.elements() as f64, bindings, params);
    } else {
        let vectors = shape.rows() * shape.channels4();
        let params = guide::Params { vectors: vectors as u32, channels4, guided, ..Default::default() };
        cx.dispatch(guide::KERNEL, vectors.div_ceil(64), 3.0 * shape.elements() as f64, bindings, params);
    }
}

pub(super) fn lower_linear_step(step: &LinearStep, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let rows = shape.rows() / (1 + step.history);
    let vectors = rows * shape.channels4();
    let params = linear_step::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        prediction4: cx.stride4(1),
        guided: step.guided.unwrap_or(0) as u32,
        history: step.history as u32,
        noise: match step.noise {
            None => 0,
            Some(Amplitude::One) => 1,
            Some(Amplitude::Exponential) => 2,
            Some(Amplitude::Root) => 3,
        },
        ..Default::default()
    };
    // What is not read is bound to something that is.
    let noise = if step.noise.is_some() { 4 } else { 1 };
    let [unconditional, guidance] = if step.guided.is_some() { [4, 5].map(|i| i + usize::from(step.noise.is_some())) } else { [2, 3] };
    let bindings = [1, 2, 3, noise, unconditional, guidance, 0].map(|i| cx.input(i)).to_vec();
    let flops = (rows * shape.channels()) as f64 * (12.0 + 2.0 * step.history as f64);
    cx.dispatch(linear_step::KERNEL, vectors.div_ceil(64), flops, bindings, params);
}

pub(super) fn lower_rgba(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let total = shape.elements();
    let params =
        rgba::Params { total: total as u32, pixels: shape.channels() as u32, y_stride: shape.channels4() as u32 * 4, ..Default::default() };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(rgba::KERNEL, total.div_ceil(64), 16.0 * total as f64, bindings, params);
}

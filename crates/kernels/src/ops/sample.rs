//! Guidance and the Euler step of flow matching, and the conversion to pixels.

use crate::generated::{guidance_rescale, guided_euler_step, rgba};
use crate::lower::Lowering;
use crate::op::Op;
use crate::plan::Elem;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
    /// What the guided velocity g of each row is multiplied with so that its deviation nears that of the conditional one
    /// (arXiv 2305.08891 §3.4): `y[r] = 1 + rescale[r] · (std(c) / std(g) − 1)`, `g = u + guidance[r] · (c − u)`, the
    /// deviations over all rows and channels of the sequence of r. Channels from `guided_channels` on follow c alone.
    ///
    /// | tensor          | shape                                                               | access      |
    /// |-----------------|---------------------------------------------------------------------|-------------|
    /// | `self`          | `[Rv, C]`, Rv ≥ R, the velocity: conditional rows c first           | read        |
    /// | `unconditional` | `[R]`: row of the velocity that is u; the row itself for no guidance | read        |
    /// | `guidance`      | `[R]`                                                               | read        |
    /// | `rescale`       | `[R]`: 0 keeps g as it is, 1 gives it the deviation of c            | read        |
    /// | `starts`        | `[S + 1]`: first row of each sequence, then R                       | read        |
    /// | result          | `[R]`                                                               | write       |
    #[track_caller]
    pub fn guidance_rescale(self, unconditional: Self, guidance: Self, rescale: Self, starts: Self, guided_channels: usize) -> Self {
        self.need_contiguous("guidance_rescale");
        let rows = guidance.shape().elements();
        if self.rows() < rows || rescale.shape().elements() != rows {
            let found = format!("{} and {}", self.shape(), rescale.shape());
            self.plan().fail("guidance_rescale", format!("at least {rows} rows of velocity and rescale [{rows}]"), found);
        }
        unconditional.need_index("guidance_rescale", rows);
        starts.need_index("guidance_rescale", starts.shape().elements());
        let inputs = [self, unconditional, guidance, rescale, starts].map(Self::operand).to_vec();
        self.plan().record(Op::GuidanceRescale { guided_channels }, inputs, crate::Shape::new(&[rows]), Elem::F32)
    }

    /// One Euler step of flow matching with classifier-free guidance, in place on a plan state:
    /// `x[r] += dt[r] · (u + guidance[r] · (c − u))`. Channels from `guided_channels` on follow c alone.
    ///
    /// | tensor          | shape                                                               | access      |
    /// |-----------------|---------------------------------------------------------------------|-------------|
    /// | `self`          | `[R, C]`                                                            | read, write |
    /// | `velocity`      | `[Rv, C]`, Rv ≥ R: conditional rows c first                         | read        |
    /// | `unconditional` | `[R]`: row of the velocity that is u; the row itself for no guidance | read        |
    /// | `dt`            | `[R]`: next sigma minus sigma, 0 for rows that stay                 | read        |
    /// | `guidance`      | `[R]`                                                               | read        |
    #[track_caller]
    pub fn guided_euler_step(self, velocity: Self, unconditional: Self, dt: Self, guidance: Self, guided_channels: usize) -> Self {
        velocity.need_contiguous("guided_euler_step");
        if !self.is_state() {
            self.plan().fail("guided_euler_step", "a state of the plan", "another tensor");
        }
        if velocity.channels() != self.channels() || velocity.rows() < self.rows() {
            self.plan().fail(
                "guided_euler_step",
                format!("velocity with the channels and at least the rows of {}", self.shape()),
                velocity.shape().to_string(),
            );
        }
        let rows = self.rows();
        unconditional.need_index("guided_euler_step", rows);
        if [dt, guidance].iter().any(|t| t.shape().elements() != rows) {
            self.plan().fail("guided_euler_step", format!("dt and guidance [{rows}]"), format!("{} and {}", dt.shape(), guidance.shape()));
        }
        let inputs = vec![self.operand(), velocity.operand(), unconditional.operand(), dt.operand(), guidance.operand()];
        self.plan().record(Op::GuidedEulerStep { guided_channels }, inputs, self.shape(), Elem::F32)
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

pub(super) fn lower_guidance_rescale(guided_channels: usize, cx: &mut Lowering<'_>) {
    let (velocity, rows) = (cx.shape(0), cx.output_shape().elements());
    let params = guidance_rescale::Params {
        rows: rows as u32,
        channels: velocity.channels() as u32,
        channels4: velocity.channels4() as u32,
        guided: guided_channels as u32,
        ..Default::default()
    };
    let sequences = cx.shape(4).elements() - 1;
    let bindings = (0..5).map(|i| cx.input(i)).chain([cx.output()]).collect();
    cx.dispatch(guidance_rescale::KERNEL, sequences, 11.0 * rows as f64 * velocity.channels() as f64, bindings, params);
}

pub(super) fn lower_guided_euler_step(guided_channels: usize, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = guided_euler_step::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        guided: guided_channels as u32,
        ..Default::default()
    };
    let bindings = vec![cx.input(1), cx.input(2), cx.input(3), cx.input(4), cx.input(0)];
    cx.dispatch(guided_euler_step::KERNEL, vectors.div_ceil(64), 4.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_rgba(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let total = shape.elements();
    let params =
        rgba::Params { total: total as u32, pixels: shape.channels() as u32, y_stride: shape.channels4() as u32 * 4, ..Default::default() };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(rgba::KERNEL, total.div_ceil(64), 16.0 * total as f64, bindings, params);
}

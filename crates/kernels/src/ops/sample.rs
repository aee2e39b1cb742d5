//! The guided Euler step of flow matching, and the conversion to pixels.

use crate::generated::{guided_euler_step, rgba};
use crate::lower::Lowering;
use crate::op::Op;
use crate::plan::Elem;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
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
    cx.dispatch(guided_euler_step::KERNEL, vectors.div_ceil(64), 4.0 * shape.elements() as f64, bindings, |first, end| {
        guided_euler_step::Params { first, end, ..params }
    });
}

pub(super) fn lower_rgba(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let total = shape.elements();
    let params =
        rgba::Params { total: total as u32, pixels: shape.channels() as u32, y_stride: shape.channels4() as u32 * 4, ..Default::default() };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(rgba::KERNEL, total.div_ceil(64), 16.0 * total as f64, bindings, |first, end| rgba::Params { first, end, ..params });
}

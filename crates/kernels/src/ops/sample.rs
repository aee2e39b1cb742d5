//! The guided Euler step of flow matching, and the conversion to pixels.

use crate::op::Op;
use crate::plan::Elem;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
    /// One Euler step of flow matching with classifier-free guidance, in place on a plan state:
    /// `x[r] += dt[r] · (u + guidance · (c − u))`.
    ///
    /// | tensor     | shape                                                              | access     |
    /// |------------|--------------------------------------------------------------------|------------|
    /// | `self`     | `[R, C]`                                                           | read, write |
    /// | `velocity` | `[2·R, C]`: conditional rows c, then unconditional rows u; or `[R, C]` | read   |
    /// | `dt`       | `[R]`: next sigma minus sigma, 0 for given tokens                  | read       |
    /// | `guidance` | `[1]`                                                              | read       |
    #[track_caller]
    pub fn guided_euler_step(self, velocity: Self, dt: Self, guidance: Self) -> Self {
        velocity.need_contiguous("guided_euler_step");
        if !self.is_state() {
            self.plan().fail("guided_euler_step", "a state of the plan", "another tensor");
        }
        let branches = velocity.rows() / self.rows().max(1);
        if velocity.channels() != self.channels() || branches * self.rows() != velocity.rows() || !(1..=2).contains(&branches) {
            self.plan().fail(
                "guided_euler_step",
                format!("velocity with once or twice the rows of {}", self.shape()),
                velocity.shape().to_string(),
            );
        }
        if dt.shape().elements() != self.rows() || guidance.shape().elements() != 1 {
            self.plan().fail(
                "guided_euler_step",
                format!("dt [{}] and guidance [1]", self.rows()),
                format!("{} and {}", dt.shape(), guidance.shape()),
            );
        }
        let inputs = vec![self.operand(), velocity.operand(), dt.operand(), guidance.operand()];
        self.plan().record(Op::GuidedEulerStep, inputs, self.shape(), Elem::F32)
    }

    /// Pixels in −1..1 to 8-bit RGBA, opaque, packed little-endian in one `u32`: `[F, H, W, 3]` → `[F, H·W]`.
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

//! Pointwise operators, concatenation, gathering and group means.

use std::ops::{Add, Mul};

use crate::op::{Activation, BinaryOp, Broadcast, Op};
use crate::plan::Elem;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
    /// `x / (1 + exp(−x))`.
    #[track_caller]
    pub fn silu(self) -> Self {
        self.unary(Activation::Silu, 1.0, 0.0)
    }

    /// `max(x, 0)`.
    #[track_caller]
    pub fn relu(self) -> Self {
        self.unary(Activation::Relu, 1.0, 0.0)
    }

    /// GELU, tanh form.
    #[track_caller]
    pub fn gelu_tanh(self) -> Self {
        self.unary(Activation::GeluTanh, 1.0, 0.0)
    }

    /// GELU, error-function form.
    #[track_caller]
    pub fn gelu_erf(self) -> Self {
        self.unary(Activation::GeluErf, 1.0, 0.0)
    }

    /// `scale · x + offset`.
    #[track_caller]
    pub fn affine(self, scale: f32, offset: f32) -> Self {
        self.unary(Activation::None, scale, offset)
    }

    #[track_caller]
    fn unary(self, activation: Activation, scale: f32, offset: f32) -> Self {
        self.need_contiguous("unary");
        self.plan().record(Op::Unary { activation, scale, offset }, vec![self.operand()], self.shape(), Elem::F32)
    }

    /// Pointwise with the rows of `other` repeated: row `r` of `self` meets row `(r / divide) mod rows(other)`.
    #[track_caller]
    fn binary(self, op: BinaryOp, other: Self, divide: usize) -> Self {
        self.need_contiguous("elementwise");
        other.need_contiguous("elementwise");
        if other.channels() != self.channels() || self.rows() % (divide * other.rows()).max(1) != 0 {
            self.plan().fail("elementwise", format!("an operand whose rows divide those of {}", self.shape()), other.shape().to_string());
        }
        self.plan().record(Op::Binary(op, Broadcast { divide }), vec![self.operand(), other.operand()], self.shape(), Elem::F32)
    }

    /// `self + other`, each row of `other` `[B, C]` added to the `rows / B` consecutive rows of its batch entry.
    #[track_caller]
    pub fn add_per_batch(self, other: Self) -> Self {
        self.binary(BinaryOp::Add, other, self.rows() / other.rows().max(1))
    }

    /// The channels of `self`, then those of `other`.
    ///
    /// | tensor  | shape          | access |
    /// |---------|----------------|--------|
    /// | `self`  | `[.., C]`      | read   |
    /// | `other` | `[.., C']`     | read   |
    /// | result  | `[.., C + C']` | write  |
    #[track_caller]
    pub fn concat(self, other: Self) -> Self {
        self.need_contiguous("concat");
        other.need_contiguous("concat");
        if self.rows() != other.rows() {
            self.plan().fail("concat", format!("{} rows", self.rows()), other.shape().to_string());
        }
        let shape = self.shape().with_channels(self.channels() + other.channels());
        self.plan().record(Op::Concat, vec![self.operand(), other.operand()], shape, Elem::F32)
    }

    /// `y[r] = self[index[r]]`.
    ///
    /// | tensor  | shape    | access |
    /// |---------|----------|--------|
    /// | `self`  | `[T, C]` | read   |
    /// | `index` | `[R]`    | read   |
    /// | result  | `[R, C]` | write  |
    #[track_caller]
    pub fn gather_rows(self, index: Self) -> Self {
        self.need_contiguous("gather_rows");
        let rows = index.shape().elements();
        index.need_index("gather_rows", rows);
        let shape = crate::Shape::new(&[rows, self.channels()]);
        self.plan().record(Op::GatherRows, vec![self.operand(), index.operand()], shape, Elem::F32)
    }

    /// Mean of each `group` neighbouring channels: `[.., C]` → `[.., C / group]`.
    #[track_caller]
    pub fn group_mean(self, group: usize) -> Self {
        self.need_contiguous("group_mean");
        if group == 0 || self.channels() % group != 0 {
            self.plan().fail("group_mean", format!("a divisor of {} channels", self.channels()), group.to_string());
            return self;
        }
        let shape = self.shape().with_channels(self.channels() / group);
        self.plan().record(Op::GroupMean { group }, vec![self.operand()], shape, Elem::F32)
    }
}

impl Add for Tensor<'_> {
    type Output = Self;

    /// Sum; rows of `other` repeat when it has fewer.
    #[track_caller]
    fn add(self, other: Self) -> Self {
        self.binary(BinaryOp::Add, other, 1)
    }
}

impl Mul for Tensor<'_> {
    type Output = Self;

    /// Product; rows of `other` repeat when it has fewer.
    #[track_caller]
    fn mul(self, other: Self) -> Self {
        self.binary(BinaryOp::Mul, other, 1)
    }
}

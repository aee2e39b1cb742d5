//! Pointwise operators, concatenation, gathering and group means.

use crate::generated::{binary, concat, concat_rows, gather_indices, gather_rows, group_mean, unary};
use crate::lower::Lowering;
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

    /// `tanh(x)`.
    pub fn tanh(self) -> Self {
        self.unary(Activation::Tanh, 1.0, 0.0)
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
        if other.channels() != self.channels() || !self.rows().is_multiple_of((divide * other.rows()).max(1)) {
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

    /// The frames of `self`, then those of `other`, of each batch entry.
    ///
    /// | tensor  | shape                  | access |
    /// |---------|------------------------|--------|
    /// | `self`  | `[B, F, H, W, C]`      | read   |
    /// | `other` | `[B, F', H, W, C]`     | read   |
    /// | result  | `[B, F + F', H, W, C]` | write  |
    #[track_caller]
    pub fn concat_frames(self, other: Self) -> Self {
        self.need_contiguous("concat_rows");
        other.need_contiguous("concat_rows");
        let shapes = [self.shape(), other.shape()];
        let [&[batch, f, h, w, c], &[_, more, ..]] = shapes.each_ref().map(crate::Shape::dims) else {
            self.plan().fail("concat_rows", "[B, F, H, W, C] twice", format!("{} and {}", shapes[0], shapes[1]));
            return self;
        };
        if *shapes[1].dims() != [batch, more, h, w, c] {
            self.plan().fail("concat_rows", format!("frames [{batch}, F, {h}, {w}, {c}]"), shapes[1].to_string());
            return self;
        }
        let shape = crate::Shape::new(&[batch, f + more, h, w, c]);
        self.plan().record(Op::ConcatRows { batch }, vec![self.operand(), other.operand()], shape, Elem::F32)
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

    /// `y[r] = self[index[r]] + offset[r]` of row indices: how rows that were joined or repeated find theirs.
    ///
    /// | tensor   | shape | access |
    /// |----------|-------|--------|
    /// | `self`   | `[T]` | read   |
    /// | `index`  | `[R]` | read   |
    /// | `offset` | `[R]` | read   |
    /// | result   | `[R]` | write  |
    #[track_caller]
    pub fn gather_indices(self, index: Self, offset: Self) -> Self {
        let rows = index.shape().elements();
        self.need_index("gather_indices", self.shape().elements());
        index.need_index("gather_indices", rows);
        offset.need_index("gather_indices", rows);
        let inputs = vec![self.operand(), index.operand(), offset.operand()];
        self.plan().record(Op::GatherIndices, inputs, crate::Shape::new(&[rows]), Elem::U32)
    }

    /// Mean of each `group` neighbouring channels: `[.., C]` → `[.., C / group]`.
    #[track_caller]
    pub fn group_mean(self, group: usize) -> Self {
        self.need_contiguous("group_mean");
        if group == 0 || !self.channels().is_multiple_of(group) {
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

pub(super) fn lower_unary(activation: Activation, scale: f32, offset: f32, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = unary::Params { vectors: vectors as u32, scale, offset, ..Default::default() };
    let bindings = vec![cx.input(0), cx.output()];
    let activation = match activation {
        Activation::None => unary::Activation::None,
        Activation::GeluTanh => unary::Activation::GeluTanh,
        Activation::GeluErf => unary::Activation::GeluErf,
        Activation::Silu => unary::Activation::Silu,
        Activation::Relu => unary::Activation::Relu,
        Activation::Tanh => unary::Activation::Tanh,
    };
    let kernel = unary::Variant { activation }.kernel();
    cx.dispatch(kernel, vectors.div_ceil(64), 8.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_binary(op: BinaryOp, broadcast: Broadcast, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = binary::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        divide: broadcast.divide as u32,
        b_rows: cx.shape(1).rows() as u32,
        multiply: u32::from(op == BinaryOp::Mul),
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.input(1), cx.output()];
    cx.dispatch(binary::KERNEL, vectors.div_ceil(64), 2.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_concat(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let scalars = shape.rows() * shape.channels4() * 4;
    let params = concat::Params {
        scalars: scalars as u32,
        a_channels: cx.shape(0).channels() as u32,
        b_channels: cx.shape(1).channels() as u32,
        a_stride: cx.stride4(0) * 4,
        b_stride: cx.stride4(1) * 4,
        y_stride: shape.channels4() as u32 * 4,
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.input(1), cx.output()];
    cx.dispatch(concat::KERNEL, scalars.div_ceil(64), 4.0 * scalars as f64, bindings, params);
}

pub(super) fn lower_concat_rows(batch: usize, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let per_entry = |i: usize| (cx.shape(i).rows() / batch * shape.channels4()) as u32;
    let params = concat_rows::Params { vectors: vectors as u32, a_vectors: per_entry(0), b_vectors: per_entry(1), ..Default::default() };
    let bindings = vec![cx.input(0), cx.input(1), cx.output()];
    cx.dispatch(concat_rows::KERNEL, vectors.div_ceil(64), 2.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_gather_rows(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = gather_rows::Params { vectors: vectors as u32, channels4: shape.channels4() as u32, ..Default::default() };
    let bindings = vec![cx.input(0), cx.input(1), cx.output()];
    cx.dispatch(gather_rows::KERNEL, vectors.div_ceil(64), 2.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_gather_indices(cx: &mut Lowering<'_>) {
    let rows = cx.output_shape().elements();
    let params = gather_indices::Params { rows: rows as u32, ..Default::default() };
    let bindings = vec![cx.input(0), cx.input(1), cx.input(2), cx.output()];
    cx.dispatch(gather_indices::KERNEL, rows.div_ceil(64), rows as f64, bindings, params);
}

pub(super) fn lower_group_mean(group: usize, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let scalars = shape.rows() * shape.channels4() * 4;
    let params = group_mean::Params {
        scalars: scalars as u32,
        channels: shape.channels() as u32,
        group: group as u32,
        x_stride: cx.stride4(0) * 4,
        y_stride: shape.channels4() as u32 * 4,
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(group_mean::KERNEL, scalars.div_ceil(64), scalars as f64 * group as f64, bindings, params);
}

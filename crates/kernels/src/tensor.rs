//! [`Tensor`]: a copyable handle into a plan being recorded. The operators are in `ops/`, one file each.

use crate::plan::{Elem, Operand, Plan};
use crate::shape::Shape;

/// A tensor of a [`Plan`]. Operators record a step and return the handle of its result; a shape error is kept by the
/// plan and returned by [`Plan::finish`].
#[derive(Clone, Copy)]
pub struct Tensor<'p> {
    plan: &'p Plan,
    operand: Operand,
}

impl<'p> Tensor<'p> {
    pub(crate) fn new(plan: &'p Plan, operand: Operand) -> Self {
        Self { plan, operand }
    }

    /// The plan it belongs to.
    pub fn plan(self) -> &'p Plan {
        self.plan
    }

    /// Logical extents.
    pub fn shape(self) -> Shape {
        self.operand.shape
    }

    /// The last extent, C.
    pub fn channels(self) -> usize {
        self.shape().channels()
    }

    /// The product of the other extents, R.
    pub fn rows(self) -> usize {
        self.shape().rows()
    }

    pub(crate) fn operand(self) -> Operand {
        self.operand
    }

    pub(crate) fn is_state(self) -> bool {
        self.plan.is_state(self.operand.value)
    }

    pub(crate) fn elem(self) -> Elem {
        self.plan.value_elem(self.operand.value)
    }

    /// Whether the rows are stored one after another.
    pub(crate) fn is_contiguous(self) -> bool {
        self.operand.column == 0 && self.channels() == self.plan.value_shape(self.operand.value).channels()
    }

    /// Other leading extents over the same rows: `[.., C]` → `[dims.., C]`.
    #[track_caller]
    pub fn reshape(self, dims: &[usize]) -> Self {
        let shape = Shape::new(dims);
        if shape.channels() != self.channels() || shape.rows() != self.rows() {
            self.plan.fail("reshape", format!("{} rows of {} channels", self.rows(), self.channels()), shape.to_string());
        }
        Self::new(self.plan, Operand { shape, ..self.operand })
    }

    /// The first `rows` rows without a copy: `[.., C]` → `[rows, C]`.
    #[track_caller]
    pub fn first_rows(self, rows: usize) -> Self {
        if rows > self.rows() {
            self.plan.fail("first_rows", format!("at most {} rows", self.rows()), rows.to_string());
        }
        Self::new(self.plan, Operand { shape: Shape::new(&[rows, self.channels()]), ..self.operand })
    }

    /// Columns `start..start + len`: a view if both are multiples of four, but for a `len` that ends the row, else a copy.
    #[track_caller]
    pub fn columns(self, start: usize, len: usize) -> Self {
        let whole = self.plan.value_shape(self.operand.value).channels();
        let column = self.operand.column + start;
        if start + len > self.channels() {
            self.plan.fail("columns", format!("a range of 0..{}", self.channels()), format!("{start}..{}", start + len));
            return self;
        }
        if !column.is_multiple_of(4) || (!len.is_multiple_of(4) && column + len != whole) {
            return self.copy_columns(start, len);
        }
        Self::new(self.plan, Operand { shape: self.shape().with_channels(len), column, ..self.operand })
    }

    /// Splits the columns into `N` equal parts, as [`columns`](Self::columns).
    #[track_caller]
    pub fn split<const N: usize>(self) -> [Self; N] {
        let len = self.channels() / N;
        if !self.channels().is_multiple_of(N) {
            self.plan.fail("split", format!("channels divisible by {N}"), self.channels().to_string());
        }
        std::array::from_fn(|i| self.columns(i * len, len))
    }
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}{}", self.operand.value, self.shape())
    }
}

//! Adaptive layer-norm modulation with a timestep per token: a table over the distinct timesteps and one row index per token.

use crate::op::{ModulationColumns, Op};
use crate::plan::Elem;
use crate::tensor::Tensor;

impl<'p> Tensor<'p> {
    /// `y[r] = x[r] · (1 + table[index[r], scale..]) + table[index[r], shift..]`.
    ///
    /// | tensor  | shape                   | access |
    /// |---------|-------------------------|--------|
    /// | `self`  | `[.., C]`, R rows       | read   |
    /// | `table` | `[T, P·C]`, P parts     | read   |
    /// | `index` | `[R]`                   | read   |
    /// | result  | `[.., C]`               | write  |
    #[track_caller]
    pub fn modulate(self, table: Self, index: Self, columns: ModulationColumns) -> Self {
        self.need_contiguous("modulate");
        self.need_part("modulate", table, index, columns.shift);
        self.need_part("modulate", table, index, columns.scale);
        self.plan().record(Op::Modulate(columns), vec![self.operand(), table.operand(), index.operand()], self.shape(), Elem::F32)
    }

    /// `y[r] = residual[r] + table[index[r], gate..] · x[r]`; shapes as in [`modulate`](Self::modulate).
    #[track_caller]
    pub fn gated_add(self, residual: Self, table: Self, index: Self, gate: usize) -> Self {
        self.need_contiguous("gated_add");
        residual.need_contiguous("gated_add");
        residual.need_same_shape("gated_add", self);
        self.need_part("gated_add", table, index, gate);
        let inputs = vec![self.operand(), residual.operand(), table.operand(), index.operand()];
        self.plan().record(Op::GatedAdd { gate }, inputs, self.shape(), Elem::F32)
    }

    #[track_caller]
    fn need_part(self, op: &'static str, table: Self, index: Self, column: usize) {
        table.need_contiguous(op);
        index.need_index(op, self.rows());
        if column % 4 != 0 || column + self.channels() > table.channels() {
            self.plan().fail(
                op,
                format!("a table with columns {column}..{}, in units of four", column + self.channels()),
                table.shape().to_string(),
            );
        }
    }
}

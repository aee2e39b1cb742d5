//! Adaptive layer-norm modulation with a timestep per token: a table over the distinct timesteps and one row index per token.

use crate::generated::{gated_add, modulate};
use crate::lower::Lowering;
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
        if !column.is_multiple_of(4) || column + self.channels() > table.channels() {
            self.plan().fail(
                op,
                format!("a table with columns {column}..{}, in units of four", column + self.channels()),
                table.shape().to_string(),
            );
        }
    }
}

pub(super) fn lower_modulate(columns: ModulationColumns, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = modulate::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        shift4: (columns.shift / 4) as u32,
        scale4: (columns.scale / 4) as u32,
        table_stride4: cx.stride4(1),
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.input(1), cx.input(2), cx.output()];
    cx.dispatch(modulate::KERNEL, vectors.div_ceil(64), 3.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_gated_add(gate: usize, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = gated_add::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        gate4: (gate / 4) as u32,
        table_stride4: cx.stride4(2),
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.input(1), cx.input(2), cx.input(3), cx.output()];
    cx.dispatch(gated_add::KERNEL, vectors.div_ceil(64), 3.0 * shape.elements() as f64, bindings, params);
}

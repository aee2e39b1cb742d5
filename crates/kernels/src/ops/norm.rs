//! RMS and layer norms of rows, and the rotary embedding.

use crate::generated::row_norm::Finish;
use crate::generated::{rope, row_norm};
use crate::lower::Lowering;
use crate::op::{Norm, NormKind, Op};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::tensor::Tensor;
use crate::weight::Weight;

impl<'p> Tensor<'p> {
    /// Root-mean-square norm over the channels: `y = x · rsqrt(mean(x²) + eps) · gain`.
    ///
    /// | tensor | shape     | access |
    /// |--------|-----------|--------|
    /// | `self` | `[.., C]` | read   |
    /// | `gain` | `[C]`     | read   |
    /// | result | `[.., C]` | write  |
    #[track_caller]
    pub fn rms_norm(self, gain: Option<&Weight>, eps: f32) -> Self {
        self.grouped_rms_norm(1, gain, eps)
    }

    /// [`rms_norm`](Self::rms_norm) of `groups` equal parts of the channels, each by itself, with one gain `[C]`:
    /// stacked queries and keys in one pass.
    #[track_caller]
    pub fn grouped_rms_norm(self, groups: usize, gain: Option<&Weight>, eps: f32) -> Self {
        self.norm(NormKind::Rms, groups, gain, None, eps)
    }

    /// Layer norm over the channels: `y = (x − mean) · rsqrt(var + eps) · gain + bias`.
    ///
    /// | tensor         | shape     | access |
    /// |----------------|-----------|--------|
    /// | `self`         | `[.., C]` | read   |
    /// | `gain`, `bias` | `[C]`     | read   |
    /// | result         | `[.., C]` | write  |
    #[track_caller]
    pub fn layer_norm(self, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        self.grouped_layer_norm(1, gain, bias, eps)
    }

    /// [`layer_norm`](Self::layer_norm) of `groups` equal parts of the channels, each by itself, with one gain and bias `[C]`.
    #[track_caller]
    pub fn grouped_layer_norm(self, groups: usize, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        self.norm(NormKind::Layer, groups, gain, bias, eps)
    }

    #[track_caller]
    fn norm(self, kind: NormKind, groups: usize, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        let c = self.channels();
        if groups == 0 || !c.is_multiple_of(groups) || (groups > 1 && !(c / groups).is_multiple_of(4)) {
            self.plan().fail("norm", "groups of a multiple of four channels", format!("{c} channels in {groups} groups"));
        }
        for weight in [gain, bias].into_iter().flatten() {
            if weight.shape().elements() != c {
                self.plan().fail("norm", format!("`{}` [{c}]", weight.name()), weight.shape().to_string());
            }
        }
        let op = Norm { kind, groups, eps, gain: gain.cloned(), bias: bias.cloned(), modulation: None, rope: false, silu: false };
        self.plan().record(Op::Norm(op), vec![self.operand()], self.shape(), Elem::F32)
    }

    /// Rotary embedding of neighbouring pairs (x₀, x₁) → (x₀·cos − x₁·sin, x₁·cos + x₀·sin).
    ///
    /// | tensor  | shape                                             | access |
    /// |---------|---------------------------------------------------|--------|
    /// | `self`  | `[.., C]`                                         | read   |
    /// | `table` | `[L, Cr]`, pairs (cos, sin); row `r mod L`, column `c mod Cr` | read |
    /// | result  | `[.., C]`                                         | write  |
    #[track_caller]
    pub fn rope(self, table: Self) -> Self {
        table.need_contiguous("rope");
        let cr = table.channels();
        if !cr.is_multiple_of(4) || !self.channels().is_multiple_of(cr) || table.rows() == 0 || !self.rows().is_multiple_of(table.rows()) {
            self.plan().fail(
                "rope",
                format!("a table [L, Cr] that divides {}, Cr a multiple of four", self.shape()),
                table.shape().to_string(),
            );
        }
        self.plan().record(Op::Rope, vec![self.operand(), table.operand()], self.shape(), Elem::F32)
    }
}

/// Lanes of a workgroup of `row_norm`.
const WORKGROUP: usize = 64;

pub(super) fn lower_norm(op: &Norm, cx: &mut Lowering<'_>) {
    let (shape, c) = (cx.output_shape(), cx.output_shape().channels());
    let (channels, tasks) = (c / op.groups, shape.rows() * op.groups);
    let (family, lanes_per_row) = match cx.preset {
        Preset::Soft | Preset::Quads | Preset::Lanes => (row_norm::Family::Soft, 1),
        Preset::Gpu => (row_norm::Family::Gpu, row_norm::GPU_LANES_PER_ROW as usize),
    };
    let gain = Lowering::vector(op.gain.as_ref(), 1.0, c);
    let (finish, extra) = match (op.modulation, op.rope, &op.gain, &op.bias) {
        (Some(_), ..) => (Finish::Modulated, vec![cx.input(1), cx.input(2)]),
        (None, true, ..) => (Finish::Rotated, vec![gain, cx.input(1)]),
        (None, false, None, None) => (Finish::Plain, vec![]),
        _ => (Finish::Affine, vec![gain, Lowering::vector(op.bias.as_ref(), 0.0, c)]),
    };
    let bindings = [cx.input(0)].into_iter().chain(extra).chain([cx.output()]).collect();
    let columns = op.modulation.unwrap_or(crate::op::ModulationColumns { shift: 0, scale: 0 });
    let params = row_norm::Params {
        tasks: tasks as u32,
        groups: op.groups as u32,
        channels: channels as u32,
        channels4: channels.div_ceil(4) as u32,
        x_row_stride4: cx.stride4(0),
        x_base4: cx.base4(0),
        subtract_mean: u32::from(op.kind == NormKind::Layer),
        eps: op.eps,
        shift4: (columns.shift / 4) as u32,
        scale4: (columns.scale / 4) as u32,
        table_stride4: if op.modulation.is_some() { cx.stride4(1) } else { 0 },
        angle_rows: if op.rope { cx.shape(1).rows() as u32 } else { 1 },
        ..Default::default()
    };
    let activation = if op.silu { row_norm::Activation::Silu } else { row_norm::Activation::None };
    let items = tasks.div_ceil(WORKGROUP / lanes_per_row);
    let kernel = row_norm::Variant { finish, activation, family }.kernel();
    cx.dispatch(kernel, items, 8.0 * shape.elements() as f64, bindings, params);
}

pub(super) fn lower_rope(cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let vectors = shape.rows() * shape.channels4();
    let params = rope::Params {
        vectors: vectors as u32,
        channels4: shape.channels4() as u32,
        x_row_stride4: cx.stride4(0),
        x_base4: cx.base4(0),
        angle_rows: cx.shape(1).rows() as u32,
        angle_channels4: cx.stride4(1),
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.input(1), cx.output()];
    cx.dispatch(rope::KERNEL, vectors.div_ceil(64), 6.0 * shape.elements() as f64, bindings, params);
}

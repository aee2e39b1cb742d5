//! Group norms: over groups of channels and all positions of a batch entry, in three operations.

use crate::generated::group_norm::Finish;
use crate::generated::{group_norm, group_scale, moments};
use crate::lower::Lowering;
use crate::op::{GroupNorm, GroupScale, ModulationColumns, Moments, Op};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::weight::Weight;

/// Rows of the shortest slice, where there are as many.
const LEAST_SLICE: usize = 32;

/// Slices of a batch entry at most: enough lanes for a GPU, few enough moments to put together.
const MOST_SLICES: usize = 1024;

impl<'p> Tensor<'p> {
    /// `y = (x − mean) · rsqrt(var + eps) · gain + bias`, mean and variance of each of `groups` equal parts of the channels over
    /// all rows of each of `batch` equal parts of the rows: a clip, or each of its frames.
    ///
    /// | tensor         | shape     | access |
    /// |----------------|-----------|--------|
    /// | `self`         | `[.., C]` | read   |
    /// | `gain`, `bias` | `[C]`     | read   |
    /// | result         | `[.., C]` | write  |
    #[track_caller]
    pub fn group_norm(self, batch: usize, groups: usize, gain: Option<&Weight>, bias: Option<&Weight>, eps: f32) -> Self {
        self.need_contiguous("group_norm");
        let (c, plan) = (self.channels(), self.plan());
        if groups == 0 || batch == 0 || !c.is_multiple_of(groups) || !self.rows().is_multiple_of(batch) {
            let found = format!("{batch} parts of the rows and {groups} of the channels");
            plan.fail("group_norm", format!("divisors of the rows and channels of {}", self.shape()), found);
            return self;
        }
        for weight in [gain, bias].into_iter().flatten() {
            if weight.shape().elements() != c {
                plan.fail("group_norm", format!("`{}` [{c}]", weight.name()), weight.shape().to_string());
            }
        }
        let (rows, columns) = (self.rows() / batch, 2 * 4 * self.shape().channels4());
        let slice = rows.div_ceil(MOST_SLICES).max(LEAST_SLICE);
        let parts = Shape::new(&[batch * rows.div_ceil(slice), columns]);
        let moments = plan.record(Op::Moments(Moments { batch, slice }), vec![self.operand()], parts, Elem::F32);
        let scale = GroupScale { rows, slice, channels: c, groups, eps, gain: gain.cloned() };
        let scales = plan.record(Op::GroupScale(scale), vec![moments.operand()], Shape::new(&[batch, columns]), Elem::F32);
        let norm = GroupNorm { bias: bias.cloned(), modulation: None, silu: false };
        plan.record(Op::GroupNorm(norm), vec![self.operand(), scales.operand()], self.shape(), Elem::F32)
    }
}

pub(super) fn lower_moments(op: Moments, cx: &mut Lowering<'_>) {
    let (x, parts) = (cx.shape(0), cx.output_shape().rows());
    let tasks = parts * x.channels4();
    let params = moments::Params {
        tasks: tasks as u32,
        slices: (parts / op.batch) as u32,
        slice: op.slice as u32,
        rows: (x.rows() / op.batch) as u32,
        channels4: x.channels4() as u32,
        ..Default::default()
    };
    let bindings = vec![cx.input(0), cx.output()];
    cx.dispatch(moments::KERNEL, tasks.div_ceil(64), 4.0 * x.elements() as f64, bindings, params);
}

pub(super) fn lower_group_scale(op: &GroupScale, cx: &mut Lowering<'_>) {
    let (x, batch) = (cx.shape(0), cx.output_shape().rows());
    let (tasks, size) = (batch * op.groups, op.channels / op.groups);
    let params = group_scale::Params {
        tasks: tasks as u32,
        slices: (x.rows() / batch) as u32,
        slice: op.slice as u32,
        rows: op.rows as u32,
        groups: op.groups as u32,
        size: size as u32,
        stored: (x.channels() / 2) as u32,
        eps: op.eps,
        ..Default::default()
    };
    let (family, lanes) = match cx.preset {
        Preset::Soft | Preset::Quads | Preset::Lanes => (group_scale::Family::Soft, 1),
        Preset::Gpu => (group_scale::Family::Gpu, group_scale::GPU_LANES_PER_ROW as usize),
    };
    let bindings = vec![cx.input(0), Lowering::vector(op.gain.as_ref(), 1.0, op.channels), cx.output()];
    let kernel = group_scale::Variant { family }.kernel();
    cx.dispatch(kernel, tasks.div_ceil(64 / lanes), 8.0 * x.elements() as f64, bindings, params);
}

pub(super) fn lower_group_norm(op: &GroupNorm, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    let (vectors, batch) = (shape.rows() * shape.channels4(), cx.shape(1).rows());
    let (finish, extra) = match op.modulation {
        Some(_) => (Finish::Modulated, vec![cx.input(2), cx.input(3)]),
        None => (Finish::Affine, vec![]),
    };
    let columns = op.modulation.unwrap_or(ModulationColumns { shift: 0, scale: 0 });
    let params = group_norm::Params {
        vectors: vectors as u32,
        channels: shape.channels() as u32,
        channels4: shape.channels4() as u32,
        rows: (shape.rows() / batch) as u32,
        shift4: (columns.shift / 4) as u32,
        scale4: (columns.scale / 4) as u32,
        table_stride4: if op.modulation.is_some() { cx.stride4(2) } else { 0 },
        ..Default::default()
    };
    let activation = if op.silu { group_norm::Activation::Silu } else { group_norm::Activation::None };
    let bias = Lowering::vector(op.bias.as_ref(), 0.0, shape.channels());
    let bindings = [cx.input(0), cx.input(1), bias].into_iter().chain(extra).chain([cx.output()]).collect();
    let kernel = group_norm::Variant { finish, activation }.kernel();
    cx.dispatch(kernel, vectors.div_ceil(64), 8.0 * shape.elements() as f64, bindings, params);
}

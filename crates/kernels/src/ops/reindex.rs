//! Operators that only move values: patches, pixel shuffles, repeats, slices. All are one strided copy.

use crate::generated::{reindex, zero_padding};
use crate::lower::Lowering;
use crate::op::{Axis, Op, Reindex};
use crate::plan::Elem;
use crate::preset::Preset;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The order of a patch's positions and of the original channel c inside the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchOrder {
    /// (c, time, height, width): token packing and pixel shuffles of LTX-Video.
    TimeHeightWidth,
    /// (c, time, width, height): patchify of the autoencoders of LTX-Video and Wan.
    TimeWidthHeight,
    /// (time, height, width, c): temporal upsampling of Wan's autoencoder, the only order with the channel innermost.
    ChannelInnermost,
}

/// Stored strides of the axes of a contiguous tensor; the last is 1.
fn strides(shape: Shape) -> Vec<usize> {
    let dims = shape.dims();
    let mut out = vec![1; dims.len()];
    let mut step = shape.channels4() * 4;
    for axis in (0..dims.len() - 1).rev() {
        out[axis] = step;
        step *= dims[axis];
    }
    out
}

/// Drops axes of one iteration and joins neighbours that are one run on both sides.
fn simplify(axes: &[Axis]) -> Vec<Axis> {
    let mut out: Vec<Axis> = Vec::new();
    for &axis in axes.iter().filter(|a| a.extent != 1) {
        match out.last_mut() {
            Some(outer)
                if outer.input_stride == axis.input_stride * axis.extent && outer.output_stride == axis.output_stride * axis.extent =>
            {
                *outer = Axis { extent: outer.extent * axis.extent, ..axis };
            }
            _ => out.push(axis),
        }
    }
    if out.is_empty() {
        out.push(Axis { extent: 1, input_stride: 1, output_stride: 1 });
    }
    out
}

impl<'p> Tensor<'p> {
    #[track_caller]
    fn reindex(self, what: &'static str, shape: Shape, axes: &[Axis]) -> Self {
        self.reindex_from(what, 0, shape, axes, shape.channels())
    }

    /// [`reindex`](Self::reindex) from a stored scalar on, which writes `written` scalars of each group (see [`Reindex::written`]).
    #[track_caller]
    fn reindex_from(self, what: &'static str, start: usize, shape: Shape, axes: &[Axis], written: usize) -> Self {
        let axes = simplify(axes);
        if axes.len() > 8 {
            self.plan().fail(what, "at most eight loops", format!("{}", axes.len()));
        }
        let op = Reindex { what, axes, input_base: self.operand().column + start, written };
        self.plan().record(Op::Reindex(op), vec![self.operand()], shape, Elem::F32)
    }

    /// Scalars from one stored row to the next.
    fn row_stride(self) -> usize {
        self.plan().value_shape(self.operand().value).channels4() * 4
    }

    /// A copy of the columns `start..start + len`, wherever they begin.
    #[track_caller]
    pub(crate) fn copy_columns(self, start: usize, len: usize) -> Self {
        let out = self.shape().with_channels(len);
        let rows = Axis { extent: self.rows(), input_stride: self.row_stride(), output_stride: out.channels4() * 4 };
        self.reindex_from("columns", start, out, &[rows, Axis { extent: len, input_stride: 1, output_stride: 1 }], len)
    }

    /// Each of `heads` equal parts of the channels padded with zeros to a multiple of four:
    /// `[.., N·d]` → `[.., N·4·ceil(d / 4)]`. The inverse of [`unpad_heads`](Self::unpad_heads).
    #[track_caller]
    pub(crate) fn pad_heads(self, heads: usize) -> Self {
        let d = self.channels() / heads;
        let out = self.shape().with_channels(heads * d.next_multiple_of(4));
        let rows = Axis { extent: self.rows(), input_stride: self.row_stride(), output_stride: out.channels() };
        let parts = Axis { extent: heads, input_stride: d, output_stride: d.next_multiple_of(4) };
        self.reindex_from("pad_heads", 0, out, &[rows, parts, Axis { extent: d, input_stride: 1, output_stride: 1 }], d)
    }

    /// The first `d` channels of each of `heads` equal parts.
    #[track_caller]
    pub(crate) fn unpad_heads(self, heads: usize, d: usize) -> Self {
        let out = self.shape().with_channels(heads * d);
        let rows = Axis { extent: self.rows(), input_stride: self.row_stride(), output_stride: out.channels4() * 4 };
        let parts = Axis { extent: heads, input_stride: self.channels() / heads, output_stride: d };
        self.reindex("unpad_heads", out, &[rows, parts, Axis { extent: d, input_stride: 1, output_stride: 1 }])
    }

    /// The same values with rows stored one after another: turns a view of some columns into a tensor of its own.
    #[track_caller]
    pub fn contiguous(self) -> Self {
        if self.is_contiguous() {
            return self;
        }
        let rows = Axis { extent: self.rows(), input_stride: self.row_stride(), output_stride: self.shape().channels4() * 4 };
        let columns = Axis { extent: self.channels(), input_stride: 1, output_stride: 1 };
        self.reindex("contiguous", self.shape(), &[rows, columns])
    }

    /// Moves blocks of `[pt, ph, pw]` positions into the channels:
    /// `[B, F, H, W, C]` → `[B, F/pt, H/ph, W/pw, C·pt·ph·pw]`. The inverse of [`pixel_shuffle_3d`](Self::pixel_shuffle_3d).
    #[track_caller]
    pub fn pixel_unshuffle_3d(self, patch: [usize; 3], order: PatchOrder) -> Self {
        let dims = self.shape();
        let [pt, ph, pw] = patch;
        let &[b, f, h, w, c] = dims.dims() else {
            self.plan().fail("pixel_unshuffle_3d", "[B, F, H, W, C]", dims.to_string());
            return self;
        };
        if patch.contains(&0) || f % pt != 0 || h % ph != 0 || w % pw != 0 {
            self.plan().fail("pixel_unshuffle_3d", format!("extents divisible by {patch:?}"), dims.to_string());
            return self;
        }
        self.need_contiguous("pixel_unshuffle_3d");
        let out = Shape::new(&[b, f / pt, h / ph, w / pw, c * pt * ph * pw]);
        let (small, big) = (strides(out), strides(dims));
        self.reindex("pixel_unshuffle_3d", out, &shuffle_axes(out, &big, &small, c, patch, order, false))
    }

    /// Moves channels into blocks of `[pt, ph, pw]` positions:
    /// `[B, F, H, W, C·pt·ph·pw]` → `[B, F·pt, H·ph, W·pw, C]`.
    #[track_caller]
    pub fn pixel_shuffle_3d(self, patch: [usize; 3], order: PatchOrder) -> Self {
        let dims = self.shape();
        let [pt, ph, pw] = patch;
        let &[b, f, h, w, packed] = dims.dims() else {
            self.plan().fail("pixel_shuffle_3d", "[B, F, H, W, C]", dims.to_string());
            return self;
        };
        if patch.contains(&0) || packed % (pt * ph * pw) != 0 {
            self.plan().fail("pixel_shuffle_3d", format!("channels divisible by the product of {patch:?}"), dims.to_string());
            return self;
        }
        self.need_contiguous("pixel_shuffle_3d");
        let c = packed / (pt * ph * pw);
        let out = Shape::new(&[b, f * pt, h * ph, w * pw, c]);
        let (small, big) = (strides(dims), strides(out));
        self.reindex("pixel_shuffle_3d", out, &shuffle_axes(dims, &big, &small, c, patch, order, true))
    }

    /// The channels `times` times over: channel `i·C + c` is channel `c`.
    #[track_caller]
    pub fn repeat_channels(self, times: usize) -> Self {
        self.need_contiguous("repeat_channels");
        let c = self.channels();
        let out = self.shape().with_channels(c * times);
        let rows = Axis { extent: self.rows(), input_stride: self.shape().channels4() * 4, output_stride: out.channels4() * 4 };
        let repeats = Axis { extent: times, input_stride: 0, output_stride: c };
        self.reindex("repeat_channels", out, &[rows, repeats, Axis { extent: c, input_stride: 1, output_stride: 1 }])
    }

    /// Each channel `times` times in a row: channel `c·times + i` is channel `c`.
    #[track_caller]
    pub fn repeat_each_channel(self, times: usize) -> Self {
        self.need_contiguous("repeat_each_channel");
        let c = self.channels();
        let out = self.shape().with_channels(c * times);
        let rows = Axis { extent: self.rows(), input_stride: self.shape().channels4() * 4, output_stride: out.channels4() * 4 };
        let channels = Axis { extent: c, input_stride: 1, output_stride: times };
        self.reindex("repeat_each_channel", out, &[rows, channels, Axis { extent: times, input_stride: 0, output_stride: 1 }])
    }

    /// The channels as a matrix of `outer` rows, transposed: channel `o·C + c` becomes channel `c·outer + o`.
    #[track_caller]
    pub fn transpose_channels(self, outer: usize) -> Self {
        self.need_contiguous("transpose_channels");
        if outer == 0 || !self.channels().is_multiple_of(outer) {
            self.plan().fail("transpose_channels", format!("a divisor of {} channels", self.channels()), outer.to_string());
            return self;
        }
        let c = self.channels() / outer;
        let row = self.shape().channels4() * 4;
        let rows = Axis { extent: self.rows(), input_stride: row, output_stride: row };
        let outer_axis = Axis { extent: outer, input_stride: c, output_stride: 1 };
        self.reindex("transpose_channels", self.shape(), &[rows, outer_axis, Axis { extent: c, input_stride: 1, output_stride: outer }])
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]`.
    #[track_caller]
    pub fn permute(self, order: &[usize]) -> Self {
        self.need_contiguous("permute");
        let shape = self.shape();
        if order.len() != shape.rank() || !(0..shape.rank()).all(|axis| order.contains(&axis)) {
            self.plan().fail("permute", format!("each axis of {shape} once"), format!("{order:?}"));
            return self;
        }
        let extents: Vec<usize> = order.iter().map(|&axis| shape.dims()[axis]).collect();
        let out = Shape::new(&extents);
        let (from, to) = (strides(shape), strides(out));
        let axes = order.iter().zip(to).map(|(&axis, output_stride)| {
            let extent = shape.dims()[axis];
            Axis { extent, input_stride: from[axis], output_stride }
        });
        self.reindex("permute", out, &axes.collect::<Vec<_>>())
    }

    /// Every position `factors` times in time, height and width (nearest neighbour):
    /// `[B, F, H, W, C]` → `[B, F·ft, H·fh, W·fw, C]`.
    #[track_caller]
    pub fn upsample_nearest(self, factors: [usize; 3]) -> Self {
        let dims = self.shape();
        let &[b, f, h, w, c] = dims.dims() else {
            self.plan().fail("upsample_nearest", "[B, F, H, W, C]", dims.to_string());
            return self;
        };
        self.need_contiguous("upsample_nearest");
        let [ft, fh, fw] = factors;
        let out = Shape::new(&[b, f * ft, h * fh, w * fw, c]);
        let (small, big) = (strides(dims), strides(out));
        let axis = |extent, input_stride, output_stride| Axis { extent, input_stride, output_stride };
        let axes = [
            axis(b, small[0], big[0]),
            axis(f, small[1], big[1] * ft),
            axis(ft, 0, big[1]),
            axis(h, small[2], big[2] * fh),
            axis(fh, 0, big[2]),
            axis(w, small[3], big[3] * fw),
            axis(fw, 0, big[3]),
            axis(c, 1, 1),
        ];
        self.reindex("upsample_nearest", out, &axes)
    }

    /// The frames `start..start + len`: `[B, F, H, W, C]` → `[B, len, H, W, C]`.
    #[track_caller]
    pub fn slice_frames(self, start: usize, len: usize) -> Self {
        let dims = self.shape();
        let &[b, f, h, w, c] = dims.dims() else {
            self.plan().fail("slice_frames", "[B, F, H, W, C]", dims.to_string());
            return self;
        };
        if len == 0 || start + len > f {
            self.plan().fail("slice_frames", format!("a part of 0..{f}"), format!("{start}..{}", start + len));
            return self;
        }
        if len == f {
            return self;
        }
        self.need_contiguous("slice_frames");
        let out = Shape::new(&[b, len, h, w, c]);
        let (from, to) = (strides(dims), strides(out));
        let axes = [
            Axis { extent: b, input_stride: from[0], output_stride: to[0] },
            Axis { extent: len * h * w, input_stride: from[3], output_stride: to[3] },
            Axis { extent: c, input_stride: 1, output_stride: 1 },
        ];
        self.reindex_from("slice_frames", start * from[1], out, &axes, c)
    }

    /// Writes the frames of `x [B, F, H, W, C]` from `start` on into this state `[B, len, H, W, C]`, in place: what reads the state
    /// before sees what it held, what reads it after sees these frames.
    ///
    /// | tensor | shape             | access     |
    /// |--------|-------------------|------------|
    /// | `self` | `[B, len, H, W, C]` | write    |
    /// | `x`    | `[B, F, H, W, C]` | read       |
    #[track_caller]
    pub fn write_frames(self, x: Self, start: usize) {
        x.need_contiguous("write_frames");
        let shapes = [self.shape(), x.shape()];
        let [&[b, len, h, w, c], &[_, f, ..]] = shapes.each_ref().map(Shape::dims) else {
            return self.plan().fail("write_frames", "[B, F, H, W, C] twice", format!("{} and {}", shapes[0], shapes[1]));
        };
        if !self.is_state() || *shapes[1].dims() != [b, f, h, w, c] || start + len > f {
            let expected = format!("a state and frames [{b}, {} or more, {h}, {w}, {c}]", start + len);
            return self.plan().fail("write_frames", expected, format!("{self:?} and {}", shapes[1]));
        }
        let (from, to) = (strides(shapes[1]), strides(shapes[0]));
        let axes = simplify(&[
            Axis { extent: b, input_stride: from[0], output_stride: to[0] },
            Axis { extent: len * h * w, input_stride: from[3], output_stride: to[3] },
            Axis { extent: c, input_stride: 1, output_stride: 1 },
        ]);
        let op = Reindex { what: "write_frames", axes, input_base: start * from[1], written: c };
        self.plan().record(Op::WriteState(op), vec![self.operand(), x.operand()], shapes[0], Elem::F32);
    }

    /// The frames with these indices, in this order: `[B, F, H, W, C]` → `[B, indices, H, W, C]`.
    #[track_caller]
    pub fn take_frames(self, indices: &[usize]) -> Self {
        let dims = self.shape();
        let &[b, f, h, w, c] = dims.dims() else {
            self.plan().fail("take_frames", "[B, F, H, W, C]", dims.to_string());
            return self;
        };
        if indices.is_empty() || indices.iter().any(|&i| i >= f) {
            self.plan().fail("take_frames", format!("indices below {f}"), format!("{indices:?}"));
            return self;
        }
        let pixels = h * w;
        let rows: Vec<u32> = (0..b)
            .flat_map(|b| indices.iter().map(move |i| b * f + i))
            .flat_map(|frame| (0..pixels).map(move |p| (frame * pixels + p) as u32))
            .collect();
        let flat = self.reshape(&[b * f * pixels, c]);
        flat.gather_rows(self.plan().index_constant(&rows)).reshape(&[b, indices.len(), h, w, c])
    }
}

/// Loops over (b, f, pt, h, ph, w, pw, c) of a pixel (un)shuffle between a small grid with many channels and a big one.
fn shuffle_axes(grid: Shape, big: &[usize], small: &[usize], c: usize, patch: [usize; 3], order: PatchOrder, to_big: bool) -> Vec<Axis> {
    let [pt, ph, pw] = patch;
    let (channel_t, channel_h, channel_w, channel) = match order {
        PatchOrder::TimeHeightWidth => (ph * pw, pw, 1, pt * ph * pw),
        PatchOrder::TimeWidthHeight => (ph * pw, 1, ph, pt * ph * pw),
        PatchOrder::ChannelInnermost => (ph * pw * c, pw * c, c, 1),
    };
    let d = grid.dims();
    let loops = [
        (d[0], big[0], small[0]),
        (d[1], big[1] * pt, small[1]),
        (pt, big[1], channel_t),
        (d[2], big[2] * ph, small[2]),
        (ph, big[2], channel_h),
        (d[3], big[3] * pw, small[3]),
        (pw, big[3], channel_w),
        (c, 1, channel),
    ];
    let axis = |(extent, big, small)| {
        if to_big {
            Axis { extent, input_stride: small, output_stride: big }
        } else {
            Axis { extent, input_stride: big, output_stride: small }
        }
    };
    loops.into_iter().map(axis).collect()
}

/// `source` is the input that is read.
pub(super) fn lower_reindex(op: &Reindex, source: usize, cx: &mut Lowering<'_>) {
    let shape = cx.output_shape();
    if !op.written.is_multiple_of(4) {
        let channels4 = op.written.div_ceil(4);
        let rows = shape.rows() * shape.channels4() / channels4;
        let params =
            zero_padding::Params { rows: rows as u32, channels: op.written as u32, channels4: channels4 as u32, ..Default::default() };
        let bindings = vec![cx.output()];
        let items = rows.div_ceil(64);
        cx.dispatch(zero_padding::KERNEL, items, rows as f64, bindings, params);
    }
    let scalars: usize = op.axes.iter().map(|a| a.extent).product();
    let one = Axis { extent: 1, input_stride: 0, output_stride: 0 };
    // The order of the loops is free. Software adapters pay for each division and copy the longest loop as a run.
    let mut axes = op.axes.clone();
    let longest = (0..axes.len()).max_by_key(|&k| axes[k].extent);
    let run = longest.filter(|_| cx.preset != Preset::Gpu).map_or(one, |k| axes.remove(k));
    let runs = scalars / run.extent;
    // Loop 7 of the kernel is the innermost.
    let axis = |k: usize| (k + axes.len()).checked_sub(8).map_or(one, |i| axes[i]);
    let four = |start: usize, field: fn(Axis) -> usize| std::array::from_fn(|k| field(axis(start + k)) as u32);
    let params = reindex::Params {
        extents_outer: four(0, |a| a.extent),
        extents_inner: four(4, |a| a.extent),
        in_outer: four(0, |a| a.input_stride),
        in_inner: four(4, |a| a.input_stride),
        out_outer: four(0, |a| a.output_stride),
        out_inner: four(4, |a| a.output_stride),
        runs: runs as u32,
        run: run.extent as u32,
        in_run: run.input_stride as u32,
        out_run: run.output_stride as u32,
        base: op.input_base as u32,
        ..Default::default()
    };
    let bindings = vec![cx.input(source), cx.output()];
    let items = runs.div_ceil(64);
    cx.dispatch(reindex::KERNEL, items, 8.0 * scalars as f64, bindings, params);
}

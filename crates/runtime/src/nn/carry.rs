//! [`Carry`]: what a chunk of a clip leaves to the ones after it, such as the frames that a causal convolution looks back to.

use std::cell::{Cell, RefCell};

use kinora_kernels::op::Padding;
use kinora_kernels::{Plan, Tensor};

/// Which part of a clip is being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// All of it: nothing is before it, nothing is left.
    Whole,
    /// Its beginning: nothing is before it.
    First,
    /// What follows others.
    Later,
}

/// The frames that a chunk finds and leaves. Each place of a model, by the scopes it is recorded in, has its own: with
/// [`states`](Self::states) they are tensors of the generation, which outlive the plan, so that chunks are plans of their own; with
/// [`within`](Self::within) all chunks are recorded in one plan.
pub struct Carry<'p> {
    plan: &'p Plan,
    chunk: Cell<Chunk>,
    /// What chunks of this plan left, by place.
    kept: Option<RefCell<Vec<(String, Tensor<'p>)>>>,
}

impl<'p> Carry<'p> {
    /// A plan for one chunk.
    pub fn states(plan: &'p Plan, chunk: Chunk) -> Self {
        Self { plan, chunk: Cell::new(chunk), kept: None }
    }

    /// A plan for a clip as a whole.
    pub fn whole(plan: &'p Plan) -> Self {
        Self::states(plan, Chunk::Whole)
    }

    /// A plan for several chunks, of which the first comes first: [`advance`](Self::advance) after each.
    pub fn within(plan: &'p Plan) -> Self {
        Self { plan, chunk: Cell::new(Chunk::First), kept: Some(RefCell::default()) }
    }

    /// Ends a chunk that the next one follows in the same plan.
    pub fn advance(&self) {
        self.chunk.set(Chunk::Later);
    }

    /// Which part of the clip is being recorded.
    pub fn chunk(&self) -> Chunk {
        self.chunk.get()
    }

    /// Whether nothing is before what is being recorded.
    pub fn is_first(&self) -> bool {
        self.chunk() != Chunk::Later
    }

    /// `x [B, F, H, W, C]` with the `count` frames before it, and how many of these are missing: all where a clip begins, where
    /// padding has to stand in for them, else none. Leaves the last `count` frames to the next chunk; `before` says what they are as
    /// far as they lie before the clip.
    pub fn extend(&self, x: Tensor<'p>, count: usize, before: Padding) -> (Tensor<'p>, usize) {
        let &[b, frames, h, w, c] = x.shape().dims() else {
            self.plan.fail("extend", "[B, F, H, W, C]", x.shape().to_string());
            return (x, count);
        };
        if count == 0 || self.chunk() == Chunk::Whole {
            return (x, count);
        }
        if self.chunk() == Chunk::Later {
            let past = self.past(&[b, count, h, w, c]);
            let all = past.concat_frames(x);
            self.leave(all, count);
            return (all, 0);
        }
        let missing = count.saturating_sub(frames);
        if missing == 0 {
            self.leave(x, count);
        } else {
            let first = x.slice_frames(0, 1).upsample_nearest([missing, 1, 1]);
            let first = if before == Padding::Zero { first.affine(0.0, 0.0) } else { first };
            self.leave(first.concat_frames(x), count);
        }
        (x, count)
    }

    /// Leaves `count` frames of zeros, of the extents of those of `x`, where a clip begins.
    pub fn leave_zeros(&self, x: Tensor<'p>, count: usize) {
        if self.chunk() == Chunk::First {
            self.leave(x.slice_frames(0, 1).affine(0.0, 0.0).upsample_nearest([count, 1, 1]), count);
        }
    }

    /// What the chunk before left here.
    fn past(&self, dims: &[usize]) -> Tensor<'p> {
        let place = self.plan.scope_label();
        match &self.kept {
            None => self.plan.state(&place, dims),
            Some(kept) => match kept.borrow().iter().find(|(known, _)| *known == place) {
                Some((_, tensor)) => *tensor,
                None => {
                    self.plan.fail("carry", format!("frames left at {place}"), "none");
                    self.plan.input(&place, dims, kinora_kernels::Cadence::Once)
                }
            },
        }
    }

    /// Leaves the last `count` frames of `x` here.
    fn leave(&self, x: Tensor<'p>, count: usize) {
        let &[b, frames, h, w, c] = x.shape().dims() else { return };
        let place = self.plan.scope_label();
        match &self.kept {
            None => self.plan.state(&place, &[b, count, h, w, c]).write_frames(x, frames - count),
            Some(kept) => {
                let left = x.slice_frames(frames - count, count);
                let mut kept = kept.borrow_mut();
                kept.retain(|(known, _)| *known != place);
                kept.push((place, left));
            }
        }
    }
}

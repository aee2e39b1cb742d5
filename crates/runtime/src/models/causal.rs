//! Denoisers that go through a clip block by block: each block attends to itself and to what finished blocks left in a cache of
//! keys and values (Self-Forcing, arXiv 2506.08009). What a configuration says of it, which frames stay, and the cache in a plan.

use kinora_kernels::{Plan, Tensor};
use serde::Deserialize;

use super::require;
use crate::error::Result;
use crate::eval::text::MASKED;
#[cfg(feature = "families")]
use crate::{manifest::Manifest, models::family::Defaults, sampling::solvers::SchedulerFile};

/// `kinora.causal` in the `config.json` of a denoiser, in latent frames.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causal {
    /// Frames that are denoised together.
    pub block_frames: usize,
    /// Frames that a block attends to, its own included; those of a clip in training where nothing is said.
    #[serde(default = "trained_frames")]
    pub window: usize,
    /// Of these, the first so many of the clip, which always stay.
    #[serde(default)]
    pub sink: usize,
    /// What the model is told of finished blocks when they go into the cache: a timestep.
    #[serde(default)]
    pub context_noise: f32,
    /// Steps of a block by default.
    #[serde(default = "distilled_steps")]
    pub steps: usize,
    /// Steps of the first block, where it takes more than the others.
    #[serde(default)]
    pub first_steps: Option<usize>,
}

/// 81 frames of Wan.
fn trained_frames() -> usize {
    21
}

/// Those of Self-Forcing.
fn distilled_steps() -> usize {
    4
}

/// The solver of every model that was published so, beside the scheduler of the model it was made from.
#[cfg(feature = "families")]
const SOLVER: (&str, f64) = ("DMDScheduler", 5.0);

impl Causal {
    /// Refuses, in the configuration called `file`, a window that has no room for a block beside the sink.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn check(&self, file: &str) -> Result<()> {
        require(file, "kinora.causal.block_frames", &self.block_frames, self.block_frames > 0, "at least 1")?;
        let least = self.sink.saturating_add(self.block_frames);
        require(file, "kinora.causal.window", &self.window, self.window >= least, &format!("at least {least}, a block and the sink"))?;
        let noise = (0.0..=1000.0).contains(&self.context_noise);
        require(file, "kinora.causal.context_noise", &self.context_noise, noise, "a timestep from 0 to 1000")?;
        let steps = self.steps.min(self.first_steps.unwrap_or(1));
        require(file, "kinora.causal.steps, first_steps", &steps, steps > 0, "at least 1")
    }

    /// Makes what such models have in common of what a model folder says that knows of none: few steps without guidance, by a solver
    /// of theirs. What the folder says otherwise than its class stays.
    #[cfg(feature = "families")]
    pub(crate) fn adapt(&self, manifest: &mut Manifest, scheduler: &mut SchedulerFile, class: &Defaults) {
        if manifest.default_steps == class.steps {
            manifest.default_steps = self.steps;
        }
        if manifest.default_guidance.to_bits() == class.guidance.to_bits() {
            manifest.default_guidance = 1.0;
        }
        if ![SOLVER.0, "FlowMapEulerDiscreteScheduler"].contains(&scheduler.class_name.as_deref().unwrap_or_default()) {
            let mut own = SchedulerFile::default().with_shift(SOLVER.1);
            (own.file, own.class_name) = (std::mem::take(&mut scheduler.file), Some(SOLVER.0.into()));
            *scheduler = own;
        }
    }

    /// Frames in the cache once it is full.
    pub fn capacity(&self) -> usize {
        self.window - self.block_frames
    }
}

/// What is in the cache: so many frames of the clip, those of the sink first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    /// At most [`Causal::capacity`].
    pub frames: usize,
}

impl Cached {
    /// What is added to the scores of each key, those of the cache and then those of a block, of `area` tokens a frame.
    pub fn mask(self, causal: &Causal, area: usize) -> Vec<f32> {
        let place = |at| if at < self.frames || at >= causal.capacity() { 0.0 } else { MASKED };
        (0..causal.window).flat_map(|at| std::iter::repeat_n(place(at), area)).collect()
    }

    /// Takes a block: for each row of the cache afterwards the row of cache and block where it is before. The oldest frames but
    /// those of the sink make room.
    pub fn take(&mut self, causal: &Causal, area: usize) -> Vec<u32> {
        let capacity = causal.capacity();
        let mut frames: Vec<usize> = (0..self.frames).chain(capacity..causal.window).collect();
        let surplus = frames.len().saturating_sub(capacity);
        frames.drain(causal.sink.min(capacity)..causal.sink.min(capacity) + surplus);
        self.frames = frames.len();
        // What is not there yet stays what it is, and is masked.
        frames.extend(self.frames..capacity);
        frames.into_iter().flat_map(|frame| (frame * area..(frame + 1) * area).map(|row| row as u32)).collect()
    }
}

/// The cache in a plan of one block.
#[derive(Clone, Copy, Debug)]
pub struct Context<'p> {
    /// Tokens in time, height and width that it has room for.
    pub grid: [usize; 3],
    /// Added to the scores of each key `[Rc + R]`: see [`Cached::mask`].
    pub mask: Tensor<'p>,
    /// Where each row comes from afterwards `[Rc]`, in a plan that leaves its block to those that follow: see [`Cached::take`].
    pub order: Option<Tensor<'p>>,
}

impl<'p> Context<'p> {
    /// Keys and values `[R, D]` of the block, with those of the frames before it in front `[Rc + R, D]`. Each layer has its own, by
    /// the scopes it is recorded in.
    pub fn join(&self, plan: &'p Plan, keys: Tensor<'p>, values: Tensor<'p>) -> [Tensor<'p>; 2] {
        let [frames, h, w] = self.grid;
        [("keys", keys), ("values", values)].map(|(name, x)| {
            let d = x.channels();
            let cache = plan.state(&format!("{}.{name}", plan.scope_label()), &[1, frames, h, w, d]);
            let all = cache.concat_frames(x.contiguous().reshape(&[1, x.rows() / (h * w), h, w, d]));
            let rows = all.reshape(&[all.rows(), d]);
            if let Some(order) = self.order {
                cache.write_frames(rows.gather_rows(order).reshape(&[1, frames, h, w, d]), 0);
            }
            rows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causal(block_frames: usize, window: usize, sink: usize) -> Causal {
        Causal { block_frames, window, sink, context_noise: 0.0, steps: 4, first_steps: None }
    }

    /// The frames of the clip in the cache after each of some blocks.
    fn kept(causal: &Causal, blocks: usize) -> Vec<Vec<usize>> {
        let (mut cached, mut held) = (Cached::default(), Vec::new());
        let step = |block: usize| {
            let mut all: Vec<usize> = held.clone();
            all.resize(causal.capacity(), usize::MAX);
            all.extend(block * causal.block_frames..(block + 1) * causal.block_frames);
            let order = cached.take(causal, 1);
            held = order[..cached.frames].iter().map(|row| all[*row as usize]).collect();
            held.clone()
        };
        (0..blocks).map(step).collect()
    }

    #[test]
    fn the_oldest_frames_make_room_but_for_the_sink() {
        assert_eq!(kept(&causal(1, 4, 1), 5), [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 2, 3], vec![0, 3, 4]], "frame by frame");
        let expected = [vec![0, 1, 2], vec![0, 1, 2, 3, 4, 5], vec![3, 4, 5, 6, 7, 8]];
        assert_eq!(kept(&causal(3, 9, 0), 3), expected, "in chunks, without a sink");
        assert_eq!(kept(&causal(3, 8, 2), 3), [vec![0, 1, 2], vec![0, 1, 3, 4, 5], vec![0, 1, 6, 7, 8]], "the sink is part of a block");
        assert_eq!(kept(&causal(2, 3, 1), 3), [vec![0], vec![0], vec![0]], "no room beside the sink");
        assert_eq!(kept(&causal(2, 2, 0), 2), [Vec::<usize>::new(), vec![]], "a block sees itself alone");
    }

    #[test]
    fn what_is_not_cached_yet_is_masked() {
        let causal = causal(1, 4, 0);
        let mut cached = Cached::default();
        assert_eq!(cached.mask(&causal, 1), [MASKED, MASKED, MASKED, 0.0], "the block alone");
        cached.take(&causal, 1);
        assert_eq!(cached.mask(&causal, 2), [0.0, 0.0, MASKED, MASKED, MASKED, MASKED, 0.0, 0.0], "two tokens a frame");
    }

    #[test]
    fn windows_without_room_are_refused() {
        assert!(causal(3, 21, 3).check("config.json").is_ok());
        let error = causal(3, 5, 3).check("config.json").expect_err("no room").to_string();
        assert!(error.contains("kinora.causal.window: expected at least 6, a block and the sink, found 5"), "{error}");
    }
}

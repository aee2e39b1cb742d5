//! Frames to latents.

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::TaehvConfig;
use super::blocks::{Frames, MemBlocks, conv};
use super::config::STAGES;
use crate::error::Result;
use crate::nn::{Carry, Conv3d, Weights};

/// Frames to latents.
pub struct TaehvEncoder {
    patch: usize,
    /// Frames of a latent frame.
    step: usize,
    conv_in: Conv3d,
    stages: Vec<Stage>,
    conv_out: Conv3d,
}

struct Stage {
    pool: Frames,
    conv: Conv3d,
    blocks: MemBlocks,
}

impl TaehvEncoder {
    /// Takes every tensor of the scope, which is `encoder` in a checkpoint.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TaehvConfig) -> Result<Self> {
        // One width throughout.
        let channels = w.shape("0.weight")?.first().copied().unwrap_or(0);
        let mut stages = Vec::with_capacity(STAGES);
        for stage in 0..STAGES {
            // Entries of the reference's list: the frames, the convolution, three blocks.
            let at = 2 + 5 * stage;
            let count = 1 + usize::from(config.encoder_time_downscale[stage]);
            stages.push(Stage {
                pool: Frames::load(w, &at.to_string(), count, [channels * count, channels])?,
                conv: conv(w, &(at + 1).to_string(), [channels; 2], 2, false)?,
                blocks: MemBlocks::load(w, at + 2, channels)?,
            });
        }
        Ok(Self {
            patch: config.patch_size,
            step: config.frames_taken(),
            conv_in: conv(w, "0", [3 * config.patch_size * config.patch_size, channels], 1, true)?,
            stages,
            conv_out: conv(w, "17", [channels, config.latent_channels], 1, true)?,
        })
    }

    /// Frames `[B, F, H, W, 3]` in 0..1 → latents `[B, F', H', W', C]`; the last frame is repeated to fill a latent frame.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let &[_, count, ..] = frames.shape().dims() else {
            plan.fail("taehv_encoder", "[B, F, H, W, 3]", frames.shape().to_string());
            return frames;
        };
        let missing = count.next_multiple_of(self.step) - count;
        let mut x = frames;
        if missing > 0 {
            x = x.concat_frames(frames.slice_frames(count - 1, 1).upsample_nearest([missing, 1, 1]));
        }
        if self.patch > 1 {
            x = x.pixel_unshuffle_3d([1, self.patch, self.patch], PatchOrder::TimeHeightWidth);
        }
        x = self.conv_in.forward(x).relu();
        for stage in &self.stages {
            x = stage.blocks.forward(stage.conv.forward(stage.pool.join(x)), carry);
        }
        self.conv_out.forward(x)
    }
}

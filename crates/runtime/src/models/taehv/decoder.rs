//! Latents to frames.

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::TaehvConfig;
use super::blocks::{Frames, MemBlocks, conv};
use super::config::STAGES;
use crate::error::Result;
use crate::nn::{Carry, Conv3d, Weights};

/// Latents to frames.
pub struct TaehvDecoder {
    patch: usize,
    /// Frames at the beginning that stand before the clip.
    early: usize,
    conv_in: Conv3d,
    stages: Vec<Stage>,
    conv_out: Conv3d,
}

struct Stage {
    blocks: MemBlocks,
    grow: Frames,
    space: usize,
    conv: Conv3d,
}

impl TaehvDecoder {
    /// Takes every tensor of the scope, which is `decoder` in a checkpoint.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &TaehvConfig) -> Result<Self> {
        let outputs = |name: &str| -> Result<usize> { Ok(w.shape(&format!("{name}.weight"))?.first().copied().unwrap_or(0)) };
        let first = outputs("1")?;
        let mut channels = first;
        let mut stages = Vec::with_capacity(STAGES);
        for stage in 0..STAGES {
            // Entries of the reference's list: three blocks, the enlargement, the frames, the convolution.
            let at = 3 + 6 * stage;
            let (count, name) = (1 + usize::from(config.decoder_time_upscale[stage]), (at + 5).to_string());
            let next = outputs(&name)?;
            stages.push(Stage {
                blocks: MemBlocks::load(w, at, channels)?,
                grow: Frames::load(w, &(at + 4).to_string(), count, [channels, channels * count])?,
                space: 1 + usize::from(config.decoder_space_upscale[stage]),
                conv: conv(w, &name, [channels, next], 1, false)?,
            });
            channels = next;
        }
        Ok(Self {
            patch: config.patch_size,
            early: config.frames_made() - 1,
            conv_in: conv(w, "1", [config.latent_channels, first], 1, true)?,
            stages,
            conv_out: conv(w, "22", [channels, 3 * config.patch_size * config.patch_size], 1, true)?,
        })
    }

    /// Latents `z [B, F, H, W, C]` → frames `[B, F', H', W', 3]`, which the reference limits to 0..1 afterwards. The first chunk
    /// lacks the frames that stand before the clip.
    pub fn forward<'p>(&self, plan: &'p Plan, z: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let [before @ .., last] = self.stages.as_slice() else { return z };
        // Large values are bent to at most three.
        let mut x = self.conv_in.forward(z.affine(1.0 / 3.0, 0.0).tanh().affine(3.0, 0.0)).relu();
        for stage in before {
            x = stage.blocks.forward(x, carry);
            // Frames part before they are enlarged: the same values, a quarter of the work.
            x = stage.conv.forward(stage.enlarged(stage.grow.part(x)));
        }
        let x = last.grow.part(last.blocks.forward(x, carry));
        // Nothing after it sees another frame: one after another takes a fraction of the memory.
        let frames = x.shape().dims().get(1).copied().unwrap_or(0);
        let early = if carry.is_first() { self.early } else { 0 };
        let one = |at: usize| {
            let y = last.conv.forward(last.enlarged(x.slice_frames(at, 1))).relu();
            let y = self.conv_out.forward(y);
            if self.patch == 1 { y } else { y.pixel_shuffle_3d([1, self.patch, self.patch], PatchOrder::TimeHeightWidth) }
        };
        let made = (early..frames).map(one).reduce(|before, frame| before.concat_frames(frame));
        made.unwrap_or_else(|| {
            plan.fail("taehv_decoder", "at least one latent frame", "none");
            x
        })
    }
}

impl Stage {
    fn enlarged<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        if self.space == 1 { x } else { x.upsample_nearest([1, self.space, self.space]) }
    }
}

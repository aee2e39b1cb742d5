//! The network of a stage: a small U-Net whose output corrects a fixed guess (`CascadeStage` in `training/cascade.py`).

use kinora_kernels::op::Padding;
use kinora_kernels::{Conv3dOptions, PatchOrder, Plan, Tensor, Weight};

use super::StageConfig;
use crate::error::Result;
use crate::nn::{CatmullRom, Conv3d, Weights};

/// Rows and columns of a block of pixels that become channels.
const BLOCK: [usize; 3] = [1, 2, 2];
/// Channels of such a block of pixels.
const BLOCK_CHANNELS: usize = 12;

/// A stage with its weights.
pub struct Stage {
    /// Its configuration.
    pub config: StageConfig,
    larger: CatmullRom,
    conv_in: Conv3d,
    /// Of the frames between, as they are guessed.
    conv_guess: Option<Conv3d>,
    /// What full noise adds to each channel, by resolution `[C, 1]`.
    levels: Vec<Weight>,
    /// From one resolution to the next lower one.
    down: Vec<Resolution>,
    time: Conv3d,
    /// From one resolution to the next higher one, the highest first.
    up: Vec<Resolution>,
    conv_out: Conv3d,
}

/// A linear layer over pixels that changes the resolution, and the blocks behind it.
struct Resolution {
    weight: Weight,
    bias: Weight,
    blocks: Vec<[Conv3d; 2]>,
}

impl Stage {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &StageConfig) -> Result<Self> {
        let StageConfig { channels, blocks, .. } = config;
        let [first, .., last] = channels.as_slice() else { unreachable!("`StageConfig::parse` asks for two resolutions") };
        let mut down = Vec::new();
        let mut up = Vec::new();
        for (i, pair) in channels.windows(2).enumerate() {
            let [high, low] = [pair[0], pair[1]];
            let resolution =
                |from: &str, inputs, outputs, blocks: &str, count| Resolution::load(w, [from, blocks], i, [inputs, outputs], count);
            down.push(resolution("down", 4 * high, low, "down_blocks", blocks[i + 1])?);
            up.push(resolution("up", low, 4 * high, "up_blocks", blocks[i])?);
        }
        let levels = channels.iter().enumerate().map(|(i, channels)| w.tensor(&format!("level.{i}"), &[*channels, 1]));
        Ok(Self {
            larger: CatmullRom::new(w.format()),
            conv_guess: config.between.then(|| convolution(w, "conv_guess", BLOCK_CHANNELS, *first, [1, 3, 3])).transpose()?,
            conv_in: convolution(w, "conv_in", BLOCK_CHANNELS, *first, [if config.between { 4 } else { 3 }, 3, 3])?,
            levels: levels.collect::<Result<_>>()?,
            down,
            time: convolution(w, "time", *last, *last, [3, 1, 1])?,
            up,
            conv_out: convolution(w, "conv_out", *first, BLOCK_CHANNELS * config.scale * config.scale, [1, 3, 3])?,
            config: config.clone(),
        })
    }

    /// Frames `[B, F, H, W, 3]` in −1..1 and how much of the autoencoder's error they have `[B, 1]` → `[B, F, 2H, 2W, 3]`, or
    /// the frames between by a guess of them, `[B, F − 1, H, W, 3]`.
    pub fn forward<'p>(&self, plan: &'p Plan, frames: Tensor<'p>, guess: Option<Tensor<'p>>, level: Tensor<'p>) -> Tensor<'p> {
        if guess.is_some() != self.config.between {
            plan.fail("cascade", "a guess exactly of frames between", if guess.is_some() { "one" } else { "none" });
        }
        let told = |x: Tensor<'p>, at: usize| x.add_per_batch(level.linear(&self.levels[at], None));
        let mut x = told(self.conv_in.forward(frames.pixel_unshuffle_3d(BLOCK, PatchOrder::TimeHeightWidth)), 0);
        if let (Some(conv), Some(guess)) = (&self.conv_guess, guess) {
            x = x + conv.forward(guess.pixel_unshuffle_3d(BLOCK, PatchOrder::TimeHeightWidth));
        }
        let mut skips = Vec::new();
        for (i, resolution) in self.down.iter().enumerate() {
            skips.push(x);
            x = plan.scope(format!("down.{i}"), || {
                let x = x.silu().pixel_unshuffle_3d(BLOCK, PatchOrder::TimeHeightWidth);
                resolution.blocks(told(x.linear(&resolution.weight, Some(&resolution.bias)), i + 1))
            });
        }
        x = self.time.forward(x.silu()) + x;
        for (i, (resolution, skip)) in self.up.iter().zip(skips).enumerate().rev() {
            x = plan.scope(format!("up.{i}"), || {
                let x = x.silu().linear(&resolution.weight, Some(&resolution.bias));
                resolution.blocks(x.pixel_shuffle_3d(BLOCK, PatchOrder::TimeHeightWidth) + skip)
            });
        }
        let side = self.config.scale.saturating_mul(2);
        let correction = self.conv_out.forward(x.silu()).pixel_shuffle_3d([1, side, side], PatchOrder::TimeHeightWidth);
        guess.unwrap_or_else(|| self.larger.forward(frames)) + correction
    }
}

impl Resolution {
    fn load(w: &Weights<'_>, [layer, blocks]: [&str; 2], at: usize, [inputs, outputs]: [usize; 2], count: usize) -> Result<Self> {
        // Behind the way up, the channels of four pixels are those of one.
        let channels = if layer == "up" { outputs / 4 } else { outputs };
        let own = w.scope(layer).scope(at);
        let block = |i: usize| -> Result<[Conv3d; 2]> {
            let w = w.scope(blocks).scope(at).scope(i);
            Ok([convolution(&w, "conv1", channels, channels, [1, 3, 3])?, convolution(&w, "conv2", channels, channels, [1, 3, 3])?])
        };
        Ok(Self {
            weight: own.tensor_as("weight", &[outputs, inputs, 1, 1, 1], &[outputs, inputs])?,
            bias: own.tensor("bias", &[outputs])?,
            blocks: (0..count).map(block).collect::<Result<_>>()?,
        })
    }

    fn blocks<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        self.blocks.iter().fold(x, |x, [first, second]| second.forward(first.forward(x.silu()).silu()) + x)
    }
}

/// A convolution that sees one frame on either side at most, two behind where its kernel is even.
fn convolution(w: &Weights<'_>, name: &str, inputs: usize, outputs: usize, kernel: [usize; 3]) -> Result<Conv3d> {
    let [time, height, width] = kernel;
    let own = w.scope(name);
    let half = [usize::from(time > 1), height / 2, width / 2];
    let options = Conv3dOptions { stride: [1; 3], front: half, back: half, time_padding: Padding::Replicate, space_padding: Padding::Zero };
    let weight = own.tensor("weight", &[outputs, inputs, time, height, width])?;
    Ok(Conv3d::new(name, weight, own.tensor("bias", &[outputs])?, options))
}

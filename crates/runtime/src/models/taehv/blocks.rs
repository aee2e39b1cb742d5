//! What encoder and decoder are made of: convolutions over space alone, and blocks that see the frame before.
//! Frames are `[B, F, H, W, C]`.

use kinora_kernels::op::Padding;
use kinora_kernels::{Conv3dOptions, PatchOrder, Shape, Tensor, Weight};

use crate::error::Result;
use crate::nn::{Carry, Conv3d, Linear, Weights};

/// A convolution of 3×3 pixels that keeps the extents or halves them.
pub(super) fn conv(w: &Weights<'_>, name: &str, [inputs, outputs]: [usize; 2], stride: usize, bias: bool) -> Result<Conv3d> {
    let weight = w.tensor_as(&format!("{name}.weight"), &[outputs, inputs, 3, 3], &[outputs, inputs, 1, 3, 3])?;
    let bias = bias.then(|| w.tensor(&format!("{name}.bias"), &[outputs])).transpose()?;
    Ok(Conv3d::new(name, weight, bias, around([1, stride, stride], 0)))
}

/// The pixels around, and so many frames before.
fn around(stride: [usize; 3], past: usize) -> Conv3dOptions {
    let padding = Padding::Zero;
    Conv3dOptions { stride, front: [past, 1, 1], back: [0, 1, 1], time_padding: padding, space_padding: padding }
}

/// `MemBlock`: three convolutions, the first of which sees the frame before too, and a shortcut.
pub(super) struct MemBlock {
    first: Conv3d,
    second: Conv3d,
    third: Conv3d,
}

impl MemBlock {
    pub(super) fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        // The reference puts the frame before behind the channels of this one: a convolution over two frames.
        let name = "conv.0.weight";
        let file = w.values(name, &[channels, 2 * channels, 3, 3])?;
        let mut values = Vec::with_capacity(file.len());
        for outputs in file.chunks_exact(2 * channels * 9) {
            let (now, before) = outputs.split_at(channels * 9);
            now.chunks_exact(9).zip(before.chunks_exact(9)).for_each(|(now, before)| values.extend(before.iter().chain(now)));
        }
        let weight = Weight::from_f32(name, Shape::new(&[channels, channels, 2, 3, 3]), &values, w.format());
        let bias = w.tensor("conv.0.bias", &[channels])?;
        Ok(Self {
            first: Conv3d::new("conv.0", weight, Some(bias), around([1; 3], 1)),
            second: conv(w, "conv.2", [channels; 2], 1, true)?,
            third: conv(w, "conv.4", [channels; 2], 1, true)?,
        })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        let h = self.first.forward_chunk(x, carry).relu();
        (self.third.forward(self.second.forward(h).relu()) + x).relu()
    }
}

/// Three blocks with numbers from `first` on.
pub(super) struct MemBlocks {
    first: usize,
    blocks: Vec<MemBlock>,
}

impl MemBlocks {
    pub(super) fn load(w: &Weights<'_>, first: usize, channels: usize) -> Result<Self> {
        let block = |i: usize| MemBlock::load(&w.scope(i), channels);
        Ok(Self { first, blocks: (first..first + 3).map(block).collect::<Result<_>>()? })
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>, carry: &Carry<'p>) -> Tensor<'p> {
        for (i, block) in self.blocks.iter().enumerate() {
            x = x.plan().scope((self.first + i).to_string(), || block.forward(x, carry));
        }
        x
    }
}

/// `TPool` and `TGrow`: the pixels of so many frames become those of one, or the other way round.
pub(super) struct Frames {
    linear: Linear,
    count: usize,
}

impl Frames {
    /// The layer `name` from `inputs` to `outputs` channels.
    pub(super) fn load(w: &Weights<'_>, name: &str, count: usize, [inputs, outputs]: [usize; 2]) -> Result<Self> {
        let weight = w.tensor_as(&format!("{name}.conv.weight"), &[outputs, inputs, 1, 1], &[outputs, inputs])?;
        Ok(Self { linear: Linear::new(name, weight, None), count })
    }

    pub(super) fn join<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let patch = [self.count, 1, 1];
        self.linear.forward(if self.count == 1 { x } else { x.pixel_unshuffle_3d(patch, PatchOrder::ChannelInnermost) })
    }

    pub(super) fn part<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let y = self.linear.forward(x);
        if self.count == 1 { y } else { y.pixel_shuffle_3d([self.count, 1, 1], PatchOrder::ChannelInnermost) }
    }
}

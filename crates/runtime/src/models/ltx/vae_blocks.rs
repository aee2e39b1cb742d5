//! What encoder and decoder of the video autoencoder are made of (`AutoencoderKLLTXVideo` of diffusers).
//! Frames are `[B, F, H, W, C]`.

use kinora_kernels::{PatchOrder, Plan, Tensor};

use crate::error::{Error, Result};
use crate::nn::{Conv3d, Conv3dConfig, LayerNorm, Modulation, RmsNorm, ScaleShiftTable, TimePadding, TimestepEmbedder, Weights};

/// Added to the mean square in all RMS norms of the autoencoder.
const NORM_EPS: f32 = 1e-8;

/// The norm before an activation.
pub(super) fn norm(name: &str) -> RmsNorm {
    RmsNorm::plain(name, NORM_EPS)
}

/// Noise level of the latents, as the decoder sees it.
#[derive(Clone, Copy)]
pub(super) struct Timestep<'p> {
    /// Sinusoidal features per batch entry `[B, 256]`.
    pub(super) features: Tensor<'p>,
}

impl<'p> Timestep<'p> {
    /// Scale and shift parts for the pixels of `x`: the embedding `[B, parts·C]` plus a learned table, by batch entry.
    pub(super) fn modulation(embedding: Tensor<'p>, offset: &ScaleShiftTable, x: Tensor<'p>) -> Modulation<'p> {
        let plan: &'p Plan = x.plan();
        let pixels = x.rows() / embedding.rows().max(1);
        let index: Vec<u32> = (0..embedding.rows() as u32).flat_map(|b| std::iter::repeat_n(b, pixels)).collect();
        Modulation::new(offset.forward(plan, embedding), plan.index_constant(&index), x.channels())
    }
}

/// `LTXVideoResnetBlock3d`: twice norm, `SiLU` and convolution, and a shortcut.
pub(super) struct ResnetBlock {
    norm1: RmsNorm,
    conv1: Conv3d,
    norm2: RmsNorm,
    conv2: Conv3d,
    shortcut: Option<(LayerNorm, Conv3d)>,
    scale_shift: Option<ScaleShiftTable>,
}

impl ResnetBlock {
    pub(super) fn load(w: &Weights<'_>, inputs: usize, outputs: usize, common: &Common) -> Result<Self> {
        let conv = |name: &str, from, kernel| w.conv3d(&format!("{name}.conv"), &Conv3dConfig::new(from, outputs, kernel, common.time));
        let shortcut = if inputs == outputs {
            None
        } else {
            Some((w.layer_norm("norm3", inputs, common.norm_eps)?, conv("conv_shortcut", inputs, 1)?))
        };
        Ok(Self {
            norm1: norm("norm1"),
            conv1: conv("conv1", inputs, 3)?,
            norm2: norm("norm2"),
            conv2: conv("conv2", outputs, 3)?,
            shortcut,
            scale_shift: common.timestep_conditioning.then(|| ScaleShiftTable::load(w, 4, inputs)).transpose()?,
        })
    }

    /// `embedding [B, 4·C]` is given exactly if the block is conditioned on the timestep.
    pub(super) fn forward<'p>(&self, x: Tensor<'p>, embedding: Option<Tensor<'p>>) -> Tensor<'p> {
        let modulation = self.scale_shift.as_ref().zip(embedding).map(|(table, e)| Timestep::modulation(e, table, x));
        let modulate = |h: Tensor<'p>, half: usize| match modulation {
            Some(m) => {
                let [shift_1, scale_1, shift_2, scale_2] = m.parts();
                if half == 0 { m.scale_shift(h, shift_1, scale_1) } else { m.scale_shift(h, shift_2, scale_2) }
            }
            None => h,
        };
        let h = modulate(self.norm1.forward(x), 0).silu();
        let h = self.conv1.forward(h);
        let h = modulate(self.norm2.forward(h), 1).silu();
        let h = self.conv2.forward(h);
        match &self.shortcut {
            Some((norm, conv)) => h + conv.forward(norm.forward(x)),
            None => h + x,
        }
    }
}

/// What all blocks of an encoder or decoder share.
#[derive(Clone, Copy)]
pub(super) struct Common {
    pub(super) time: TimePadding,
    /// Added to the variance in the layer norms of shortcuts.
    pub(super) norm_eps: f32,
    pub(super) timestep_conditioning: bool,
}

/// Residual blocks of one width that share a timestep embedding.
pub(super) struct ResnetStack {
    embedder: Option<TimestepEmbedder>,
    resnets: Vec<ResnetBlock>,
}

impl ResnetStack {
    pub(super) fn load(w: &Weights<'_>, channels: usize, layers: usize, common: &Common) -> Result<Self> {
        let resnets =
            (0..layers).map(|i| ResnetBlock::load(&w.scope("resnets").scope(i), channels, channels, common)).collect::<Result<_>>()?;
        let embedder = || TimestepEmbedder::load(&w.scope("time_embedder.timestep_embedder"), 4 * channels);
        Ok(Self { embedder: common.timestep_conditioning.then(embedder).transpose()?, resnets })
    }

    pub(super) fn forward<'p>(&self, mut x: Tensor<'p>, timestep: Option<Timestep<'p>>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        let embedding = self.embedder.as_ref().zip(timestep);
        let embedding = plan.scope("time_embedder", || embedding.map(|(embedder, t)| embedder.forward(t.features)));
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = plan.scope(format!("resnets.{i}"), || resnet.forward(x, embedding));
        }
        x
    }
}

/// `LTXVideoDownsampler3d`: a convolution whose pixels move into the channels, plus averaged groups of the input's.
pub(super) struct Downsampler {
    stride: [usize; 3],
    group: usize,
    conv: Conv3d,
}

impl Downsampler {
    /// `inputs` → `outputs` channels, extents divided by `stride`.
    pub(super) fn load(w: &Weights<'_>, inputs: usize, outputs: usize, stride: [usize; 3], time: TimePadding) -> Result<Self> {
        let block: usize = stride.iter().product();
        if !outputs.is_multiple_of(block) || !(inputs * block).is_multiple_of(outputs) {
            let problem = format!("{inputs} to {outputs} channels: expected a multiple of {block} that divides {}", inputs * block);
            return Err(Error::InvalidConfig { file: w.label().into(), problem });
        }
        // The clip is extended in front by its first frame so that 1 + s·n frames become 1 + n.
        let config = Conv3dConfig { extra_front: stride[0] - 1, ..Conv3dConfig::new(inputs, outputs / block, 3, time) };
        Ok(Self { stride, group: inputs * block / outputs, conv: w.conv3d("conv.conv", &config)? })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let extended = if self.stride[0] > 1 {
            let frames: Vec<usize> = (0..self.stride[0] - 1).chain(0..x.shape().dims()[1]).collect();
            x.take_frames(&frames)
        } else {
            x
        };
        let residual = extended.pixel_unshuffle_3d(self.stride, PatchOrder::TimeHeightWidth).group_mean(self.group);
        self.conv.forward(x).pixel_unshuffle_3d(self.stride, PatchOrder::TimeHeightWidth) + residual
    }
}

/// `LTXVideoUpsampler3d`: a convolution whose channels become pixels, with or without the input's added.
pub(super) struct Upsampler {
    residual_repeats: Option<usize>,
    conv: Conv3d,
}

impl Upsampler {
    const STRIDE: [usize; 3] = [2, 2, 2];

    /// `channels` → `channels / factor`, extents doubled.
    pub(super) fn load(w: &Weights<'_>, channels: usize, factor: usize, residual: bool, time: TimePadding) -> Result<Self> {
        let block: usize = Self::STRIDE.iter().product();
        let conv = w.conv3d("conv.conv", &Conv3dConfig::new(channels, channels * block / factor, 3, time))?;
        Ok(Self { residual_repeats: residual.then_some(block / factor), conv })
    }

    pub(super) fn forward<'p>(&self, x: Tensor<'p>) -> Tensor<'p> {
        let mut y = self.conv.forward(x);
        if let Some(repeats) = self.residual_repeats {
            // The reference adds after the shuffle. Before it is the same, since the shuffle of repeated channels is the
            // repeated shuffle, and there the sum costs no step of its own.
            y = y + x.repeat_channels(repeats);
        }
        let y = y.pixel_shuffle_3d(Self::STRIDE, PatchOrder::TimeHeightWidth);
        // 1 + n latents become 1 + 2·n: the first is not doubled.
        let frames: Vec<usize> = (Self::STRIDE[0] - 1..y.shape().dims()[1]).collect();
        y.take_frames(&frames)
    }
}

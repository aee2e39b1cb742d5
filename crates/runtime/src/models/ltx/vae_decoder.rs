//! The decoder of the video autoencoder, latents to frames (`LTXVideoDecoder3d` of diffusers; arXiv 2501.00103 §2).

use kinora_kernels::{PatchOrder, Plan, Tensor};

use super::VaeConfig;
use super::vae_blocks::{Common, ResnetBlock, ResnetStack, Timestep, Upsampler, norm};
use crate::error::{Error, Result};
use crate::nn::embed::timestep_features;
use crate::nn::{Conv3d, Conv3dConfig, RmsNorm, ScaleShiftTable, TimePadding, TimestepEmbedder, Weights};

/// Latents to frames.
pub struct VaeDecoder {
    patch: [usize; 3],
    conv_in: Conv3d,
    mid_block: ResnetStack,
    up_blocks: Vec<UpBlock>,
    norm_out: RmsNorm,
    conditioning: Option<Conditioning>,
    conv_out: Conv3d,
}

/// What the decoder needs to be told the noise level left in the latents.
struct Conditioning {
    timestep_scale: f32,
    embedder: TimestepEmbedder,
    scale_shift: ScaleShiftTable,
}

impl VaeDecoder {
    /// Takes every tensor of the scope, which is `decoder` in a checkpoint.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongDType`], [`Error::InvalidConfig`].
    pub fn load(w: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let time = TimePadding::from_causal(config.decoder_causal);
        let common = Common { time, norm_eps: config.resnet_norm_eps, timestep_conditioning: config.timestep_conditioning };
        let blocks = config.decoder_block_out_channels.len();
        // The lists of the configuration run from the pixels to the latents.
        let mut channels = config.decoder_block_out_channels[blocks - 1];
        let conv_in = w.conv3d("conv_in.conv", &Conv3dConfig::new(config.latent_channels, channels, 3, time))?;
        let mid_block = ResnetStack::load(&w.scope("mid_block"), channels, config.decoder_layers_per_block[blocks], &common)?;
        let mut up_blocks = Vec::with_capacity(blocks);
        for i in 0..blocks {
            let at = blocks - 1 - i;
            let factor = config.upsample_factor[at];
            let block = UpBlockConfig {
                inputs: channels / factor,
                outputs: config.decoder_block_out_channels[at] / factor,
                factor,
                layers: config.decoder_layers_per_block[at],
                upsample: config.decoder_spatio_temporal_scaling[at].then_some(config.upsample_residual[at]),
            };
            up_blocks.push(block.load(&w.scope("up_blocks").scope(i), &common)?);
            channels = block.outputs;
        }
        let conditioning = || -> Result<Conditioning> {
            Ok(Conditioning {
                timestep_scale: w.values("timestep_scale_multiplier", &[])?[0],
                embedder: TimestepEmbedder::load(&w.scope("time_embedder.timestep_embedder"), 2 * channels)?,
                scale_shift: ScaleShiftTable::load(w, 2, channels)?,
            })
        };
        let pixels = config.out_channels * config.patch_size * config.patch_size;
        Ok(Self {
            patch: [config.patch_size_t, config.patch_size, config.patch_size],
            conv_in,
            mid_block,
            up_blocks,
            norm_out: norm("norm_out"),
            conditioning: config.timestep_conditioning.then(conditioning).transpose()?,
            conv_out: w.conv3d("conv_out.conv", &Conv3dConfig::new(channels, pixels, 3, time))?,
        })
    }

    /// The timestep features `[B, 256]` for noise levels in 0..1, one per batch entry; `None` if the decoder takes none.
    pub fn timestep_features(&self, noise_levels: &[f32]) -> Option<Vec<f32>> {
        let scale = self.conditioning.as_ref()?.timestep_scale;
        Some(timestep_features(&noise_levels.iter().map(|t| t * scale).collect::<Vec<_>>()))
    }

    /// Latents `z [B, F, H, W, C]` → frames `[B, F', H', W', 3]` in −1..1. `timestep_features` is required exactly if
    /// the decoder is [conditioned](Self::timestep_features).
    pub fn forward<'p>(&self, plan: &'p Plan, z: Tensor<'p>, timestep_features: Option<Tensor<'p>>) -> Tensor<'p> {
        if timestep_features.is_some() != self.conditioning.is_some() {
            let text = |given: bool| if given { "timestep features" } else { "no timestep features" };
            plan.fail("vae_decoder", text(self.conditioning.is_some()), text(timestep_features.is_some()));
        }
        let timestep = timestep_features.map(|features| Timestep { features });
        let x = self.conv_in.forward(z);
        let mut x = plan.scope("mid_block", || self.mid_block.forward(x, timestep));
        for (i, block) in self.up_blocks.iter().enumerate() {
            x = plan.scope(format!("up_blocks.{i}"), || block.forward(x, timestep));
        }
        let mut x = self.norm_out.forward(x);
        if let (Some(c), Some(timestep)) = (&self.conditioning, timestep) {
            let embedding = plan.scope("time_embedder", || c.embedder.forward(timestep.features));
            let modulation = Timestep::modulation(embedding, &c.scale_shift, x);
            let [shift, scale] = modulation.parts();
            x = modulation.scale_shift(x, shift, scale);
        }
        self.conv_out.forward(x.silu()).pixel_shuffle_3d(self.patch, PatchOrder::TimeWidthHeight)
    }
}

/// `LTXVideoUpBlock3d`.
struct UpBlock {
    conv_in: Option<ResnetBlock>,
    upsampler: Option<Upsampler>,
    resnets: ResnetStack,
}

struct UpBlockConfig {
    inputs: usize,
    outputs: usize,
    factor: usize,
    layers: usize,
    /// Whether the extents double, and if so, whether with a shortcut.
    upsample: Option<bool>,
}

impl UpBlockConfig {
    fn load(&self, w: &Weights<'_>, common: &Common) -> Result<UpBlock> {
        let &Self { inputs, outputs, factor, layers, upsample } = self;
        if inputs != outputs && common.timestep_conditioning {
            return Err(Error::InvalidConfig {
                file: w.label().into(),
                problem: format!("a timestep-conditioned decoder block cannot change its width ({inputs} to {outputs} channels)"),
            });
        }
        let conv_in = (inputs != outputs).then(|| ResnetBlock::load(&w.scope("conv_in"), inputs, outputs, common));
        let upsampler = upsample.map(|residual| Upsampler::load(&w.scope("upsamplers.0"), outputs * factor, factor, residual, common.time));
        Ok(UpBlock {
            conv_in: conv_in.transpose()?,
            upsampler: upsampler.transpose()?,
            resnets: ResnetStack::load(w, outputs, layers, common)?,
        })
    }
}

impl UpBlock {
    fn forward<'p>(&self, mut x: Tensor<'p>, timestep: Option<Timestep<'p>>) -> Tensor<'p> {
        let plan: &'p Plan = x.plan();
        if let Some(resnet) = &self.conv_in {
            x = plan.scope("conv_in", || resnet.forward(x, None));
        }
        if let Some(upsampler) = &self.upsampler {
            x = plan.scope("upsamplers.0", || upsampler.forward(x));
        }
        self.resnets.forward(x, timestep)
    }
}

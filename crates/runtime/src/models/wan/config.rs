//! `config.json` of the two classes, with the defaults of diffusers.

use serde::Deserialize;

use super::TEXT_TO_VIDEO;
use crate::error::Result;
use crate::models::causal::Causal;
use crate::models::{parse_config, require, require_head_size};

/// `WanTransformer3DModel`. Its field `qk_norm` is not here, because the class does not read it: queries and keys are
/// normalised whatever it says.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// Latents of a token in time, height and width.
    pub patch_size: [usize; 3],
    /// N.
    pub num_attention_heads: usize,
    /// d.
    pub attention_head_dim: usize,
    /// Channels of the latents it sees, with those it is conditioned on.
    pub in_channels: usize,
    /// Channels of the predicted velocity; as many as `in_channels` if absent.
    pub out_channels: Option<usize>,
    /// Channels of a text embedding.
    pub text_dim: usize,
    /// Sinusoidal features of a timestep.
    pub freq_dim: usize,
    /// Width inside the MLP of a block.
    pub ffn_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether tokens are normalised before the cross-attention.
    pub cross_attn_norm: bool,
    /// Added to the variance in all norms.
    pub eps: f32,
    /// Channels of an image embedding, if images are part of the context.
    pub image_dim: Option<usize>,
    /// Channels of the context for the added keys and values of images, which must be the width D.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions on each axis.
    pub rope_max_seq_len: usize,
    /// Tokens of all images of a clip together, if they have learned positions.
    pub pos_embed_seq_len: Option<usize>,
    /// Blocks after which what a second branch makes of the given clip is added, from 0 on; none without that branch (VACE).
    pub vace_layers: Vec<usize>,
    /// Channels that the second branch sees.
    pub vace_in_channels: usize,
    /// How it is told where a step ends, if it is (`AnyFlow`).
    #[serde(skip)]
    pub flow_map: Option<FlowMap>,
    /// What the file says besides what the class reads.
    pub kinora: Extensions,
}

/// Keys of ours in the `config.json` of a transformer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extensions {
    /// It goes through a clip block by block.
    pub causal: Option<Causal>,
}

/// The second timestep of `AnyFlowTransformer3DModel` (arXiv 2605.13724).
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct FlowMap {
    /// Its share of the embedding.
    pub gate_value: f32,
    /// `r`: it is where the step ends; `t-r`: it is how far that is.
    pub deltatime_type: String,
}

impl Default for FlowMap {
    fn default() -> Self {
        Self { gate_value: 0.25, deltatime_type: "r".into() }
    }
}

impl FlowMap {
    /// What is embedded of a step.
    pub(super) fn delta(&self, timestep: f32, end: f32) -> f32 {
        if self.deltatime_type == "r" { end } else { timestep - end }
    }
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: Some(16),
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
            vace_layers: Vec::new(),
            vace_in_channels: 96,
            flow_map: None,
            kinora: Extensions::default(),
        }
    }
}

impl TransformerConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (head, width) = (config.attention_head_dim, config.width());
        require(file, "attention_head_dim", &head, head >= 6 && head.is_multiple_of(2), "an even number from 6 on")?;
        require_head_size(file, "attention_head_dim", head)?;
        let groups = config.rope_period() > 0 && width > 0 && width.is_multiple_of(config.rope_period());
        require(file, "num_attention_heads · attention_head_dim", &width, groups, "a multiple of 4")?;
        require(file, "freq_dim", &config.freq_dim, config.freq_dim >= 2 && config.freq_dim.is_multiple_of(2), "an even number from 2 on")?;
        let patch = config.patch_size;
        require(file, "patch_size", &format!("{patch:?}"), !patch.contains(&0), "three numbers from 1 on")?;
        let sizes = [config.in_channels, config.velocity_channels(), config.text_dim, config.ffn_dim];
        require(file, "in_channels, out_channels, text_dim, ffn_dim", &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        if let Some(added) = config.added_kv_proj_dim {
            require(file, "added_kv_proj_dim", &added, added == width, &format!("the width {width}"))?;
            require(file, "image_dim", &"null", config.image_dim.is_some(), "a number, since added_kv_proj_dim is one")?;
        }
        if config.image_dim.is_some() {
            require(file, "added_kv_proj_dim", &"null", config.added_kv_proj_dim.is_some(), "a number, since image_dim is one")?;
        }
        let positions = config.pos_embed_seq_len.unwrap_or(2);
        require(file, "pos_embed_seq_len", &positions, positions > 0 && positions.is_multiple_of(2), "null or an even number from 2 on")?;
        if let Some(causal) = &config.kinora.causal {
            causal.check(file)?;
            let plain = patch[0] == 1 && config.image_dim.is_none() && config.in_channels == config.velocity_channels();
            let expected = "none in a model that is given images, or joins frames to tokens";
            require(file, "kinora.causal", &"one", plain && config.vace_layers.is_empty(), expected)?;
        }
        Ok(config)
    }

    /// `AnyFlowTransformer3DModel`, which is told where a step ends.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse_flow_map(json: &str, file: &str) -> Result<Self> {
        let flow_map: FlowMap = parse_config(json, file)?;
        let kinds = ["r", "t-r"].contains(&flow_map.deltatime_type.as_str());
        require(file, "deltatime_type", &flow_map.deltatime_type, kinds, "r or t-r")?;
        let config = Self { flow_map: Some(flow_map), ..Self::parse(json, file)? };
        require(file, "image_dim", &config.image_dim.unwrap_or(0), config.image_dim.is_none(), "null, as in text-to-video")?;
        Ok(config)
    }

    /// `WanVACETransformer3DModel`, which has another branch.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse_vace(json: &str, file: &str) -> Result<Self> {
        let mut config = Self::parse(json, file)?;
        if config.vace_layers.is_empty() {
            // The class's default.
            config.vace_layers = (0..40).step_by(5).collect();
        }
        let layers = &config.vace_layers;
        let rise = layers.windows(2).all(|pair| pair[0] < pair[1]) && layers[0] == 0;
        let expected = format!("rising numbers of blocks from 0 to below {}", config.num_layers);
        require(file, "vace_layers", &format!("{layers:?}"), rise && layers.iter().all(|at| *at < config.num_layers), &expected)?;
        require(file, "vace_in_channels", &config.vace_in_channels, config.vace_in_channels > 0, "at least 1")?;
        Ok(config)
    }

    /// Refuses a model that sees other channels than its pipeline gives it: the latents that it denoises, and in image-to-video more.
    /// `pipeline` is absent for one that is run by itself.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub(super) fn check_pipeline(&self, pipeline: Option<&str>, file: &str) -> Result<()> {
        let made = self.velocity_channels();
        if pipeline.is_some() {
            let expected = format!("at least the {made} out_channels, since it sees what it denoises");
            require(file, "in_channels", &self.in_channels, self.in_channels >= made, &expected)?;
        }
        if pipeline != Some(TEXT_TO_VIDEO) {
            return Ok(());
        }
        let expected = format!("the {made} out_channels, as in text-to-video; image-to-video has the pipeline WanImageToVideoPipeline");
        require(file, "in_channels", &self.in_channels, self.in_channels == made, &expected)?;
        require(file, "image_dim", &self.image_dim.unwrap_or(0), self.image_dim.is_none(), "null, as in text-to-video")
    }

    /// D = N · d.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// Channels of the predicted velocity.
    pub fn velocity_channels(&self) -> usize {
        self.out_channels.filter(|channels| *channels > 0).unwrap_or(self.in_channels)
    }

    /// Latents of a token.
    pub fn patch_latents(&self) -> usize {
        self.patch_size.iter().product()
    }

    /// Columns after which the angles of a token repeat, in groups of four: one head, or two that share their groups.
    pub(super) fn rope_period(&self) -> usize {
        if self.attention_head_dim.is_multiple_of(4) { self.attention_head_dim } else { self.attention_head_dim.saturating_mul(2) }
    }
}

/// `AutoencoderKLWan`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Narrowest width of the encoder.
    pub base_dim: usize,
    /// Narrowest width of the decoder; that of the encoder if absent.
    pub decoder_base_dim: Option<usize>,
    /// C.
    pub z_dim: usize,
    /// Widths of the stages from the pixels to the latents, in units of the narrowest.
    pub dim_mult: Vec<usize>,
    /// Residual blocks per stage of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// Stages with attention; none may.
    pub attn_scales: Vec<f32>,
    /// Which stages but the last halve time.
    pub temperal_downsample: Vec<bool>,
    /// Means of the latents.
    pub latents_mean: Vec<f32>,
    /// Deviations of the latents.
    pub latents_std: Vec<f32>,
    /// Whether stages have shortcuts (Wan 2.2).
    pub is_residual: bool,
    /// Channels of an image after its patches have moved into the channels.
    pub in_channels: usize,
    /// The same of decoded images.
    pub out_channels: usize,
    /// Edge of a spatial patch in pixels; 1 if absent.
    pub patch_size: Option<usize>,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temperal_downsample: vec![false, true, true],
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497,
                0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251,
                1.9160,
            ],
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
        }
    }
}

/// Frames that the reference encodes at a time, after the first.
pub const ENCODED_FRAMES: usize = 4;

impl VaeConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let [stages, halvings] = [config.dim_mult.len(), config.temperal_downsample.len()];
        require(file, "number of dim_mult", &stages, stages >= 1, "at least 1")?;
        require(file, "number of temperal_downsample", &halvings, halvings + 1 == stages, &(stages - 1).to_string())?;
        let time = config.temporal_compression();
        require(file, "temperal_downsample", &format!("{time}-fold"), time <= ENCODED_FRAMES, "at most two halvings of time")?;
        require(file, "attn_scales", &format!("{:?}", config.attn_scales), config.attn_scales.is_empty(), "[]")?;
        let sizes = [config.base_dim, config.decoder_dim(), config.z_dim, config.in_channels, config.out_channels, config.patch()];
        let known = !sizes.contains(&0) && !config.dim_mult.contains(&0);
        require(
            file,
            "base_dim, decoder_base_dim, z_dim, channels, patch_size, dim_mult",
            &format!("{sizes:?}"),
            known,
            "at least 1 each",
        )?;
        let pixels = config.patch().saturating_mul(config.patch());
        let colours = [config.in_channels, config.out_channels];
        let whole = colours.iter().all(|channels| channels.is_multiple_of(pixels));
        require(file, "in_channels and out_channels", &format!("{colours:?}"), whole, &format!("multiples of patch_size² = {pixels}"))?;
        // The attention in the middle has one head.
        require_head_size(file, "base_dim · dim_mult", config.encoder_widths(stages - 1)[1])?;
        require_head_size(file, "decoder_base_dim · dim_mult", config.decoder_widths(stages - 1)[0])?;
        for stage in 0..stages {
            let multiples = format!("{:?}", config.dim_mult);
            let [inputs, outputs] = config.encoder_widths(stage);
            let pooled = !config.is_residual || inputs.saturating_mul(config.block(stage)).is_multiple_of(outputs);
            require(file, "dim_mult", &multiples, pooled, "widths that the encoder's shortcuts can average")?;
            let [inputs, outputs] = config.decoder_widths(stage);
            let resampled = |below: usize| match config.is_residual {
                true => outputs.saturating_mul(config.block(below)).is_multiple_of(inputs),
                false => outputs.is_multiple_of(2),
            };
            let expected = "widths that the decoder's upsampling can halve (Wan 2.1) or its shortcuts can repeat (Wan 2.2)";
            require(file, "dim_mult", &multiples, stage.checked_sub(1).is_none_or(resampled), expected)?;
        }
        Ok(config)
    }

    /// Refuses statistics of another number of channels, which only a pipeline reads: the defaults are those of Wan 2.1.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub(super) fn check_statistics(&self, file: &str) -> Result<()> {
        for (name, values) in [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)] {
            let expected = format!("one value for each of the {} channels (z_dim)", self.z_dim);
            require(file, name, &format!("{} values", values.len()), values.len() == self.z_dim, &expected)?;
        }
        Ok(())
    }

    /// Edge of a spatial patch in pixels.
    pub fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// Frames per latent, except for the first, which is one frame.
    pub fn temporal_compression(&self) -> usize {
        1 << self.temperal_downsample.iter().filter(|halved| **halved).count()
    }

    /// Pixels per latent on each spatial axis.
    pub fn spatial_compression(&self) -> usize {
        self.patch() << self.temperal_downsample.len()
    }

    /// Narrowest width of the decoder.
    fn decoder_dim(&self) -> usize {
        self.decoder_base_dim.unwrap_or(self.base_dim)
    }

    /// Channels into and out of a stage of the encoder, counted from the pixels.
    pub(super) fn encoder_widths(&self, stage: usize) -> [usize; 2] {
        let inputs = if stage == 0 { 1 } else { self.dim_mult[stage - 1] };
        [inputs, self.dim_mult[stage]].map(|multiple| multiple.saturating_mul(self.base_dim))
    }

    /// Channels into and out of a stage of the decoder, counted from the pixels: into is the side of the latents.
    pub(super) fn decoder_widths(&self, stage: usize) -> [usize; 2] {
        let last = stage + 1 == self.dim_mult.len();
        let inputs = self.dim_mult[if last { stage } else { stage + 1 }].saturating_mul(self.decoder_dim());
        // The upsampling behind a stage halves its width in Wan 2.1 and keeps it in 2.2.
        let inputs = if last || self.is_residual { inputs } else { inputs / 2 };
        [inputs, self.dim_mult[stage].saturating_mul(self.decoder_dim())]
    }

    /// Positions that the resampling on the latent side of a stage joins in time, height and width.
    pub(super) fn factors(&self, stage: usize) -> [usize; 3] {
        match self.temperal_downsample.get(stage) {
            None => [1, 1, 1],
            Some(time) => [1 + usize::from(*time), 2, 2],
        }
    }

    fn block(&self, stage: usize) -> usize {
        self.factors(stage).iter().product()
    }
}

//! `config.json` of the two classes, with the defaults of diffusers.

use serde::Deserialize;

use crate::error::Result;
use crate::models::{parse_config, require, require_head_size};

/// `CogVideoXTransformer3DModel`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct TransformerConfig {
    /// N.
    pub num_attention_heads: usize,
    /// d.
    pub attention_head_dim: usize,
    /// Channels of the latents it sees.
    pub in_channels: usize,
    /// Channels of the prediction; as many as `in_channels` if absent.
    pub out_channels: Option<usize>,
    /// Cosines before sines in the features of a timestep; must be.
    pub flip_sin_to_cos: bool,
    /// Shift of their frequencies; must be 0.
    pub freq_shift: f32,
    /// Width of an embedded timestep.
    pub time_embed_dim: usize,
    /// Width of an embedded offset; must be absent.
    pub ofs_embed_dim: Option<usize>,
    /// Channels of a text embedding.
    pub text_embed_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether queries, keys and values have a bias.
    pub attention_bias: bool,
    /// Width of the latents it was trained on.
    pub sample_width: usize,
    /// Height of the latents it was trained on.
    pub sample_height: usize,
    /// Edge of a patch of latents.
    pub patch_size: usize,
    /// Latent frames of a patch; 1 if absent.
    pub patch_size_t: Option<usize>,
    /// Text tokens of a sequence, which fixed positions demand.
    pub max_text_seq_length: usize,
    /// Inside the MLP of a block; must be `gelu-approximate`.
    pub activation_fn: String,
    /// Inside the MLP of the timestep; must be `silu`.
    pub timestep_activation_fn: String,
    /// Whether norms have a gain and a bias.
    pub norm_elementwise_affine: bool,
    /// Added to the variance in the norms of tokens.
    pub norm_eps: f32,
    /// What fixed positions in height and width are divided by.
    pub spatial_interpolation_scale: f32,
    /// What fixed positions in time are divided by.
    pub temporal_interpolation_scale: f32,
    /// Rotary positions instead of fixed ones.
    pub use_rotary_positional_embeddings: bool,
    /// Learned positions beside rotary ones; must be false.
    pub use_learned_positional_embeddings: bool,
    /// Whether the embedding of patches has a bias; with patches in time it always has.
    pub patch_bias: bool,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            num_attention_heads: 30,
            attention_head_dim: 64,
            in_channels: 16,
            out_channels: Some(16),
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            time_embed_dim: 512,
            ofs_embed_dim: None,
            text_embed_dim: 4096,
            num_layers: 30,
            attention_bias: true,
            sample_width: 90,
            sample_height: 60,
            patch_size: 2,
            patch_size_t: None,
            max_text_seq_length: 226,
            activation_fn: "gelu-approximate".into(),
            timestep_activation_fn: "silu".into(),
            norm_elementwise_affine: true,
            norm_eps: 1e-5,
            spatial_interpolation_scale: 1.875,
            temporal_interpolation_scale: 1.0,
            use_rotary_positional_embeddings: false,
            use_learned_positional_embeddings: false,
            patch_bias: true,
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
        require_head_size(file, "attention_head_dim", head)?;
        if config.use_rotary_positional_embeddings {
            // A quarter for time, three eighths for height and for width, each in pairs.
            require(file, "attention_head_dim", &head, head.is_multiple_of(16), "a multiple of 16, since positions are rotary")?;
        } else {
            let expected = "a multiple of 16, since positions are fixed";
            require(file, "num_attention_heads · attention_head_dim", &width, width.is_multiple_of(16), expected)?;
        }
        // Parts of a modulation table begin at multiples of four, as do the heads that share a norm.
        require(file, "attention_head_dim", &head, head.is_multiple_of(4), "a multiple of 4")?;
        let sizes = [width, config.in_channels, config.predicted_channels(), config.text_embed_dim, config.time_embed_dim];
        let known = !sizes.contains(&0) && !config.packing().contains(&0);
        let fields = "num_attention_heads, in_channels, out_channels, text_embed_dim, time_embed_dim, patch_size, patch_size_t";
        require(file, fields, &format!("{sizes:?} and {:?}", config.packing()), known, "at least 1 each")?;
        let trained = [config.sample_width / config.patch_size, config.sample_height / config.patch_size];
        require(file, "sample_width and sample_height", &format!("{trained:?} patches"), !trained.contains(&0), "at least one patch")?;
        let scales = [config.spatial_interpolation_scale, config.temporal_interpolation_scale];
        let positive = scales.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        require(file, "spatial_interpolation_scale and temporal_interpolation_scale", &format!("{scales:?}"), positive, "above 0")?;
        require(file, "flip_sin_to_cos", &config.flip_sin_to_cos, config.flip_sin_to_cos, "true")?;
        require(file, "freq_shift", &config.freq_shift, config.freq_shift == 0.0, "0")?;
        let ofs = config.ofs_embed_dim;
        require(file, "ofs_embed_dim", &ofs.unwrap_or(0), ofs.is_none(), "null, as in text-to-video")?;
        let learned = config.use_learned_positional_embeddings;
        require(file, "use_learned_positional_embeddings", &learned, !learned, "false, as in text-to-video")?;
        require(file, "activation_fn", &config.activation_fn, config.activation_fn == "gelu-approximate", "gelu-approximate")?;
        let timestep = &config.timestep_activation_fn;
        require(file, "timestep_activation_fn", timestep, matches!(timestep.as_str(), "silu" | "swish"), "silu")?;
        Ok(config)
    }

    /// Refuses a model that sees more than the latents it denoises: image-to-video, which is no text-to-video pipeline's.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub(super) fn check_text_to_video(&self, file: &str) -> Result<()> {
        let made = self.predicted_channels();
        let expected = format!("the {made} out_channels, as in text-to-video; use a text-to-video model");
        require(file, "in_channels", &self.in_channels, self.in_channels == made, &expected)
    }

    /// D = N · d.
    pub fn width(&self) -> usize {
        self.num_attention_heads.saturating_mul(self.attention_head_dim)
    }

    /// Channels of the prediction.
    pub fn predicted_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Latents of a token in time, height and width.
    pub fn packing(&self) -> [usize; 3] {
        [self.patch_size_t.unwrap_or(1), self.patch_size, self.patch_size]
    }

    /// Latents of a token.
    pub fn patch_latents(&self) -> usize {
        self.packing().iter().product()
    }
}

/// `AutoencoderKLCogVideoX`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct VaeConfig {
    /// Colours of a frame.
    pub in_channels: usize,
    /// Colours of a decoded frame.
    pub out_channels: usize,
    /// Kinds of the encoder's stages.
    pub down_block_types: Vec<String>,
    /// Kinds of the decoder's stages.
    pub up_block_types: Vec<String>,
    /// Widths of the stages, from the pixels to the latents.
    pub block_out_channels: Vec<usize>,
    /// C.
    pub latent_channels: usize,
    /// Residual blocks of a stage of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Must be `silu`.
    pub act_fn: String,
    /// Added to the variance in the norms of the encoder's blocks; in those of the decoder and at the end it is 10⁻⁶.
    pub norm_eps: f32,
    /// Groups of channels that are normalised together.
    pub norm_num_groups: usize,
    /// Frames per latent, a power of two.
    pub temporal_compression_ratio: f32,
    /// What latents are multiplied with for the diffusion model.
    pub scaling_factor: f32,
    /// A convolution behind the encoder; must be false.
    pub use_quant_conv: bool,
    /// A convolution before the decoder; must be false.
    pub use_post_quant_conv: bool,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec![DOWN_BLOCK.into(); 4],
            up_block_types: vec![UP_BLOCK.into(); 4],
            block_out_channels: vec![128, 256, 256, 512],
            latent_channels: 16,
            layers_per_block: 3,
            act_fn: "silu".into(),
            norm_eps: 1e-6,
            norm_num_groups: 32,
            temporal_compression_ratio: 4.0,
            scaling_factor: 1.152_584_3,
            use_quant_conv: false,
            use_post_quant_conv: false,
        }
    }
}

const DOWN_BLOCK: &str = "CogVideoXDownBlock3D";
const UP_BLOCK: &str = "CogVideoXUpBlock3D";

impl VaeConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        let (widths, stages) = (&config.block_out_channels, config.block_out_channels.len());
        require(file, "number of block_out_channels", &stages, stages >= 1, "at least 1")?;
        for (name, kinds, known) in
            [("down_block_types", &config.down_block_types, DOWN_BLOCK), ("up_block_types", &config.up_block_types, UP_BLOCK)]
        {
            let all = kinds.len() == stages && kinds.iter().all(|kind| kind == known);
            require(file, name, &format!("{kinds:?}"), all, &format!("{known} {stages} times, once for each of block_out_channels"))?;
        }
        let groups = config.norm_num_groups;
        let whole = groups > 0 && widths.iter().all(|width| *width > 0 && width.is_multiple_of(groups) && width.is_multiple_of(4));
        let expected = format!("multiples of norm_num_groups, {groups}, and of 4");
        require(file, "block_out_channels", &format!("{widths:?}"), whole, &expected)?;
        let halvings = config.temporal_halvings();
        // Batches of eight frames must be whole latents.
        let most = (stages - 1).min(3);
        let whole = config.temporal_compression_ratio == (1 << halvings) as f32 && halvings <= most;
        let expected = format!("a power of two up to {}", 1 << most);
        require(file, "temporal_compression_ratio", &config.temporal_compression_ratio, whole, &expected)?;
        let sizes = [config.in_channels, config.out_channels, config.latent_channels];
        require(file, "in_channels, out_channels, latent_channels", &format!("{sizes:?}"), !sizes.contains(&0), "at least 1 each")?;
        require(file, "act_fn", &config.act_fn, matches!(config.act_fn.as_str(), "silu" | "swish"), "silu")?;
        let scale = config.scaling_factor;
        require(file, "scaling_factor", &scale, scale.is_finite() && scale > 0.0, "a number above 0")?;
        // The reference gives them as many channels as the pixels have colours, which fits no latents.
        require(file, "use_quant_conv", &config.use_quant_conv, !config.use_quant_conv, "false")?;
        require(file, "use_post_quant_conv", &config.use_post_quant_conv, !config.use_post_quant_conv, "false")?;
        Ok(config)
    }

    /// How often time is halved: by the encoder's stages next to the pixels and the decoder's next to the latents.
    pub(super) fn temporal_halvings(&self) -> usize {
        self.temporal_compression_ratio.max(1.0).log2() as usize
    }

    /// Frames per latent, except for the first, which is one frame.
    pub fn temporal_compression(&self) -> usize {
        1 << self.temporal_halvings()
    }

    /// Pixels per latent on each spatial axis.
    pub fn spatial_compression(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

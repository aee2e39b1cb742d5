//! The latent upsampler (`LTXLatentUpsamplerModel` of diffusers): latents to twice as many rows and columns, or frames.

use kinora_kernels::op::Padding;
use kinora_kernels::{Cadence, Conv3dOptions, PatchOrder, Plan, Tensor};
use serde::Deserialize;

use crate::error::Result;
use crate::eval::{Evaluation, Inputs, Output, Run};
use crate::manifest::Index;
use crate::models::family::{Doubles, Evaluate, LatentStage};
use crate::models::{parse_config, require};
use crate::nn::{Conv3d, GroupNorm, Weights};
use crate::sampling::tokens::{batched, channels_first, channels_last};

/// Groups of every norm, and what is added to its variance: the defaults of the reference.
const GROUPS: usize = 32;
const NORM_EPS: f32 = 1e-5;

/// `LTXLatentUpsamplerModel`, with the defaults of diffusers.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct UpsamplerConfig {
    /// C.
    pub in_channels: usize,
    /// Width inside.
    pub mid_channels: usize,
    /// Residual blocks before the doubling, and after it.
    pub num_blocks_per_stage: usize,
    /// 3 for convolutions over frames, 2 for each frame by itself.
    pub dims: usize,
    /// Whether height and width double.
    pub spatial_upsample: bool,
    /// Whether the frames double, but for the first.
    pub temporal_upsample: bool,
}

impl Default for UpsamplerConfig {
    fn default() -> Self {
        Self { in_channels: 128, mid_channels: 512, num_blocks_per_stage: 4, dims: 3, spatial_upsample: true, temporal_upsample: false }
    }
}

impl UpsamplerConfig {
    /// Parses `config.json`; `file` names it in errors.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let config: Self = parse_config(json, file)?;
        require(file, "dims", &config.dims, [2, 3].contains(&config.dims), "2 or 3")?;
        require(file, "in_channels", &config.in_channels, config.in_channels > 0, "at least 1")?;
        let groups = config.mid_channels > 0 && config.mid_channels.is_multiple_of(GROUPS);
        require(file, "mid_channels", &config.mid_channels, groups, &format!("a multiple of the {GROUPS} groups of its norms"))?;
        let found = format!("{} and {}", config.spatial_upsample, config.temporal_upsample);
        let doubles = config.spatial_upsample || (config.temporal_upsample && config.dims == 3);
        require(file, "spatial_upsample and temporal_upsample", &found, doubles, "one of them true, time only with 3 dims")?;
        let whole = config.dims == 3 || !config.temporal_upsample;
        require(file, "temporal_upsample", &config.temporal_upsample, whole, "false, since frames are taken by themselves")?;
        Ok(config)
    }
}

/// The model.
pub struct LatentUpsampler {
    config: UpsamplerConfig,
    second_pass: SecondPass,
    initial_conv: Conv3d,
    initial_norm: GroupNorm,
    res_blocks: Vec<ResBlock>,
    upsampler: Conv3d,
    post_upsample_res_blocks: Vec<ResBlock>,
    final_conv: Conv3d,
}

/// `ResBlock`.
struct ResBlock {
    conv1: Conv3d,
    norm1: GroupNorm,
    conv2: Conv3d,
    norm2: GroupNorm,
}

/// A convolution of 3×3 pixels with zeros around, of three frames where `dims` is 3.
fn conv(w: &Weights<'_>, name: &str, [inputs, outputs]: [usize; 2], dims: usize) -> Result<Conv3d> {
    let frames = if dims == 3 { 3 } else { 1 };
    let kernel = [&[outputs, inputs][..], &vec![3; dims]].concat();
    let weight = w.tensor_as(&format!("{name}.weight"), &kernel, &[outputs, inputs, frames, 3, 3])?;
    let around = [frames / 2, 1, 1];
    let options = Conv3dOptions { stride: [1; 3], front: around, back: around, time_padding: Padding::Zero, space_padding: Padding::Zero };
    Ok(Conv3d::new(name, weight, w.tensor(&format!("{name}.bias"), &[outputs])?, options))
}

impl ResBlock {
    fn load(w: &Weights<'_>, width: usize, dims: usize) -> Result<Self> {
        let norm = |name: &str| w.group_norm(name, GROUPS, width, NORM_EPS);
        Ok(Self {
            conv1: conv(w, "conv1", [width, width], dims)?,
            norm1: norm("norm1")?,
            conv2: conv(w, "conv2", [width, width], dims)?,
            norm2: norm("norm2")?,
        })
    }

    fn forward<'p>(&self, x: Tensor<'p>, batch: usize) -> Tensor<'p> {
        let y = self.norm1.forward(self.conv1.forward(x), batch).silu();
        (self.norm2.forward(self.conv2.forward(y), batch) + x).silu()
    }
}

impl LatentUpsampler {
    /// Takes every tensor of the scope.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::Error::MissingTensor), [`WrongShape`](crate::Error::WrongShape),
    /// [`WrongDType`](crate::Error::WrongDType).
    pub fn load(w: &Weights<'_>, config: &UpsamplerConfig) -> Result<Self> {
        let (width, dims, channels) = (config.mid_channels, config.dims, config.in_channels);
        let blocks = |name: &str| -> Result<Vec<ResBlock>> {
            let stage = w.scope(name);
            (0..config.num_blocks_per_stage).map(|i| ResBlock::load(&stage.scope(i), width, dims)).collect()
        };
        let factor = Self::patch(config).iter().product::<usize>();
        let doubling = if config.temporal_upsample { 3 } else { 2 };
        Ok(Self {
            initial_conv: conv(w, "initial_conv", [channels, width], dims)?,
            initial_norm: w.group_norm("initial_norm", GROUPS, width, NORM_EPS)?,
            res_blocks: blocks("res_blocks")?,
            upsampler: conv(&w.scope("upsampler"), "0", [width, factor * width], doubling)?,
            post_upsample_res_blocks: blocks("post_upsample_res_blocks")?,
            final_conv: conv(w, "final_conv", [width, channels], dims)?,
            config: config.clone(),
            second_pass: SecondPass::default(),
        })
    }

    /// With this pass after it.
    #[must_use]
    pub fn followed_by(self, second_pass: SecondPass) -> Self {
        Self { second_pass, ..self }
    }

    /// By how much time, height and width grow.
    fn patch(config: &UpsamplerConfig) -> [usize; 3] {
        let [time, space] = [config.temporal_upsample, config.spatial_upsample].map(|doubles| if doubles { 2 } else { 1 });
        [time, space, space]
    }

    /// Latents `[B, F, H, W, C]` → larger ones.
    fn forward<'p>(&self, plan: &'p Plan, x: Tensor<'p>) -> Tensor<'p> {
        let &[clips, frames, ..] = x.shape().dims() else {
            plan.fail("latent_upsampler", "[B, F, H, W, C]", x.shape().to_string());
            return x;
        };
        let batch = if self.config.dims == 3 { clips } else { clips * frames };
        let stage = |name: &str, blocks: &[ResBlock], x: Tensor<'p>| {
            blocks.iter().enumerate().fold(x, |x, (i, block)| plan.scope(format!("{name}.{i}"), || block.forward(x, batch)))
        };
        let x = self.initial_norm.forward(self.initial_conv.forward(x), batch).silu();
        let x = stage("res_blocks", &self.res_blocks, x);
        let x = plan.scope("upsampler", || self.upsampler.forward(x));
        let mut x = x.pixel_shuffle_3d(Self::patch(&self.config), PatchOrder::TimeHeightWidth);
        if self.config.temporal_upsample {
            // The first frame stands for one frame of the clip, and so does what it becomes.
            x = x.slice_frames(1, 2 * frames - 1);
        }
        self.final_conv.forward(stage("post_upsample_res_blocks", &self.post_upsample_res_blocks, x))
    }
}

/// `kinora.second_pass` of `model_index.json`: what follows the upsampler, with the values of the 0.9.8 distilled models.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecondPass {
    /// Levels of noise, falling.
    pub sigmas: Vec<f32>,
    /// How far each channel takes over mean and deviation that it had before (`adain_factor` of the reference).
    pub adain_factor: f32,
    /// How far large values are compressed, from 0 to 1.
    pub tone_map_compression_ratio: f32,
}

impl Default for SecondPass {
    fn default() -> Self {
        Self { sigmas: vec![0.9094, 0.7250, 0.4219], adain_factor: 1.0, tone_map_compression_ratio: 0.0 }
    }
}

/// The `kinora` object, as far as it is about the upsampler.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extensions {
    second_pass: SecondPass,
}

impl SecondPass {
    /// What `index` says.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::Error::InvalidConfig).
    pub fn of(index: &Index) -> Result<Self> {
        let Extensions { second_pass } = index.kinora()?;
        let falls = second_pass.sigmas.windows(2).all(|pair| pair[0] > pair[1]);
        if second_pass.sigmas.is_empty() || !falls || !second_pass.sigmas.iter().all(|sigma| *sigma > 0.0 && *sigma <= 1.0) {
            let problem = format!("`kinora.second_pass.sigmas`: expected levels that fall from at most 1, found {:?}", second_pass.sigmas);
            return Err(index.invalid(problem));
        }
        let found = [second_pass.adain_factor, second_pass.tone_map_compression_ratio];
        if !found.iter().all(|share| (0.0..=1.0).contains(share)) {
            let names = "`kinora.second_pass.adain_factor` and `tone_map_compression_ratio`";
            return Err(index.invalid(format!("{names}: expected 0 to 1, found {found:?}")));
        }
        Ok(second_pass)
    }

    /// `adain_filter_latent` of the reference, which compares all frames of a channel.
    fn adapt(&self, larger: &mut [f32], smaller: &[f32], channels: usize) {
        for channel in 0..channels {
            let of = |values: &[f32]| moments(values.iter().skip(channel).step_by(channels));
            let ([mean, deviation], [wanted_mean, wanted_deviation]) = (of(larger), of(smaller));
            for x in larger.iter_mut().skip(channel).step_by(channels) {
                let adapted = (f64::from(*x) - mean) / deviation * wanted_deviation + wanted_mean;
                *x += self.adain_factor * (adapted as f32 - *x);
            }
        }
    }

    /// `tone_map_latents` of the reference.
    fn compress(&self, latents: &mut [f32]) {
        let scale = 0.75 * self.tone_map_compression_ratio;
        for x in latents {
            let large = 1.0 / (1.0 + (-4.0 * scale * (x.abs() - 1.0)).exp());
            *x *= 1.0 - 0.8 * scale * large;
        }
    }
}

/// Mean and deviation of a sample.
fn moments<'a>(values: impl Iterator<Item = &'a f32> + Clone) -> [f64; 2] {
    let count = values.clone().count() as f64;
    let mean = values.clone().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = values.map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
    [mean, (squares / (count - 1.0)).sqrt()]
}

impl LatentStage for LatentUpsampler {
    fn doubles(&self) -> Doubles {
        if self.config.temporal_upsample { Doubles::Frames } else { Doubles::Pixels }
    }

    fn latent_channels(&self) -> usize {
        self.config.in_channels
    }

    fn sigmas(&self) -> &[f32] {
        &self.second_pass.sigmas
    }

    fn settle(&self, larger: &mut [f32], smaller: &[f32]) {
        if self.second_pass.adain_factor > 0.0 {
            self.second_pass.adapt(larger, smaller, self.config.in_channels);
        }
        if self.second_pass.tone_map_compression_ratio > 0.0 {
            self.second_pass.compress(larger);
        }
    }

    fn record<'p>(&self, plan: &'p Plan, latents: Tensor<'p>) -> Tensor<'p> {
        self.forward(plan, latents)
    }
}

impl Evaluate for LatentUpsampler {
    fn operations(&self) -> &'static [&'static str] {
        &["forward"]
    }

    /// `LTXLatentUpsamplerModel.forward`.
    fn evaluate(&self, _: &str, inputs: &Inputs<'_>) -> Result<Evaluation> {
        inputs.only(&["hidden_states"])?;
        let (view, extents) = inputs.ranked("hidden_states", "[B, C, F, H, W]")?;
        let [batch, channels, f, h, w] = extents;
        view.expect_shape(&[batch, self.config.in_channels, f, h, w])?;
        let plan = Plan::new();
        let sample = self.forward(&plan, plan.input("hidden_states", &[batch, f, h, w, channels], Cadence::Once));
        let shape = sample.shape();
        plan.output("sample", sample);
        let d = shape.dims();
        let made = [batch, channels, d[1], d[2], d[3]];
        let run = Run::new(plan.finish()?).write("hidden_states", batched(&view.to_f32(), extents, channels_last));
        let finish =
            move |values: Vec<f32>| vec![Output { name: "sample", shape: made.to_vec(), values: batched(&values, made, channels_first) }];
        Ok(run.output_with("sample", finish).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second_pass(json: &str) -> Result<SecondPass> {
        SecondPass::of(&Index::parse(&format!(r#"{{"kinora": {{"second_pass": {json}}}}}"#), "model_index.json")?)
    }

    #[test]
    fn levels_that_do_not_fall_are_refused() {
        assert_eq!(SecondPass::of(&Index::default()).expect("nothing said"), SecondPass::default(), "by default");
        assert_eq!(second_pass(r#"{"sigmas": [0.5]}"#).expect("valid").adain_factor, 1.0, "what is left out");
        for (json, expected) in [
            (r#"{"sigmas": []}"#, "found []"),
            (r#"{"sigmas": [0.5, 0.5]}"#, "found [0.5, 0.5]"),
            (r#"{"sigmas": [1.5]}"#, "from at most 1"),
            (r#"{"adain_factor": 2}"#, "expected 0 to 1, found [2.0, 0.0]"),
            (r#"{"sigma": [1]}"#, "unknown field `sigma`"),
        ] {
            let error = second_pass(json).expect_err(json).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

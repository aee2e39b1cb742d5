//! `AutoencoderKLLTXVideo.encode` and `.decode`.

use kinora_kernels::{Cadence, Device, Executable, Plan};

use super::{Inputs, Output, finite, wrong_shape};
use crate::error::{Error, Result};
use crate::models::ltx::Vae;
use crate::models::ltx::tokens::{channels_first, channels_last};
use crate::nn::embed::TIMESTEP_FEATURES;

/// Frames `x [B, 3, F, H, W]` → `mean` and `logvar` `[B, C, F', H', W']`.
pub(super) async fn encode(model: &Vae, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&["x"])?;
    let (x, extents) = inputs.ranked("x", "[B, C, F, H, W]")?;
    let [batch, _, f, h, w] = extents;
    let config = &model.config;
    x.expect_shape(&[batch, config.in_channels, f, h, w])?;
    let (time, space) = (config.temporal_compression(), config.spatial_compression());
    if (f - 1) % time != 0 || h % space != 0 || w % space != 0 {
        return Err(wrong_shape(&x, &format!("1 + {time}·n frames, height and width multiples of {space}")));
    }
    let plan = Plan::new();
    let frames = plan.input("x", &[batch, f, h, w, config.in_channels], Cadence::Once);
    let moments = model.encoder.forward(&plan, frames);
    let shape = moments.shape();
    plan.output("moments", moments);

    let mut run = Executable::new(device, plan.finish()?)?;
    run.write("x", &batched(&x.to_f32(), extents, channels_last))?;
    run.run().await?;
    let moments = finite(&mut run, "moments").await?;
    let (c, d) = (config.latent_channels, shape.dims());
    let extents = [batch, c, d[1], d[2], d[3]];
    let mean: Vec<f32> = moments.chunks_exact(c + 1).flat_map(|m| m[..c].iter().copied()).collect();
    // One log variance for all channels, clamped as in the reference's distribution.
    let logvar: Vec<f32> = moments.chunks_exact(c + 1).flat_map(|m| std::iter::repeat_n(m[c].clamp(-30.0, 20.0), c)).collect();
    let output = |name, values: &[f32]| Output { name, shape: extents.to_vec(), values: batched(values, extents, channels_first) };
    Ok(vec![output("mean", &mean), output("logvar", &logvar)])
}

/// Latents `z [B, C, F, H, W]`, and the noise level `temb [B]` if the decoder is conditioned on it, → `sample`
/// `[B, 3, F', H', W']`.
pub(super) async fn decode(model: &Vae, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&["z", "temb"])?;
    let (z, extents) = inputs.ranked("z", "[B, C, F, H, W]")?;
    let [batch, _, f, h, w] = extents;
    let channels = model.config.latent_channels;
    z.expect_shape(&[batch, channels, f, h, w])?;
    let features = match inputs.optional("temb", &[batch])? {
        Some(levels) => model.decoder.timestep_features(&levels),
        None if model.config.timestep_conditioning => {
            return Err(Error::InvalidRequest {
                parameter: "temb".into(),
                found: "none".into(),
                expected: "the noise level of each batch entry, since the decoder is conditioned on it".into(),
            });
        }
        None => None,
    };
    let plan = Plan::new();
    let latents = plan.input("z", &[batch, f, h, w, channels], Cadence::Once);
    let features = features.map(|values| plan.constant(&[batch, TIMESTEP_FEATURES], &values));
    let sample = model.decoder.forward(&plan, latents, features);
    let shape = sample.shape();
    plan.output("sample", sample);

    let mut run = Executable::new(device, plan.finish()?)?;
    run.write("z", &batched(&z.to_f32(), extents, channels_last))?;
    run.run().await?;
    let frames = finite(&mut run, "sample").await?;
    let d = shape.dims();
    let extents = [batch, d[4], d[1], d[2], d[3]];
    Ok(vec![Output { name: "sample", shape: extents.to_vec(), values: batched(&frames, extents, channels_first) }])
}

/// Moves the channels of each batch entry.
fn batched(values: &[f32], [_, c, f, h, w]: [usize; 5], convert: fn(&[f32], [usize; 4]) -> Vec<f32>) -> Vec<f32> {
    values.chunks_exact(c * f * h * w).flat_map(|entry| convert(entry, [c, f, h, w])).collect()
}

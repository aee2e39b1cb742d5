//! `rollout` of a causal denoiser: noise to latents block after block through its cache, without a text encoder or an autoencoder.

use kinora_kernels::{CancelToken, Device};

use super::{Inputs, Output, wrong_shape};
use crate::error::Result;
use crate::executables::Executables;
use crate::models::causal::Causal;
use crate::models::family::{Denoiser, Spacing};
use crate::sampling::denoise::rollout::{Branches, Rollout, Words};
use crate::sampling::guidance::Guidance;
use crate::sampling::schedule::Levels;
use crate::sampling::solvers::{SchedulerFile, of_file};
use crate::sampling::tokens::{pack, unpack};

/// Steps of a block where nothing is said, of a schedule with this shift.
const STEPS: usize = 4;
const SHIFT: f64 = 5.0;

/// Seconds and pixels from one latent to the next: nothing causal reads them.
const SPACING: Spacing = Spacing { latent: [1.0; 3], frames: 4 };

/// `latents [B, C, F, H, W]`, the noise of all blocks, and `encoder_hidden_states [B, T, Ct]` → `sample` of the same extents, clean.
///
/// `timesteps [S]` are those of every block, and `first_timesteps` those of the first where it has others; without them there are
/// four, of a shift of 5. `noise [n, B, C, F, H, W]`, `n` being a step less than the longer of the two has, is what is added after
/// each step; without it that is the noise of the block again. `guidance_scale [1]` guides away from `negative_encoder_hidden_states
/// [B, T', Ct]`. Models that are told where a step ends go there without noise.
pub(super) async fn rollout(denoiser: &dyn Denoiser, causal: Causal, inputs: &Inputs<'_>, device: &Device) -> Result<Vec<Output>> {
    inputs.only(&[
        "latents",
        "encoder_hidden_states",
        "negative_encoder_hidden_states",
        "guidance_scale",
        "timesteps",
        "first_timesteps",
        "noise",
    ])?;
    let (latents, [batch, channels, frames, height, width]) = inputs.ranked("latents", "[B, C, F, H, W]")?;
    latents.expect_shape(&[batch, denoiser.latent_channels(), frames, height, width])?;
    let (packing, block) = (denoiser.packing(), causal.block_frames);
    if frames % block != 0 || height % packing[1] != 0 || width % packing[2] != 0 {
        let expected = format!("blocks of {block} frames, height and width in multiples of {:?}", &packing[1..]);
        return Err(wrong_shape(&latents, &expected));
    }
    let (text, [_, rows, _]) = inputs.ranked("encoder_hidden_states", "[B, T, C]")?;
    text.expect_shape(&[batch, rows, denoiser.text_channels()])?;
    let guidance = Guidance::from(inputs.optional("guidance_scale", &[1])?.map_or(1.0, |scale| scale[0]));
    let mut text_rows = vec![rows];
    let mut texts = vec![text.to_f32()];
    if !guidance.is_off() {
        let (negative, [_, rows, _]) = inputs.ranked("negative_encoder_hidden_states", "[B, T, C]")?;
        negative.expect_shape(&[batch, rows, denoiser.text_channels()])?;
        text_rows.push(rows);
        texts.push(negative.to_f32());
    }

    let class = if denoiser.is_told_ends() { "FlowMapEulerDiscreteScheduler" } else { "DMDScheduler" };
    let file = SchedulerFile::from_json(format!(r#"{{"_class_name": "{class}"}}"#).as_bytes(), "timesteps")?;
    let schedule = |name: &str| {
        if !inputs.contains(name) {
            return of_file(&file.with_shift(SHIFT))?.schedule(&Levels::Steps(STEPS), None);
        }
        let (view, _) = inputs.ranked::<1>(name, "[S]")?;
        of_file(&file)?.schedule(&Levels::Timesteps(view.to_f32()), None)
    };
    let solver = of_file(&file)?;
    let later = schedule("timesteps")?;
    let first = if inputs.contains("first_timesteps") { schedule("first_timesteps")? } else { later.clone() };
    let most = first.num_steps().max(later.num_steps());
    let fresh = inputs.optional("noise", &[most - 1, batch, channels, frames, height, width])?;

    let grid = [height / packing[1], width / packing[2]];
    let own = [channels, block, height, width];
    let area = height * width;
    // The block at `frame` of a clip, of all clips one after another.
    let part = |values: &[f32], clip: usize, frame: usize| -> Vec<f32> {
        let start = |channel| ((clip * channels + channel) * frames + frame) * area;
        let latents: Vec<f32> = (0..channels).flat_map(|channel| &values[start(channel)..][..block * area]).copied().collect();
        pack(&latents, own, packing)
    };
    let (noise, mut sample) = (latents.to_f32(), vec![0.0; batch * channels * frames * area]);
    let (executables, cancel) = (Executables::default(), CancelToken::default());
    for clip in 0..batch {
        let branches = Branches { text_rows: text_rows.clone(), guided_channels: channels * packing.iter().product::<usize>() };
        let own_texts: Vec<&[f32]> = texts.iter().map(|states| states.chunks(states.len() / batch).nth(clip).unwrap_or(&[])).collect();
        let words = Words { texts: &own_texts, guidance };
        let Some(rollout) = Rollout::new(denoiser, solver.as_ref(), [&first, &later], grid, branches, SPACING) else { break };
        let mut running = rollout.start((device, &executables), &cancel)?;
        for frame in (0..frames).step_by(block) {
            let start = part(&noise, clip, frame);
            let added = &mut |step: usize| match &fresh {
                Some(fresh) => part(&fresh[step * noise.len()..][..noise.len()], clip, frame),
                None => start.clone(),
            };
            let tokens = rollout.block(&mut running, &words, &start, added, &mut async |_| Ok(())).await?;
            for (channel, values) in unpack(&tokens, own, packing).chunks_exact(block * area).enumerate() {
                sample[((clip * channels + channel) * frames + frame) * area..][..values.len()].copy_from_slice(values);
            }
        }
        running.end(&executables);
    }
    Ok(vec![Output { name: "sample", shape: vec![batch, channels, frames, height, width], values: sample }])
}

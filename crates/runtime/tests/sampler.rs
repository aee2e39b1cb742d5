//! The denoising loop against the loop of `LTXPipeline` in PyTorch: same noise, same tiny model.

mod support;

use kinora_kernels::{CancelToken, WeightFormat};
use kinora_runtime::conditioning::{CLEAN, PURE_NOISE};
use kinora_runtime::models::Model;
use kinora_runtime::models::ltx::tokens::{pack, unpack};
use kinora_runtime::sampling::denoise::{Denoise, Sequence, TextStates};
use kinora_runtime::sampling::schedule::{Levels, ScheduleConfig};
use kinora_runtime::weights::Checkpoint;
use serde_json::Value;
use support::{devices, golden, nmse};

/// Text states of each clip of a batch.
fn texts(inputs: &Checkpoint, name: &str) -> Vec<TextStates> {
    let states = inputs.get(&format!("{name}_embeds")).expect("embeddings");
    let mask = inputs.get(&format!("{name}_attention_mask")).expect("a mask");
    let (batch, values, mask) = (states.shape[0], states.to_f32(), mask.to_f32());
    let split = |all: &[f32]| all.chunks_exact(all.len() / batch).map(<[f32]>::to_vec).collect::<Vec<_>>();
    split(&values).into_iter().zip(split(&mask)).map(|(states, mask)| TextStates { states, mask }).collect()
}

#[test]
fn denoising_runs_match_the_reference() {
    let folder = golden().join("sampler");
    let json = std::fs::read_to_string(folder.join("runs.json")).expect("the description of the runs");
    let described: Value = serde_json::from_str(&json).expect("JSON");
    let model_folder = golden().join(described["model"].as_str().expect("a folder"));
    let Model::LtxTransformer(transformer) = Model::open(&model_folder, WeightFormat::F32).expect("a model") else {
        panic!("the sampler fixture runs a transformer");
    };
    let config = ScheduleConfig::from_json(described["scheduler"].to_string().as_bytes(), "runs.json").expect("a schedule");
    let scale: Vec<f32> = serde_json::from_value(described["rope_interpolation_scale"].clone()).expect("three factors");
    for (name, run) in described["runs"].as_object().expect("runs") {
        let inputs = Checkpoint::open(folder.join(format!("inputs_{name}.safetensors"))).expect("inputs");
        let latents = inputs.get("latents").expect("noise");
        let &[batch, c, f, h, w] = latents.shape else { panic!("latents [B, C, F, H, W]") };
        let guidance = run["guidance"].as_f64().expect("a number") as f32;
        let first_frame = run["first_frame"].as_bool().expect("a flag");
        let schedule = config.schedule(&Levels::ramp(run["steps"].as_u64().expect("a count") as usize), run["mu"].as_f64()).expect("valid");
        let negatives = if guidance == 1.0 { Vec::new() } else { texts(&inputs, "negative") };
        // Tokens are single latents here.
        let pack_clip = |values: &[f32]| pack(values, [c, f, h, w], [1; 3]);
        let noise: Vec<u16> = (0..f * h * w).map(|row| if first_frame && row < h * w { CLEAN } else { PURE_NOISE }).collect();
        let mut clips: Vec<Vec<f32>> = latents.to_f32().chunks_exact(c * f * h * w).map(pack_clip).collect();
        if first_frame {
            let images = inputs.get("image_latents").expect("the given frame").to_f32();
            for (clip, image) in clips.iter_mut().zip(images.chunks_exact(c * f * h * w).map(pack_clip)) {
                clip[..h * w * c].copy_from_slice(&image[..h * w * c]);
            }
        }
        let rope = transformer.rope([f, h, w], Some([scale[0], scale[1], scale[2]]));
        let prompts = texts(&inputs, "prompt");
        let sequences: Vec<Sequence<'_>> = (0..batch)
            .map(|i| Sequence {
                prompt: &prompts[i],
                negative: negatives.get(i),
                guidance: guidance.into(),
                schedule: &schedule,
                rope: &rope,
                coordinates: &[],
                noise: &noise,
            })
            .collect();
        let denoise = Denoise { transformer: &transformer, sequences: &sequences, guided_channels: c, predict_every: 0 };
        let tokens = clips.concat();
        let expected = Checkpoint::open(folder.join(format!("expected_{name}.safetensors"))).expect("results");
        let expected = expected.f32("latents", &[batch, c, f, h, w]).expect("final latents");
        for (device_name, device, _) in devices() {
            let found = pollster::block_on(denoise.run(device, &tokens, &CancelToken::default(), &mut async |_| Ok(()))).expect("runs");
            let found: Vec<f32> = found.into_iter().flat_map(|clip| unpack(&clip.expect("finite"), [c, f, h, w], [1; 3])).collect();
            let error = nmse(&found, &expected);
            println!("{name} on {device_name}: NMSE {error:.2e}");
            assert!(error <= 1e-6, "{name} on {device_name}: NMSE {error:.2e}");
        }
    }
}

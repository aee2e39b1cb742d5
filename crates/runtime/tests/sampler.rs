//! The denoising loop against the loop of `LTXPipeline` in PyTorch: same noise, same tiny model.

mod support;

use kinora_kernels::{CancelToken, WeightFormat};
use kinora_runtime::executables::Executables;
use kinora_runtime::models::component::Component;
use kinora_runtime::models::family::Spacing;
use kinora_runtime::sampling::denoise::{Denoise, Expert, Sequence};
use kinora_runtime::sampling::guidance::{Curve, Guidance};
use kinora_runtime::sampling::noise::add_sources;
use kinora_runtime::sampling::schedule::Levels;
use kinora_runtime::sampling::solvers::{SchedulerFile, of_file};
use kinora_runtime::sampling::tokens::{pack, unpack};
use kinora_runtime::weights::Checkpoint;
use serde_json::Value;
use support::{devices, golden, nmse};

/// Text states of each clip of a batch, without those that are masked.
fn texts(inputs: &Checkpoint, name: &str) -> Vec<Vec<f32>> {
    let states = inputs.get(&format!("{name}_embeds")).expect("embeddings");
    let mask = inputs.get(&format!("{name}_attention_mask")).expect("a mask");
    let (batch, values, mask) = (states.shape[0], states.to_f32(), mask.to_f32());
    let split = |all: &[f32]| all.chunks_exact(all.len() / batch).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let kept = |states: &[f32], mask: &[f32]| {
        let rows = states.chunks_exact(states.len() / mask.len()).zip(mask);
        rows.filter(|(_, mask)| **mask == 1.0).flat_map(|(row, _)| row.iter().copied()).collect()
    };
    split(&values).iter().zip(split(&mask)).map(|(states, mask)| kept(states, &mask)).collect()
}

fn guidance(run: &Value) -> Guidance {
    Guidance {
        scale: run["guidance"].as_f64().expect("a number") as f32,
        curve: match run["curve"].as_str().expect("a name") {
            "constant" => Curve::Constant,
            "linear" => Curve::Linear,
            "power-cosine" => Curve::PowerCosine { power: 4.0 },
            other => panic!("unknown curve {other}"),
        },
        interval: serde_json::from_value(run["interval"].clone()).expect("two bounds"),
        channels: serde_json::from_value(run["channels"].clone()).expect("a count or none"),
        rescale: run["rescale"].as_f64().unwrap_or_default() as f32,
    }
}

#[test]
fn denoising_runs_match_the_reference() {
    let folder = golden().join("sampler");
    let json = std::fs::read_to_string(folder.join("runs.json")).expect("the description of the runs");
    let described: Value = serde_json::from_str(&json).expect("JSON");
    let model_folder = golden().join(described["model"].as_str().expect("a folder"));
    let Component::Denoiser(denoiser) = Component::open(&model_folder, WeightFormat::F32).expect("a model") else {
        panic!("the sampler fixture runs a transformer");
    };
    let experts = [Expert { denoiser, lowest_timestep: 0.0 }];
    let scheduler = SchedulerFile::from_json(described["scheduler"].to_string().as_bytes(), "runs.json").expect("a configuration");
    let solver = of_file(&scheduler).expect("a solver");
    let scale: Vec<f32> = serde_json::from_value(described["rope_interpolation_scale"].clone()).expect("three factors");
    for (name, run) in described["runs"].as_object().expect("runs") {
        let inputs = Checkpoint::open(folder.join(format!("inputs_{name}.safetensors"))).expect("inputs");
        let latents = inputs.get("latents").expect("noise");
        let &[batch, c, f, h, w] = latents.shape else { panic!("latents [B, C, F, H, W]") };
        let guidance = guidance(run);
        let schedule = solver.schedule(&Levels::ramp(run["steps"].as_u64().expect("a count") as usize), run["mu"].as_f64()).expect("valid");
        let negatives = if guidance.is_off() { Vec::new() } else { texts(&inputs, "negative") };
        // Tokens are single latents here.
        let pack_clip = |values: &[f32]| pack(values, [c, f, h, w], [1; 3]);
        // One number for each latent frame, or for each token.
        let levels: Vec<u16> = serde_json::from_value(run["noise"].clone()).expect("thousandths");
        let noise: Vec<u16> = (0..f * h * w).map(|row| levels[row * levels.len() / (f * h * w)]).collect();
        let mut clips: Vec<Vec<f32>> = latents.to_f32().chunks_exact(c * f * h * w).map(pack_clip).collect();
        if let Ok(images) = inputs.get("image_latents") {
            for (clip, image) in clips.iter_mut().zip(images.to_f32().chunks_exact(c * f * h * w).map(pack_clip)) {
                add_sources(clip, &image, &noise, |thousandths| schedule.starting_level(thousandths));
            }
        }
        let prompts = texts(&inputs, "prompt");
        let sequences: Vec<Sequence<'_>> = (0..batch)
            .map(|i| Sequence {
                prompt: &prompts[i],
                negative: negatives.get(i).map(Vec::as_slice),
                guidance,
                schedule: &schedule,
                solver: solver.as_ref(),
                seed: 0,
                grid: [f, h, w],
                beside: &[],
                noise: &noise,
                features: &[],
                pictures: &[],
            })
            .collect();
        let guided_channels = guidance.channels.unwrap_or(c);
        let spacing = Spacing { latent: [scale[0], scale[1], scale[2]], frames: 1 };
        let denoise = Denoise {
            experts: &experts,
            sequences: &sequences,
            spacing,
            guided_channels,
            conditioning_scale: None,
            step_cache: None,
            predict_every: 0,
        };
        let tokens = clips.concat();
        let expected = Checkpoint::open(folder.join(format!("expected_{name}.safetensors"))).expect("results");
        let expected = expected.f32("latents", &[batch, c, f, h, w]).expect("final latents");
        for (device_name, device, _) in devices() {
            let found =
                pollster::block_on(denoise.run((device, &Executables::default()), &tokens, &CancelToken::default(), &mut async |_| Ok(())))
                    .expect("runs");
            let found: Vec<f32> = found.into_iter().flat_map(|clip| unpack(&clip.expect("finite"), [c, f, h, w], [1; 3])).collect();
            let error = nmse(&found, &expected);
            println!("{name} on {device_name}: NMSE {error:.2e}");
            assert!(error <= 1e-6, "{name} on {device_name}: NMSE {error:.2e}");
        }
    }
}

//! What must hold of the models whatever their weights: packing changes nothing, masked text is absent text, the
//! causal encoder does not see the future. And what must be the same on every target.

#[path = "../../kernels/tests/support/body.rs"]
#[allow(dead_code, reason = "of the kernel tests only the plans are needed")]
mod body;
#[path = "../../kernels/tests/support/cases.rs"]
mod cases;
mod support;

use std::path::Path;

use kinora_kernels::{Cadence, Device, Executable, Graph, Plan, WeightFormat};
use kinora_runtime::VideoPipeline;
use kinora_runtime::models::ltx::{TokenLayout, Transformer, TransformerInputs, Vae};
use kinora_runtime::nn::embed::{TIMESTEP_FEATURES, timestep_features};
use support::{devices, everywhere, ltx_transformer, ltx_vae, nmse};

fn transformer() -> Transformer {
    ltx_transformer("two_layers", |_| {}).expect("a valid fixture")
}

/// Values that look random and differ by `seed`.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32).map(|i| ((i * 37 + seed * 101 + 13) as f32 * 0.618).sin()).collect()
}

const GRID: [usize; 3] = [1, 2, 3];
const TOKENS: usize = 6;

/// One pass over packed sequences with these text lengths, the same video tokens in each; two timesteps alternate.
fn velocity(model: &Transformer, device: &Device, text: &[(usize, u32)], mask: Option<&[f32]>) -> Vec<f32> {
    let (config, sequences) = (model.config(), text.len());
    let (rows, text_rows) = (sequences * TOKENS, text.iter().map(|(n, _)| n).sum());
    let plan = Plan::new();
    let rope = model.rope(GRID, Some([0.32, 32.0, 32.0]));
    let sample = model.forward(
        &plan,
        &TransformerInputs {
            hidden_states: plan.input("tokens", &[rows, config.in_channels], Cadence::EveryStep),
            encoder_hidden_states: plan.input("text", &[text_rows, config.caption_channels], Cadence::Once),
            encoder_mask: mask.map(|mask| plan.constant(&[text_rows], mask)),
            timestep_features: plan.constant(&[2, TIMESTEP_FEATURES], &timestep_features(&[875.0, 125.0])),
            timestep_index: plan.index_input("index", rows, Cadence::EveryStep),
            rope: plan.constant(&[TOKENS, config.width()], &rope),
            layout: TokenLayout { video: vec![TOKENS; sequences], text: text.iter().map(|(n, _)| *n).collect() },
        },
    );
    plan.output("sample", sample);
    let mut run = Executable::new(device, plan.finish().expect("shapes fit")).expect("the device runs it");
    let states: Vec<f32> = text.iter().flat_map(|(n, seed)| noise(n * config.caption_channels, *seed)).collect();
    run.write("tokens", &noise(TOKENS * config.in_channels, 1).repeat(sequences)).expect("declared");
    run.write("text", &states).expect("declared");
    run.write_indices("index", &(0..rows as u32).map(|r| r % 2).collect::<Vec<_>>()).expect("declared");
    pollster::block_on(async {
        run.run().await?;
        run.read("sample").await
    })
    .expect("runs")
}

#[test]
fn packed_sequences_are_those_run_alone() {
    let model = transformer();
    for (name, device, _) in devices() {
        let packed = velocity(&model, device, &[(4, 7), (1, 8)], None);
        let alone: Vec<f32> = [(4, 7), (1, 8)].iter().flat_map(|text| velocity(&model, device, &[*text], None)).collect();
        let error = nmse(&packed, &alone);
        assert!(error <= 1e-12, "{name}: NMSE {error:.2e}");
        assert!(nmse(&alone[..TOKENS * 8], &alone[TOKENS * 8..]) > 1e-6, "the two texts matter");
    }
}

#[test]
fn masked_text_is_absent_text() {
    let model = transformer();
    for (name, device, _) in devices() {
        let mask = [0.0, 0.0, -10_000.0, -10_000.0, -10_000.0];
        let error = nmse(&velocity(&model, device, &[(5, 7)], Some(&mask)), &velocity(&model, device, &[(2, 7)], None));
        assert!(error <= 1e-12, "{name}: NMSE {error:.2e}");
    }
}

/// Encodes nine frames, of which those from `changed` on are other ones.
fn moments(vae: &Vae, device: &Device, changed: usize) -> Vec<f32> {
    let frame = 16 * 8 * 3;
    let frames: Vec<f32> = (0..9).flat_map(|f| noise(frame, if f < changed { f as u32 } else { 100 + f as u32 })).collect();
    let plan = Plan::new();
    plan.output("moments", vae.encoder.forward(&plan, plan.input("x", &[1, 9, 16, 8, 3], Cadence::Once)));
    let mut run = Executable::new(device, plan.finish().expect("shapes fit")).expect("the device runs it");
    run.write("x", &frames).expect("declared");
    pollster::block_on(async {
        run.run().await?;
        run.read("moments").await
    })
    .expect("runs")
}

#[test]
fn a_causal_encoder_does_not_see_the_future() {
    for (name, device, _) in devices() {
        for (folder, causal) in [("v090", true), ("v095", true), ("v090_causal_decoder", false)] {
            let vae = ltx_vae(folder);
            assert_eq!(vae.config.encoder_causal, causal, "{folder} is what the test takes it for");
            // Latent 0 is frame 0; the next latent covers at least frames 1 and 2.
            let (before, after) = (moments(&vae, device, 9), moments(&vae, device, 1));
            let latent = before.len() / (1 + 8 / vae.config.temporal_compression());
            assert_eq!(before[..latent] == after[..latent], causal, "{folder} on {name}: the first latent");
            assert!(before[latent..] != after[latent..], "{folder} on {name}: the later ones differ");
        }
    }
}

/// Hashes of noise and plans, which `web/test/bodies.test.mjs` compares with those of a browser.
#[test]
fn noise_and_plans_are_those_that_browsers_are_compared_with() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let model = VideoPipeline::load(Device::cpu(), &tests.join("tiny-model"), WeightFormat::F32).expect("the model of the tests");
    let cases = cases::cases();
    let graphs: Vec<&Graph> = cases.iter().map(|case| &case.graph).collect();
    let found = everywhere::lines(&graphs, &model).unwrap_or_else(|problem| panic!("{problem}")).join("\n") + "\n";
    if std::env::var_os("KINORA_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(tests.join("everywhere.tsv"), &found).expect("the folder of the tests is writable");
    }
    let expected = std::fs::read_to_string(tests.join("everywhere.tsv")).expect("the committed file");
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "{differs:?}; review, and accept with KINORA_UPDATE_SNAPSHOTS=1");
}
